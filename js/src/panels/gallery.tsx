/** The results of all runs of all workflows, newest first. */

import { History } from "../components/history.tsx";
import type { RunCard } from "../shown_runs.ts";
import type { Inputs, Source } from "../state/form.ts";
import type { RunRecord } from "../state/runs.ts";
import type { PanelProps } from "../state/traits.ts";
import type { Transport } from "../transport.ts";
import { graphsOf } from "../workflows/source.ts";
import type { RunTraits } from "./run.tsx";

type GalleryTraits = {
  /** The id of the RunPanel in which workflows are opened; empty for none. */
  runner: string;
  /** Increases when a workflow was opened there. */
  run_requests: number;
};

export function GalleryPanel({ transport, traits, child }: PanelProps<GalleryTraits>) {
  const runner = traits.runner.value;
  const open = async (run: RunCard) => {
    child?.set(runner, await shownOf(transport, run));
    traits.set({ run_requests: traits.run_requests.peek() + 1 });
    return "";
  };
  return <History transport={transport} isGallery onOpen={runner && child ? open : undefined} />;
}

/** Return what a RunPanel shows of a run: its workflow, its values and its result. */
async function shownOf(transport: Transport, run: RunCard): Promise<Partial<RunTraits>> {
  const { prompt_id, workflow, workflow_id } = run;
  const result = await transport.get<RunRecord>("check-status", { prompt_id });
  const { version } = result;
  const source: Source =
    workflow && version // the name of one that is still stored
      ? { workflow_id, version: Number(version) }
      : await graphsOf(transport, prompt_id);
  const body = { ...source, prompt_id, brief: true };
  const { given } = await transport.post<{ given: Inputs }>("workflow/form", body);
  const title = workflow || "Workflow of a run";
  // the result first: it is read when the workflow is another one
  return {
    result,
    shown_workflow: { title, source, warnings: [] },
    ...{ values: given, locked: null, varied: {}, batch: "" },
  };
}
