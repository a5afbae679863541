/** Runs a workflow: the form of its inputs, its progress, its results and its earlier runs. */

import { effect, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { SHOWN_FOR, write } from "../clipboard.ts";
import { BatchSheet } from "../components/batch_sheet.tsx";
import { ChooseInputs } from "../components/choose_inputs.tsx";
import { Down } from "../components/down.tsx";
import { FormView } from "../components/form_view.tsx";
import { Gallery, useDetails } from "../components/gallery.tsx";
import { History } from "../components/history.tsx";
import { Missing } from "../components/missing.tsx";
import { Presets } from "../components/presets.tsx";
import { Preview } from "../components/preview.tsx";
import { RunBar } from "../components/run_bar.tsx";
import { type Action, Button, ErrorBox, Note, Part } from "../components/ui.tsx";
import type { Value } from "../form/field.ts";
import { counted, messageOf } from "../format.ts";
import { mediaOf } from "../media.tsx";
import type { ServerFacts } from "../server.ts";
import type { ShownFile } from "../shown_runs.ts";
import { type FormNote, FormState, type Inputs, type Source, type Varied } from "../state/form.ts";
import { MAX_AT_ONCE, newRunId, RunQueue, type RunRecord } from "../state/runs.ts";
import { asCurl, asPython, wantedOf } from "../state/snippets.ts";
import type { PanelProps } from "../state/traits.ts";
import { toQuery } from "../transport.ts";
import { useChoices, WorkflowPicker, WorkflowStart } from "../workflows/picker.tsx";
import type { Opened } from "../workflows/source.ts";

/** What page and Python share. */
export type RunTraits = {
  server: ServerFacts;
  /** The workflow that is shown; null for none. */
  shown_workflow: Opened | null;
  /** The folder of the notebook, whose workflow files are offered. */
  directory: string;
  /** The inputs that differ from the workflow: numbers are texts, null removes an input. */
  values: Inputs;
  /** The seeds that every run keeps; null for those that the workflow says. */
  locked: string[] | null;
  /** The inputs that take several values. */
  varied: Varied;
  /** The batch that is shown in place of a result; empty for none. */
  batch: string;
  machine: string | null;
  /** The ids of runs that Python has queued. */
  queued: string[];
  /** The ids of the run that the panel shows and of those that wait behind it. */
  runs: string[];
  /** The record of the last run that ended. */
  result: RunRecord | null;
  /** Whether Python opens a workflow. */
  opening?: boolean;
  /** Whether the panel shows a document of JupyterLab, so that no other workflow is chosen in it. */
  document?: boolean;
  /** Those of `values` that belong into a document: without seeds that each run draws. */
  edits?: Inputs;
};

type BatchFacts = { batch_id: string; finished_at: string | null };

const MAX_OTHERS = 8; // values of a run that are listed
const MAX_VALUE = 60; // characters of one of them
const NOT_HERE = "is not on this ComfyUI"; // in what the server says of a missing model
const UNAVAILABLE = "comfyui_unavailable"; // the code of an error: no ComfyUI answers
const LINK_COPIED =
  "The link is copied. It opens this workflow without a notebook, for those who may use this server.";
const ENDS: Record<string, string> = {
  success: " · the last run is done",
  failed: " · the last run failed",
  cancelled: " · the last run was cancelled",
};

export function RunPanel({ transport, traits, kernel }: PanelProps<RunTraits>) {
  const root = useRef<HTMLDivElement>(null);
  const times = useSignal("1");
  /** The key of the field whose value was refused when the user wanted to run it. */
  const wrong = useSignal("");
  /** The fields whose values the server has refused. */
  const refusedKeys = useSignal<string[]>([]);
  /** How many runs are wanted of a workflow that is being opened. */
  const awaited = useRef(0);
  const download = useSignal<(() => void) | null>(null);
  const focus = useRef(() => {});
  /** The run whose result is shown: the last one, or one that the user has chosen. */
  const shownRun = useSignal<string | null>(traits.result.peek()?.prompt_id ?? null);
  const form = useMemo(
    () =>
      new FormState(transport, () =>
        traits.set({
          values: form.changed.value,
          edits: form.edits(),
          locked: form.locked.value,
          varied: form.varied.value,
        }),
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
          refusedKeys.value = form.mark(error) ? Object.keys(form.problems.peek()) : [];
          if (refusedKeys.value.length) focus.current();
        },
        ended: (result) => {
          shownRun.value = result.prompt_id;
          traits.set({ result });
        },
      }),
    [transport, traits, form, shownRun],
  );

  const open = async (source: Source) => {
    form.machine = traits.machine.peek();
    const { values, locked, varied } = traits;
    const wanted = () => [values.peek(), locked.peek(), varied.peek()] as const;
    const asked = wanted();
    if (!(await form.open(source, ...asked))) return;
    const number = awaited.current;
    awaited.current = 0;
    const structure = form.structure.peek();
    if (!structure || form.problem.peek()) return;
    const [now, nowLocked, nowVaried] = wanted();
    if (wanted().some((each, place) => each !== asked[place])) {
      await form.use(now, nowLocked ?? form.locked.peek(), nowVaried); // set while it was opening
    }
    const isCurrent = () => form.source.peek() === source;
    if (!isCurrent()) return;
    if (number) run(number);
    const quietly = () => {}; // following and History say what is wrong
    runs
      .find(structure, isCurrent)
      .then(([running]) => {
        // A form beside a run that goes on has the values of that run.
        const isFree = !form.changes.peek() && !traits.document?.peek();
        if (running && isFree) form.reuse(running, false);
      })
      .catch(quietly);
    if (!traits.batch.peek()) {
      transport
        .get<{ batches: BatchFacts[] }>("batches", { structure })
        .then(({ batches }) => {
          const open = batches.find(({ finished_at }) => finished_at === null);
          if (isCurrent() && open) traits.set({ batch: open.batch_id });
        })
        .catch(quietly);
    }
    transport
      .get<{ runs: { prompt_id: string }[] }>("runs/cards", { structure, limit: 1, count: false })
      .then(({ runs: [last] }) => {
        if (isCurrent() && last) shownRun.value ??= last.prompt_id;
      })
      .catch(quietly);
  };
  // Python may set the workflow, the values, the machine, and queue runs.
  // The form is asked for before the panel is painted: it takes longer.
  useLayoutEffect(
    () =>
      effect(() => {
        const { value } = traits.shown_workflow;
        if (!value) return form.close();
        if (value.source === form.source.peek()) return;
        wrong.value = "";
        runs.error.value = "";
        shownRun.value = traits.result.peek()?.prompt_id ?? null;
        open(value.source);
      }),
    [form, runs, traits, shownRun],
  );
  useEffect(
    () =>
      effect(() => {
        const values = traits.values.value;
        const locked = traits.locked.value;
        const varied = traits.varied.value;
        const isKnown =
          values === form.changed.peek() &&
          (!locked || locked === form.locked.peek()) &&
          varied === form.varied.peek();
        if (!isKnown && form.rows.peek().length && !form.isOpening.peek()) {
          form.use(values, locked ?? form.locked.peek(), varied);
        }
      }),
    [form, traits],
  );
  useEffect(
    () =>
      effect(() => {
        const { value } = traits.machine;
        const source = form.source.peek();
        if (value === form.machine) return;
        form.machine = value;
        if (source && form.isOpening.peek()) open(source);
        else form.remake();
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

  const run = (number: number) => {
    const workflow = traits.shown_workflow.peek();
    if (!workflow) return;
    if (form.isOpening.peek()) {
      awaited.current = number;
      return;
    }
    runs.error.value = "";
    const fixed = form.inputs();
    wrong.value = fixed ? "" : (Object.keys(form.problems.peek())[0] ?? "");
    if (!fixed) return focus.current();
    if (form.axes.peek().length) return create(workflow, number);
    traits.set({ batch: "" });
    const each = Array.from({ length: number }, () => ({ ...fixed, ...form.drawAll() }));
    runs.submit(workflow.source, each, traits.machine.peek());
  };
  /** Create the batch of all values. */
  const create = async ({ source, title }: Opened, number: number) => {
    if (runs.submitting.peek()) return;
    const inputs = form.inputsOfAll(number);
    const batch_id = newRunId();
    const body = { ...source, inputs, machine: traits.machine.peek(), title, batch_id };
    if (!(await runs.create(body)) || traits.shown_workflow.peek()?.source !== source) return;
    if (number === 1 && inputs) form.showDrawn(inputs);
    traits.set({ batch: batch_id });
  };

  /** Use a picture of a run as the value of an input. */
  const use = async (file: ShownFile, key: string) => {
    const content = await mediaOf(transport).read(file.query);
    const reply = await transport.send<{ name: string }>("upload-file", {
      file: new File([content], file.name, { type: content.type }),
      query: { machine: traits.machine.value },
      fields: { type: "input" },
    });
    form.change(key, reply.name);
    return `${file.name} is the picture of “${form.row(key)?.label ?? key}” now.`;
  };

  /** Store the workflow that is shown; return its id. */
  const store = async ({ source, title }: Opened) => {
    const body = { ...source, name: title || "Workflow" };
    return (await transport.post<{ workflow_id: string }>("workflow", body)).workflow_id;
  };
  /** Return the address at which a colleague finds the workflow, which is stored first. */
  const address = async (opened: Opened) => {
    let { source } = opened;
    if (!source.workflow_id) {
      source = { workflow_id: await store(opened), version: 1 };
      traits.set({ shown_workflow: { title: opened.title, source, warnings: [] } });
      choices.refresh();
    }
    const { workflow_id, version } = source;
    const newest = choices.entries.find(({ name }) => name === workflow_id)?.version;
    const query = { workflow_id, version: (newest ?? 1) === version ? null : version };
    return new URL(`${transport.base}comfyui-deploy/app${toQuery(query)}`, location.href).href;
  };
  const isChoosing = useSignal(false);
  /** Why ComfyUI does not answer; empty if it does. */
  const down = useSignal("");
  /** Whether code or a link was copied; for a moment. */
  const copied = useSignal("");
  const say = (text: string, duration: number) => {
    copied.value = text;
    setTimeout(() => {
      if (copied.value === text) copied.value = "";
    }, duration);
  };
  const copyLink = async (opened: Opened) => {
    try {
      const link = await address(opened);
      await write(link).then(
        () => say(LINK_COPIED, 4 * SHOWN_FOR),
        () => say(link, 20 * SHOWN_FOR), // to be copied by hand
      );
    } catch (error) {
      say(`Not copied: ${messageOf(error)}`, 4 * SHOWN_FOR);
    }
  };
  const copy = async (as: typeof asPython) => {
    const shown = traits.shown_workflow.peek();
    const number = Math.max(1, Math.floor(Number(times.value)) || 1);
    const wanted = shown && wantedOf(form, shown, traits.machine.value, number);
    wrong.value = wanted ? "" : (Object.keys(form.problems.peek())[0] ?? "");
    if (!wanted) return focus.current();
    const { base } = transport;
    const own = base === null ? traits.server.value.url : base;
    const { origin, pathname } = new URL(own ?? "", location.href);
    await write(as(wanted, origin + pathname)).then(
      () => say("Copied", 2 * SHOWN_FOR),
      (error) => say(`Not copied: ${messageOf(error)}`, 2 * SHOWN_FOR),
    );
  };

  const workflow = traits.shown_workflow.value;
  const isComing = !workflow && traits.opening?.value === true && kernel.value === "there";
  // it comes before the lists
  const isFormDone = workflow ? form.isDone(workflow.source) : !isComing;
  const choices = useChoices(transport, traits.directory.value || null, isFormDone);
  const show = (opened: Opened) =>
    traits.set({
      shown_workflow: opened,
      values: {},
      locked: null,
      varied: {},
      batch: "",
      result: null,
    });

  const isUndefined = form.source.value !== null && !form.isDefined.value;
  const result = runs.result.value ?? traits.result.value;
  const { run: details, problem: unread } = useDetails(transport, shownRun.value);
  const isEarlier = runs.isBusy.value || details?.prompt_id !== shownRun.value;
  const pictures = form.rows.value
    .filter(({ kind }) => kind === "image")
    .map(({ key, label }): [string, string] => [key, label]);
  // what is wrong with a value is said until the value is another one
  const refused = form.problems.value[wrong.value];
  const isMended =
    refusedKeys.value.length > 0 && !refusedKeys.value.some((key) => form.problems.value[key]);
  const error =
    (refused && `${form.row(wrong.value)?.label}: ${refused}`) ||
    (isMended ? "" : runs.error.value) ||
    form.problem.value;
  const isReady = workflow !== null && !form.isOpening.value && !form.problem.value;
  const end = result ? (ENDS[result.status] ?? "") : "";
  const isDead = kernel.value === "gone" && transport.base === null;
  const state = runs.submitting.value
    ? "Queueing …"
    : runs.isBusy.value || error
      ? ""
      : form.isOpening.value
        ? "Opening …"
        : isReady && !down.value && !isDead
          ? `Ready${end}`
          : "";
  const axes = form.axes.value;
  const actions: Action[] = [
    {
      label: "Choose inputs …",
      icon: "list",
      onClick: () => {
        isChoosing.value = true;
      },
    },
    { label: "Copy as Python", icon: "copy", onClick: () => copy(asPython) },
    { label: "Copy as curl", icon: "copy", onClick: () => copy(asCurl) },
  ];
  if (workflow && transport.base !== null) {
    const onClick = () => copyLink(workflow);
    actions.push({ label: "Copy link for a colleague", icon: "share", onClick });
  }
  const lost = {
    about: "opening",
    title: "The conversion from the editor's format is not exact",
    texts: workflow?.warnings ?? [],
  };
  const notes = lost.texts.length ? [...form.notes.value, lost] : form.notes.value;
  const number = Number(times.value);
  const repeats =
    !axes.length &&
    Number.isInteger(number) &&
    number > 1 &&
    number <= MAX_AT_ONCE &&
    sameSeeds(form);
  const chosen = traits.batch.value;
  const seen = [...runs.followed.value, result?.prompt_id ?? ""]; // for notifications
  return (
    <div class="cd-body" ref={root} data-shows={seen.join(" ")}>
      {!(traits.document?.value && workflow) && (
        <WorkflowPicker transport={transport} choices={choices} shown={workflow} onOpen={show} />
      )}
      <Notes notes={notes} />
      <Down
        transport={transport}
        root={root}
        machine={traits.machine.value}
        isNeeded={isUndefined}
        text={down}
        // a form that was made while ComfyUI did not answer is made again when it does
        onReachable={(isBack) => {
          if (isBack && runs.errorCode === UNAVAILABLE) runs.error.value = "";
          return isUndefined && form.remake(true);
        }}
      />
      {workflow && (
        <Part name="What the workflow lacks">
          <Missing
            transport={transport}
            source={workflow.source}
            machine={traits.machine.value}
            panel={root}
            form={form}
            download={download}
            onFetched={() => {
              if (runs.error.value.includes(NOT_HERE)) runs.error.value = "";
              form.remake(true);
            }}
          />
        </Part>
      )}
      {(workflow || runs.isBusy.value) && (
        <RunBar
          runs={runs}
          times={times}
          isReady={workflow !== null && !form.problem.value}
          state={copied.value || state}
          lost={runs.lost.value || form.lost.value}
          actions={actions.map((each) => ({ ...each, disabled: !isReady }))}
          error={error}
          onDownload={error.includes(NOT_HERE) ? download.value : null}
          note={[
            axes.length ? sizeOf(form, Number(times.value)) : "",
            repeats ? `The seeds are kept: the ${times.value} runs will be equal.` : "",
            form.price.value,
          ]
            .filter(Boolean)
            .join(" ")}
          onRun={run}
        >
          {repeats && (
            <Button
              label="New seeds for each run"
              icon="random"
              onClick={() => {
                for (const key of form.locked.value) form.lock(key, false);
              }}
            />
          )}
        </RunBar>
      )}
      {isChoosing.value && workflow && (
        <ChooseInputs
          transport={transport}
          workflow={workflow}
          machine={traits.machine.value}
          fields={form.rows.value}
          onSaved={(saved) => {
            isChoosing.value = false;
            traits.set({ shown_workflow: saved });
          }}
          onClose={() => {
            isChoosing.value = false;
          }}
        />
      )}
      {isComing && <Note live>Opening …</Note>}
      {!workflow && !isComing && (
        <WorkflowStart transport={transport} choices={choices} onOpen={show} />
      )}
      <div
        class="cd-work"
        hidden={!workflow || (form.problem.value !== "" && !form.rows.value.length)}
      >
        <div class="cd-column cd-inputs">
          {isReady && (
            <Presets
              transport={transport}
              form={form}
              workflowId={workflow.source.workflow_id ?? null}
              store={() => store(workflow)}
            />
          )}
          <FormView state={form} transport={transport} focus={focus} />
        </div>
        <div class="cd-column cd-result">
          <Preview preview={runs.preview.value} />
          <Part key={chosen || details?.prompt_id} name="The result">
            {chosen && (
              <BatchSheet
                transport={transport}
                batch={chosen}
                onGone={() => traits.set({ batch: "" })}
              />
            )}
            {!chosen &&
              details &&
              !isEarlier &&
              details.prompt_id !== runs.result.value?.prompt_id && (
                <OtherValues form={form} promptId={details.prompt_id} />
              )}
            {!chosen && details && (
              <Gallery
                transport={transport}
                run={details}
                chosen={form.outputs.value}
                isEarlier={isEarlier}
                onReuse={(promptId) => form.reuse(promptId)}
                edits={form.edited}
              />
            )}
          </Part>
          <ErrorBox text={unread} />
        </div>
      </div>
      {form.structure.value && (
        <Part name="The history">
          <History
            transport={transport}
            structure={form.structure.value}
            chosen={chosen ? null : shownRun.value}
            inputs={pictures}
            revision={result?.prompt_id}
            onShow={(promptId) => {
              traits.set({ batch: "" });
              shownRun.value = promptId;
            }}
            onReuse={(promptId) => form.reuse(promptId)}
            edits={form.edited}
            onUse={(file, key) => use(file, key)}
          />
        </Part>
      )}
    </div>
  );
}

/** What the run of another time or place had that the form does not have. */
function OtherValues({ form, promptId }: { form: FormState; promptId: string }) {
  const run = useSignal<Record<string, Value>>({});
  useEffect(() => {
    let isOver = false;
    run.value = {};
    form.ofRun(promptId).then(
      ({ values }) => {
        if (!isOver) run.value = values;
      },
      () => {}, // the graph of the run is not known any more
    );
    return () => {
      isOver = true;
    };
  }, [form, promptId, run, form.number.value]);
  const now = form.values.value;
  const others = form.rows.value.filter(
    ({ key }) => key in run.value && String(run.value[key]) !== String(now[key]),
  );
  if (!others.length) return null;
  const texts = others.slice(0, MAX_OTHERS).map(({ key, label, kind }) => {
    const value = kind === "bool" ? (run.value[key] ? "yes" : "no") : String(run.value[key]);
    return `${label} ${value.length > MAX_VALUE ? `${value.slice(0, MAX_VALUE)} …` : value}`;
  });
  const more = others.length - texts.length;
  return (
    <div class="cd-words">
      <Note live>
        This run had other values than the form: {texts.join(" · ")}
        {more > 0 && ` · ${more} more`}
      </Note>
    </div>
  );
}

/** Return how many runs a batch of a form has, and why. */
function sizeOf(form: FormState, times: number): string {
  const axes = form.axes.value.map(({ members, count }): [string, number] => [
    members.map(({ label }) => `“${label}”`).join(" with "),
    count,
  ]);
  if (form.isDrawing.value && times > 1) axes.push(["the seeds", times]);
  const total = axes.reduce((all, [, count]) => all * count, 1);
  const parts = axes.map(([what, count]) => `${count} of ${what}`).join(" × ");
  return `${counted(total, "run")}: ${parts}.`;
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
