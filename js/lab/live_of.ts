/** The connection of the page, which all places share. */

import type { JupyterFrontEnd } from "@jupyterlab/application";
import { Live } from "./live.ts";
import { NO_SERVER, trans } from "./words.ts";

let found: Live | undefined;

/** Return that of the page, which connects once JupyterLab has its layout. */
export function liveOf(app: JupyterFrontEnd): Live {
  if (!found) {
    const live = new Live({
      away: trans.__("The Jupyter server does not answer; what is shown may be old."),
      offline: trans.__("The browser is offline; what is shown may be old."),
      signedOut: trans.__("You are signed out of Jupyter: sign in again."),
      missing: NO_SERVER(),
      blocked: trans.__(
        "The Jupyter server answers, but opens no WebSocket: a proxy in front of it may forbid that.",
      ),
    });
    found = live;
    void app.restored.then(() => live.start());
  }
  return found;
}
