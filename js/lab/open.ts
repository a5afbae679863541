/** Opens a run or a batch in the main area. */

import type { JupyterFrontEnd } from "@jupyterlab/application";
import { messageOf } from "../src/format.ts";
import { graphsOf } from "../src/workflows/source.ts";
import { showing } from "./ends.ts";
import { OPEN_PANEL } from "./panels.ts";
import { baseUrl, transport } from "./server.ts";
import { tell } from "./tell.ts";
import { trans } from "./words.ts";

type Run = {
  prompt_id: string;
  status: string;
  created_at: string;
  workflow_id: string;
  version: number;
};
type Shown = { source: object; title: string; values: object };

const FINAL = ["success", "failed", "cancelled"];

/** Return the stored workflow of a run, with the values that the run has; null if it is gone. */
async function storedOf({ prompt_id, workflow_id, version }: Run): Promise<Shown | null> {
  if (!workflow_id) return null;
  const source = { workflow_id, version };
  try {
    const [form, { name }] = await Promise.all([
      transport().post<{ given: object }>("workflow/form", { ...source, prompt_id }),
      transport().get<{ name: string | null }>("workflow", { workflow_id }),
    ]);
    return { source, title: name ?? "", values: form.given };
  } catch {
    return null;
  }
}

async function graphOf({ prompt_id, created_at }: Run): Promise<Shown> {
  const source = await graphsOf(transport(), prompt_id);
  const title = trans.__("Run of %1", new Date(created_at).toLocaleString());
  return { source, title, values: {} };
}

/** Show the panel in the main area that shows a run or a batch; return whether there is one. */
function reveal(app: JupyterFrontEnd, id: string): boolean {
  for (const widget of app.shell.widgets("main")) {
    const panel = widget.node.querySelector(showing(id));
    if (!panel) continue;
    app.shell.activateById(widget.id);
    panel.scrollIntoView({ block: "nearest" });
    return true;
  }
  return false;
}

/** Show a run in a panel that runs workflows: its values, and its progress or its result. */
export async function openRun(app: JupyterFrontEnd, promptId: string): Promise<void> {
  if (reveal(app, promptId)) return;
  if (!app.commands.hasCommand(OPEN_PANEL)) {
    const query = new URLSearchParams({ run_id: promptId });
    window.open(`${baseUrl()}comfyui-deploy/app?${query}`, "_blank", "noopener"); // from Notebook
    return;
  }
  try {
    const run = await transport().get<Run>("check-status", { prompt_id: promptId });
    const { source, title, values } = (await storedOf(run)) ?? (await graphOf(run));
    const isOver = FINAL.includes(run.status);
    const shown = {
      shown_workflow: { title, source, warnings: [] },
      values,
      result: isOver ? run : null,
      queued: isOver ? [] : [promptId],
    };
    await app.commands.execute(OPEN_PANEL, { panel: "RunPanel", values: shown as never });
  } catch (error) {
    tell(trans.__("The run cannot be opened: %1", messageOf(error)));
  }
}

export async function openBatch(app: JupyterFrontEnd, batch: string, title = ""): Promise<void> {
  if (reveal(app, batch)) return;
  if (!app.commands.hasCommand(OPEN_PANEL)) return tell(trans.__("JupyterLab shows batches."));
  await app.commands.execute(OPEN_PANEL, { panel: "BatchPanel", values: { batch, title } });
}
