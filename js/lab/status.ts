/** The status bar: the progress, the queue, and that ComfyUI is down. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IStatusBar } from "@jupyterlab/statusbar";
import { ITranslator } from "@jupyterlab/translation";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";
import { Widget } from "@lumino/widgets";
import { h } from "../src/dom.ts";
import { type Known, openRuns, whyDefaultIsDown } from "../src/state/overview.ts";
import { liveOf } from "./live_of.ts";
import { SHOW_SIDEBAR } from "./sidebar.ts";
import { trans, translate } from "./words.ts";

const CAN_START = ["backoff", "failed", "stopped"];
const MOST = 60; // characters of why ComfyUI is down; the tooltip has all

const CSS = `
.comfydeploy-status { display: flex; align-items: center; gap: 4px; height: 100%; }
.comfydeploy-status button {
  display: flex; align-items: center; gap: 6px; max-width: 340px; height: 100%; padding: 0 6px;
  border: 0; background: none; color: inherit; font: inherit; cursor: pointer;
}
.comfydeploy-status [hidden] { display: none; }
.comfydeploy-status button:hover { background: var(--jp-layout-color3); }
.comfydeploy-status button:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: -2px; }
.comfydeploy-status span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.comfydeploy-status progress {
  width: 60px; height: 6px; appearance: none; border: 0; border-radius: 3px; overflow: hidden;
  background: var(--jp-border-color1);
}
.comfydeploy-status progress::-webkit-progress-bar { background: var(--jp-border-color1); }
.comfydeploy-status progress::-webkit-progress-value { background: var(--jp-brand-color1); }
.comfydeploy-status progress::-moz-progress-bar { background: var(--jp-brand-color1); }
.comfydeploy-status[data-down] span::before { content: "● "; color: var(--jp-warn-color1); }
`;

/** Whether the server starts the ComfyUI of the default machine, which does not run now. */
function canStart({ link, machines }: Known): boolean {
  const [machine] = machines ?? [];
  const isOff = machine?.kind === "managed" && CAN_START.includes(machine.status ?? "");
  return link === "open" && isOff;
}

/** Return what the bar says, its tooltip, and the progress of what runs. */
function said(known: Known): [string, string, number | null] {
  const { link, problem, queue, runs, batches } = known;
  if (link === "missing") return [trans.__("ComfyUI: not installed on the server"), problem, null];
  if (link === "signedOut") return [trans.__("ComfyUI: signed out"), problem, null];
  if (problem) return [trans.__("ComfyUI: no connection"), problem, null];
  if (link === "connecting") return [trans.__("ComfyUI"), trans.__("Connecting …"), null];
  const down = whyDefaultIsDown(known);
  if (down) {
    const text = down.length > MOST ? `${down.slice(0, MOST)} …` : down;
    return [text, down, null];
  }
  if (!openRuns(known)) {
    const stopped = trans.__("The next run starts it.");
    return canStart(known)
      ? [trans.__("ComfyUI: stopped"), stopped, null]
      : [trans.__("ComfyUI: idle"), trans.__("Nothing runs or waits."), null];
  }
  const [first] = runs?.head ?? [];
  const executes = first && first.status !== "queued" && first.status !== "not-started";
  const share = executes ? (first.progress ?? 0) : null;
  const [batch] = batches ?? [];
  const counts = batch?.counts ?? {};
  const done = ["success", "failed", "cancelled"].reduce(
    (sum, each) => sum + (counts[each] ?? 0),
    0,
  );
  const parts = [
    share === null ? "" : `${Math.floor(100 * share)} %`,
    batch ? trans.__("batch %1 of %2", done, batch.total) : "",
    queue?.waiting ? trans.__("%1 waiting", queue.waiting.toLocaleString()) : "",
  ];
  const text = `ComfyUI: ${parts.filter(Boolean).join(" · ")}`;
  return [text, [first?.title, first?.live_status].filter(Boolean).join(": ") || text, share];
}

class StatusItem extends Widget {
  private readonly text = h("span");
  private readonly bar = h("progress", { max: 1 });
  private readonly main: HTMLButtonElement;
  private readonly start: HTMLButtonElement;
  private readonly log: HTMLButtonElement;

  constructor(execute: (command: string, args?: ReadonlyPartialJSONObject) => void) {
    super();
    this.addClass("comfydeploy-status");
    const button = (label: string, onclick: () => void) =>
      h("button", { type: "button", onclick }, label);
    this.main = h(
      "button",
      { type: "button", onclick: () => execute(SHOW_SIDEBAR, { toggles: true }) },
      this.bar,
      this.text,
    );
    this.start = button(trans.__("Start"), () => execute("comfydeploy:start"));
    this.log = button(trans.__("Log"), () => execute("comfydeploy:log"));
    this.text.setAttribute("role", "status");
    this.bar.setAttribute("aria-label", trans.__("Progress of the run"));
    this.node.append(this.main, this.start, this.log);
  }

  show_(known: Known): void {
    const [text, title, share] = said(known);
    const [machine] = known.machines ?? [];
    const isDown = known.link === "open" && whyDefaultIsDown(known) !== "";
    if (this.text.textContent !== text) this.text.textContent = text;
    this.main.title = title;
    this.bar.hidden = share === null;
    this.bar.value = share ?? 0;
    this.start.hidden = !canStart(known);
    this.log.hidden = !(isDown && machine?.kind === "managed");
    this.node.toggleAttribute("data-down", isDown || known.problem !== "");
  }
}

export const status: JupyterFrontEndPlugin<void> = {
  id: "comfydeploy-jupyter:status",
  description: "The progress and the queue of ComfyUI in the status bar.",
  autoStart: true,
  optional: [IStatusBar, ITranslator],
  activate(app: JupyterFrontEnd, bar: IStatusBar | null, translator: ITranslator | null) {
    if (!bar) return;
    translate(translator);
    document.head.append(h("style", {}, CSS));
    const item = new StatusItem((command, args) => {
      void app.commands.execute(command, args);
    });
    liveOf(app).subscribe((known) => item.show_(known));
    bar.registerStatusItem("comfydeploy-jupyter:status", { item, align: "left", rank: 100 });
  },
};
