/** Says what went wrong where no panel can. */

import { Notification, showErrorMessage } from "@jupyterlab/apputils";
import { messageOf } from "../src/format.ts";
import { trans } from "./words.ts";

const LONGEST = 140; // characters of a notification; JupyterLab cuts it off there

/** Show an error until it is dismissed; without `autoClose` JupyterLab would only count it. */
export function tell(error: unknown): void {
  const text = messageOf(error).replace(/^machine: /, ""); // a field that no user has filled in
  const callback = () => void showErrorMessage("ComfyUI", text);
  const actions = text.length > LONGEST ? [{ label: trans.__("Show all of it"), callback }] : [];
  Notification.error(text, { autoClose: false, actions });
}
