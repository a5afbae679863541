/** The runs and ComfyUIs in the list of what runs, beside kernels. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IRunningSessionManagers } from "@jupyterlab/running";
import { ITranslator } from "@jupyterlab/translation";
import { Signal } from "@lumino/signaling";
import { type Known, openRuns } from "../src/state/overview.ts";
import { comfyIcon } from "./icons.ts";
import { liveOf } from "./live_of.ts";
import { openRun } from "./open.ts";
import { attempt, transport } from "./server.ts";
import { SHOW_SIDEBAR } from "./sidebar.ts";
import { tell } from "./tell.ts";
import { trans, translate } from "./words.ts";

const PAGE = 200; // runs that are listed at a time
const STOPPED = ["stopped", "failed", "unreachable", null];

type Item = ReturnType<Parameters<IRunningSessionManagers["add"]>[0]["running"]>[number];

/** Return a time of day, short enough for the list. */
function timeOf(moment: string): string {
  return new Date(moment).toLocaleTimeString([], { timeStyle: "short" });
}

/** Cancel all runs, also those that are not listed; the last in the queue first, so that none begins. */
async function cancelAll(): Promise<void> {
  const ids: string[] = [];
  for (const status of ["not-started", "queued", "running"]) {
    for (let offset = 0; ; offset += PAGE) {
      const query = { status, limit: PAGE, offset };
      const found = await transport().get<{ prompt_id: string }[]>("runs", query);
      ids.push(...found.map(({ prompt_id }) => prompt_id));
      if (found.length < PAGE) break;
    }
  }
  for (const prompt_id of ids) {
    const asked = transport().post("interrupt", { prompt_id });
    await asked.catch(() => {}); // it has ended, or waits in another server
  }
}

export const running: JupyterFrontEndPlugin<void> = {
  id: "comfydeploy-jupyter:running",
  description: "The runs of ComfyUI, and ComfyUI itself, in the list of what runs.",
  autoStart: true,
  optional: [IRunningSessionManagers, ITranslator],
  activate(
    app: JupyterFrontEnd,
    managers: IRunningSessionManagers | null,
    translator: ITranslator | null,
  ) {
    if (!managers) return;
    translate(translator);
    const live = liveOf(app);
    const open = () => void app.commands.execute(SHOW_SIDEBAR);
    const icon = () => comfyIcon;
    const comfyuis = ({ machines = [] }: Known): Item[] =>
      machines
        .filter(({ kind, status }) => kind === "managed" && !STOPPED.includes(status))
        .map(({ id, name, version, status }) => ({
          icon,
          open,
          label: () => ["ComfyUI", version].filter(Boolean).join(" "),
          labelTitle: () => trans.__("The ComfyUI of machine %1", name),
          detail: () => [name, status].join(": "),
          shutdown: () => void attempt("comfyui/stop", { machine: id }),
        }));
    const runs = (known: Known): Item[] => {
      const { runs = [] } = known.runs ?? {};
      const items = runs.map((run) => ({
        icon,
        open: () => void openRun(app, run.prompt_id),
        label: () => run.title || trans.__("Run of %1", timeOf(run.created_at)),
        labelTitle: () => [run.live_status, run.machine, run.prompt_id].filter(Boolean).join("\n"),
        detail: () =>
          run.status === "running" ? `${Math.floor(100 * (run.progress ?? 0))} %` : run.status,
        shutdown: () => void attempt("interrupt", { prompt_id: run.prompt_id }),
      }));
      const more = openRuns(known) - runs.length;
      if (more <= 0) return items;
      const label = trans.__("%1 more", more.toLocaleString());
      return [...items, { icon, open, label: () => label }];
    };
    const changed = new Signal<object, void>({});
    let before = "";
    live.subscribe(({ link, machines, runs: found, queue }) => {
      const facts = found?.runs.map((run) => [run.prompt_id, run.status, run.progress]);
      const states = machines?.map(({ id, status, version }) => [id, status, version]);
      const now = JSON.stringify([link, states, facts, queue]);
      if (now !== before) changed.emit();
      before = now;
    });
    managers.add({
      name: trans.__("ComfyUI"),
      running: () => {
        const { known } = live;
        return known.server ? [...comfyuis(known), ...runs(known)] : [];
      },
      shutdownAll: () => {
        cancelAll().then(() => {
          for (const item of comfyuis(live.known)) item.shutdown?.();
        }, tell);
      },
      refreshRunning: () => live.again(),
      runningChanged: changed,
      shutdownLabel: trans.__("Stop"),
      shutdownAllLabel: trans.__("Stop All"),
      shutdownAllConfirmationText: trans.__(
        "Stop ComfyUI, and cancel all runs that execute or wait?",
      ),
    });
  },
};
