/** Says that a long run or batch has ended while its panel was not seen. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Notification } from "@jupyterlab/apputils";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ITranslator } from "@jupyterlab/translation";
import { formatDuration } from "../src/format.ts";
import type { End } from "../src/state/overview.ts";
import { isSeen, secondsOf } from "./ends.ts";
import { liveOf } from "./live_of.ts";
import { openBatch, openRun } from "./open.ts";
import { SHOW_SIDEBAR } from "./sidebar.ts";
import { trans, translate } from "./words.ts";

const ID = "comfydeploy-jupyter:notifications";
const SHOWN_FOR = 15_000; // ms
const MOST = 100; // characters of a reason
const MOST_ENDS = 3; // that are told one by one, after the page was away for example

type Options = { enabled: boolean; seconds: number; browser: boolean };

function textOf(end: End): string {
  const what = end.kind === "batch" ? trans.__("The batch") : trans.__("The run");
  const name = end.title ? `${what} “${end.title}”` : what;
  const how =
    end.status === "success"
      ? trans.__("is done")
      : end.status === "failed"
        ? trans.__("has failed")
        : trans.__("was cancelled");
  const text = `${name} ${how} (${formatDuration(secondsOf(end))})`;
  return end.status === "failed" && end.why ? `${text}: ${end.why.slice(0, MOST)}` : text;
}

export const notifications: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Notifications when long runs and batches of ComfyUI end.",
  autoStart: true,
  optional: [ISettingRegistry, ITranslator],
  activate(
    app: JupyterFrontEnd,
    registry: ISettingRegistry | null,
    translator: ITranslator | null,
  ) {
    translate(translator);
    const options: Options = { enabled: true, seconds: 30, browser: true };
    registry?.load(ID).then(
      (settings) => {
        const read = () => {
          Object.assign(options, settings.composite);
        };
        settings.changed.connect(read);
        read();
      },
      () => {}, // without settings, these are the defaults
    );
    /** Tell of one or several ends. */
    const show = (
      text: string,
      kind: "success" | "error" | "info",
      tag: string,
      open: () => void,
    ) => {
      const { Notification: OfBrowser } = globalThis;
      const actions = [{ label: trans.__("Show"), callback: open }];
      if (options.browser && OfBrowser?.permission === "default") {
        // browsers let a page ask only while the user does something
        const callback = () => void OfBrowser.requestPermission();
        actions.push({ label: trans.__("Tell me outside the page, too"), callback });
      }
      Notification.emit(text, kind, { autoClose: document.hidden ? false : SHOWN_FOR, actions });
      if (options.browser && document.hidden && OfBrowser?.permission === "granted") {
        const shown = new OfBrowser("ComfyUI", { body: text, tag });
        shown.onclick = () => {
          focus();
          open();
          shown.close();
        };
      }
    };
    liveOf(app).onEnds((ends) => {
      if (!options.enabled) return;
      const told = ends.filter((end) => secondsOf(end) >= options.seconds && !isSeen(end.id));
      const failed = told.filter(({ status }) => status === "failed").length;
      if (told.length > MOST_ENDS) {
        const ended = trans.__("%1 runs and batches have ended", told.length);
        const text = failed ? trans.__("%1, %2 have failed", ended, failed) : ended;
        return show(text, failed ? "error" : "info", "comfydeploy-ends", () => {
          void app.commands.execute(SHOW_SIDEBAR);
        });
      }
      for (const end of told) {
        const { id, kind, status, title } = end;
        const how = status === "success" ? "success" : status === "failed" ? "error" : "info";
        show(textOf(end), how, id, () => {
          void (kind === "run" ? openRun(app, id) : openBatch(app, id, title));
        });
      }
    });
  },
};
