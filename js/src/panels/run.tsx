/** Runs a workflow: the form of its inputs, its progress, its results and its earlier runs. */

import { effect, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { FormView } from "../components/form_view.tsx";
import { Gallery, useDetails } from "../components/gallery.tsx";
import { History } from "../components/history.tsx";
import { Missing } from "../components/missing.tsx";
import { Presets } from "../components/presets.tsx";
import { Preview } from "../components/preview.tsx";
import { RunBar } from "../components/run_bar.tsx";
import { Button, ErrorBox, Note, usePolling } from "../components/ui.tsx";
import type { ServerFacts } from "../server.ts";
import type { ShownFile } from "../shown_runs.ts";
import { type FormNote, FormState, type Inputs, type Source } from "../state/form.ts";
import { MAX_AT_ONCE, RunQueue, type RunRecord } from "../state/runs.ts";
import type { PanelProps } from "../state/traits.ts";

/** What page and Python share. */
export type RunTraits = {
  server: ServerFacts;
  /** The workflow that is shown; null for none. */
  shown_workflow: { title: string; source: Source } | null;
  /** The inputs that differ from the workflow: numbers are texts, null removes an input. */
  values: Inputs;
  /** The seeds that every run keeps; null for those that the workflow says. */
  locked: string[] | null;
  machine: string | null;
  /** The ids of runs that Python has queued. */
  queued: string[];
  /** The ids of the run that the panel shows and of those that wait behind it. */
  runs: string[];
  /** The record of the last run that ended. */
  result: RunRecord | null;
};

const LOOK = 3000; // ms between two looks for a ComfyUI that does not answer
const ENDS: Record<string, string> = {
  success: " · the last run is done",
  failed: " · the last run failed",
  cancelled: " · the last run was cancelled",
};

export function RunPanel({ transport, traits }: PanelProps<RunTraits>) {
  const root = useRef<HTMLDivElement>(null);
  const times = useSignal("1");
  const wrongTimes = useSignal("");
  const focus = useRef(() => {});
  const down = useSignal("");
  /** The run whose result is shown: the last one, or one that the user has chosen. */
  const shownRun = useSignal<string | null>(traits.result.peek()?.prompt_id ?? null);
  const form = useMemo(
    () =>
      new FormState(transport, () =>
        traits.set({ values: form.changed.value, locked: form.locked.value }),
      ),
    [transport, traits],
  );
  const runs = useMemo(
    () =>
      new RunQueue(transport, {
        accepted: (_, inputs, nodeErrors) => {
          // ComfyUI may have left out the part of the workflow that is wrong.
          form.markNodes(nodeErrors);
          form.showDrawn(inputs);
        },
        refused: (error) => {
          if (form.mark(error)) focus.current();
        },
        ended: (result) => {
          shownRun.value = result.prompt_id;
          traits.set({ result });
        },
      }),
    [transport, traits, form, shownRun],
  );

  // Python may set the workflow, the values, the machine, and queue runs.
  useEffect(
    () =>
      effect(() => {
        const { value } = traits.shown_workflow;
        if (!value) return form.close();
        if (value.source === form.source.peek()) return;
        shownRun.value = traits.result.peek()?.prompt_id ?? null;
        form.machine = traits.machine.peek();
        form.open(value.source, traits.values.peek(), traits.locked.peek()).then(() => {
          const isCurrent = () => form.source.peek() === value.source;
          const structure = form.structure.peek();
          if (!isCurrent() || !structure) return;
          runs.find(structure, isCurrent).then(
            ([running]) => {
              // A form beside a run that goes on has the values of that run.
              if (running && !form.changes.peek()) form.reuse(running, false);
            },
            () => {}, // following and History say what is wrong
          );
          const newest = { structure, limit: 1 };
          transport.get<{ runs: { prompt_id: string }[] }>("runs/cards", newest).then(
            ({ runs: [last] }) => {
              if (isCurrent() && last) shownRun.value ??= last.prompt_id;
            },
            () => {},
          );
        });
      }),
    [form, runs, traits, shownRun],
  );
  useEffect(
    () =>
      effect(() => {
        const values = traits.values.value;
        const locked = traits.locked.value;
        if (values !== form.changed.peek() || (locked && locked !== form.locked.peek())) {
          if (form.rows.peek().length) form.use(values, locked ?? form.locked.peek());
        }
      }),
    [form, traits],
  );
  useEffect(
    () =>
      effect(() => {
        form.machine = traits.machine.value;
        if (form.rows.peek().length) form.remake();
      }),
    [form, traits],
  );
  useEffect(
    () =>
      effect(() => {
        for (const promptId of traits.queued.value) {
          if (promptId !== traits.result.peek()?.prompt_id) runs.follow(promptId);
        }
      }),
    [runs, traits],
  );
  useEffect(
    () =>
      effect(() => {
        const followed = runs.followed.value;
        if (String(followed) !== String(traits.runs.peek())) traits.set({ runs: followed });
      }),
    [runs, traits],
  );
  useEffect(() => {
    root.current?.closest(".comfydeploy-panel")?.classList.add("cd-wide");
    return () => runs.end();
  }, [runs]);

  // A form that was made while ComfyUI did not answer is made again when it does.
  usePolling(root, async (signal) => {
    const isMissing = form.source.value !== null && !form.isDefined.value;
    if (!isMissing && !down.value) return LOOK;
    const query = { machine: traits.machine.value };
    const { comfyui } = await transport.get<Status>("check-status", query, signal).catch(() => ({
      comfyui: null,
    }));
    if (comfyui?.reachable && isMissing) await form.remake(true);
    down.value = comfyui && !comfyui.reachable ? whyDown(comfyui) : "";
    return LOOK;
  });

  const run = () => {
    const workflow = traits.shown_workflow.value;
    if (!workflow || !form.rows.value) return;
    const number = Number(times.value);
    const isNumber = Number.isInteger(number) && number >= 1 && number <= MAX_AT_ONCE;
    wrongTimes.value = isNumber ? "" : `must be 1 to ${MAX_AT_ONCE}`;
    runs.error.value = isNumber ? "" : `times: must be 1 to ${MAX_AT_ONCE}`;
    if (!isNumber) return;
    const fixed = form.inputs();
    if (!fixed) {
      const [problem] = Object.entries(form.problems.value);
      const label = form.row(problem?.[0] ?? "")?.label;
      runs.error.value = `${label}: ${problem?.[1]}`;
      focus.current();
      return;
    }
    const each = Array.from({ length: number }, () => ({ ...fixed, ...form.drawAll() }));
    runs.submit(workflow.source, each, traits.machine.value);
  };

  /** Use a picture of a run as the value of an input. */
  const use = async (file: ShownFile, key: string) => {
    const query = Object.fromEntries(new URLSearchParams(file.query));
    const content = await transport.content("view", { query });
    const reply = await transport.send<{ name: string }>("upload-file", {
      file: new File([content], file.name, { type: content.type }),
      query: { machine: traits.machine.value },
      fields: { type: "input" },
    });
    form.change(key, reply.name);
    return `${file.name} is the picture of “${form.row(key)?.label ?? key}” now.`;
  };

  const workflow = traits.shown_workflow.value;
  const result = runs.result.value ?? traits.result.value;
  const { run: details, problem: unread } = useDetails(transport, shownRun.value);
  const pictures = form.rows.value
    .filter(({ kind }) => kind === "image")
    .map(({ key, label }): [string, string] => [key, label]);
  const isReady = workflow !== null && !form.isOpening.value && !form.problem.value;
  const end = result ? (ENDS[result.status] ?? "") : "";
  const state = runs.submitting.value
    ? "Queueing …"
    : runs.isBusy.value || runs.error.value
      ? ""
      : form.isOpening.value
        ? "Opening …"
        : isReady
          ? `Ready${end}`
          : "Choose a workflow";
  const repeats = Number(times.value) > 1 && sameSeeds(form);
  return (
    <div class="cd-body cd-run" ref={root}>
      <Notes notes={form.notes.value} />
      {down.value && <Note live>{down.value}</Note>}
      {workflow && (
        <Missing
          transport={transport}
          source={workflow.source}
          machine={traits.machine.value}
          onFetched={() => form.remake(true)}
        />
      )}
      <RunBar
        runs={runs}
        times={times}
        isReady={isReady}
        state={state}
        error={runs.error.value || form.problem.value}
        problem={wrongTimes.value}
        note={[
          repeats ? `The seeds are kept: the ${times.value} runs will be equal.` : "",
          form.price.value,
        ]
          .filter(Boolean)
          .join(" ")}
        onRun={run}
      />
      {repeats && (
        <div>
          <Button
            label="New seeds for each run"
            icon="random"
            onClick={() => {
              for (const key of form.locked.value) form.lock(key, false);
            }}
          />
        </div>
      )}
      <div class="cd-work">
        <div class="cd-column cd-inputs">
          {isReady && (
            <Presets
              transport={transport}
              form={form}
              workflowId={workflow.source.workflow_id ?? null}
              store={async () => {
                const body = { ...workflow.source, name: workflow.title || "Workflow" };
                const stored = await transport.post<{ workflow_id: string }>("workflow", body);
                return stored.workflow_id;
              }}
            />
          )}
          <FormView state={form} transport={transport} server={traits.server.value} focus={focus} />
        </div>
        <div class="cd-column cd-result">
          <Preview preview={runs.preview.value} />
          {details && (
            <Gallery
              transport={transport}
              run={details}
              chosen={form.outputs.value}
              isEarlier={runs.isBusy.value}
              onReuse={(promptId) => form.reuse(promptId)}
            />
          )}
          <ErrorBox text={unread} />
        </div>
      </div>
      {form.structure.value && (
        <History
          transport={transport}
          structure={form.structure.value}
          chosen={shownRun.value}
          inputs={pictures}
          revision={result?.prompt_id}
          onShow={(promptId) => {
            shownRun.value = promptId;
          }}
          onReuse={(promptId) => form.reuse(promptId)}
          onUse={(file, key) => use(file, key)}
        />
      )}
    </div>
  );
}

type Status = {
  comfyui: {
    reachable: boolean;
    state?: string;
    error?: string | null;
    hint?: string | null;
    end_reason?: string | null;
  } | null;
};

function whyDown({ state, error, hint, end_reason }: NonNullable<Status["comfyui"]>): string {
  const what = state === "starting" ? "ComfyUI is being started" : "ComfyUI does not answer";
  return [what, error ?? end_reason, hint].filter(Boolean).join(": ");
}

/** Whether several runs of a form would have the same seeds, and nothing else that differs. */
function sameSeeds(form: FormState): boolean {
  const seeds = form.rows.value.filter(({ kind }) => kind === "seed");
  return seeds.length > 0 && seeds.every(({ key }) => form.locked.value.includes(key));
}

function Notes({ notes }: { notes: FormNote[] }) {
  return (
    <>
      {notes.map(({ title, texts }, place) => (
        <details key={title} class="comfydeploy-note" open={place === 0}>
          <summary>
            {title} ({texts.length})
          </summary>
          <ul>
            {texts.map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
        </details>
      ))}
    </>
  );
}
