/** The tabs of WorkflowPanel: nodes, differences of versions, saving, and exporting. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { Missing } from "../components/missing.tsx";
import {
  Button,
  Checkbox,
  ErrorBox,
  Note,
  Select,
  TextField,
  usePolling,
  useTask,
} from "../components/ui.tsx";
import { counted } from "../format.ts";
import { saveFile } from "../save_file.ts";
import type { Source } from "../state/form.ts";
import { type Mark, marksOf, RunQueue, type RunRecord } from "../state/runs.ts";
import type { Transport } from "../transport.ts";
import { type GraphPicture, GraphView } from "./graph.tsx";
import type { Entry, Target } from "./source.ts";

const LOOK = 2000; // ms between two looks for a run of the workflow
const MAX_TEXT = 500; // characters of what is wrong with a node, in the picture

export type OutlinedNode = { id: string; title: string; class_type: string; inputs: string };
export type Outline = {
  title: string;
  /** The hash by which the server knows the runs of this workflow. */
  structure: string;
  nodes: OutlinedNode[];
  picture: GraphPicture;
  warnings: string[];
};
export type Validation = {
  valid: boolean;
  by_node: Record<string, string[]>;
  general: string[];
  definitions: { source: string };
};
export type Version = { version: number; comment: string; created_at: string | null };

type NodesProps = {
  transport: Transport;
  outline: Outline;
  /** The graph with the values that were changed under Run. */
  current: () => Promise<Source>;
  validation: Validation | null;
  onValidated: (found: Validation) => void;
};

export function Nodes(props: NodesProps) {
  const { transport, outline, current, validation, onValidated } = props;
  const root = useRef<HTMLDivElement>(null);
  const ofRun = useMarks(transport, outline.structure, root);
  const task = useTask();
  const checked = useSignal<Source | null>(null);
  const latest = useRef(outline);
  latest.current = outline;
  const validate = () =>
    task.run(async () => {
      const source = await current();
      const found = await transport.post<Validation>("workflow/validate", source);
      if (latest.current !== outline) return; // another workflow was opened
      checked.value = source;
      onValidated(found);
    });
  const problems = validation?.by_node ?? {};
  const failed = Object.keys(problems).map((id) => [id, "failed" as const]);
  const marks = failed.length ? Object.fromEntries(failed) : ofRun;
  const texts = Object.entries(problems).map(([id, said]) => [
    id,
    said.join("; ").slice(0, MAX_TEXT),
  ]);
  return (
    <div class="cd-rows" ref={root}>
      <div class="cd-line">
        <Button
          label="Validate"
          icon="check"
          hint="Find the errors that ComfyUI would report, without running the workflow"
          disabled={task.busy.value}
          onClick={validate}
        />
      </div>
      <ErrorBox text={task.error.value} />
      {validation && <Verdict found={validation} />}
      {validation && checked.value && (
        <Missing transport={transport} source={checked.value} machine={null} onFetched={validate} />
      )}
      <GraphView picture={outline.picture} marks={marks} problems={Object.fromEntries(texts)} />
      <NodeTable nodes={outline.nodes} problems={problems} />
    </div>
  );
}

/** The states of the nodes in the run of a workflow that goes on, or that was seen here last. */
function useMarks(
  transport: Transport,
  structure: string,
  root: { current: HTMLElement | null },
): Record<string, Mark> {
  const last = useSignal<Record<string, Mark>>({});
  const runs = useMemo(
    () =>
      new RunQueue(transport, {
        accepted: () => {},
        refused: () => {},
        ended: (record) => {
          last.value = marksOf(record);
        },
      }),
    [transport, structure],
  );
  useEffect(() => {
    last.value = {};
    return () => runs.end();
  }, [runs]);
  usePolling(
    root,
    async (signal) => {
      const query = { structure, status: "running", limit: 1 };
      const found = structure ? transport.get<RunRecord[]>("runs", query, signal) : [];
      const [running] = await Promise.resolve(found).catch(() => []); // the next look may find it
      if (running && !signal.aborted) runs.follow(running.prompt_id);
      return LOOK;
    },
    structure,
  );
  return runs.progress.value?.nodes ?? last.value;
}

function Verdict({ found }: { found: Validation }) {
  const bad = Object.keys(found.by_node).length;
  const where = bad === 1 ? "the node marked below" : `the ${bad} nodes marked below`;
  const [text, kind] = !found.valid
    ? [`ComfyUI would refuse this workflow${bad ? `; look at ${where}` : ""}`, "error"]
    : bad
      ? [`ComfyUI would run a part of it; look at ${where}`, "warn"]
      : ["ComfyUI would run this workflow", "success"];
  const { source } = found.definitions;
  const doubt = source === "live" ? "" : ` (by ${source} node definitions: ComfyUI is down)`;
  return (
    <div class={`comfydeploy-verdict mod-${kind}`} role="status">
      {text + doubt}
      {found.general.length > 0 && (
        <ul>
          {found.general.map((each) => (
            <li key={each}>{each}</li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** Those with findings first, then in the order of execution. */
function NodeTable(props: { nodes: OutlinedNode[]; problems: Record<string, string[]> }) {
  const { nodes, problems } = props;
  const rows = [...nodes].sort((one, other) => +(other.id in problems) - +(one.id in problems));
  return (
    // biome-ignore lint/a11y/useSemanticElements: a table that scrolls
    // biome-ignore lint/a11y/noNoninteractiveTabindex: keys scroll it
    <div class="comfydeploy-scroll" tabIndex={0} role="region" aria-label="Nodes">
      <table class="comfydeploy-nodes">
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col">Inputs</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ id, title, class_type, inputs }) => (
            <tr key={id} class={problems[id]?.length ? "mod-bad" : undefined}>
              <td>
                <b>{title}</b>
                <div class="comfydeploy-note">
                  {title === class_type ? `id ${id}` : `${class_type}, id ${id}`}
                </div>
              </td>
              <td>
                {inputs}
                {problems[id] && (
                  <ul class="comfydeploy-findings">
                    {problems[id].map((each) => (
                      <li key={each}>{each}</li>
                    ))}
                  </ul>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

// -- differences -----------------------------------------------------------------------------------

const WORDS: Record<string, string> = {
  removed: "Removed",
  added: "Added",
  replaced: "Replaced",
  switched: "Switched",
  renamed: "Renamed",
  rewired: "Rewired",
  changed: "Changed",
};

type Differences = { changes: { kind: string; node_id: string; text: string }[]; text: string };

type ChangesProps = {
  transport: Transport;
  target: Target;
  workflowId: string;
  versions: Version[];
  opened: number | null;
};

/** The differences between two versions: at first, the open one and the one before it. */
export function Changes({ transport, target, workflowId, versions, opened }: ChangesProps) {
  const later = versions.find(({ version }) => version === opened) ?? versions[0];
  const before = versions.find(({ version }) => version < (later?.version ?? 0)) ?? later;
  const chosen = useSignal<[number, number] | null>(null);
  const found = useSignal<Differences | null>(null);
  const problem = useSignal("");
  const [old, now] = chosen.value ?? [before?.version ?? 0, later?.version ?? 0];
  const canCompare = workflowId !== "" && versions.length > 1;
  useEffect(() => {
    chosen.value = null;
  }, [workflowId, opened]);
  useEffect(() => {
    found.value = null;
    problem.value = "";
    if (!canCompare) return;
    const ending = new AbortController();
    const asked = { workflow_id: workflowId, old, new: now, target };
    transport.get<Differences>("workflow/diff", asked, ending.signal).then(
      (reply) => {
        found.value = reply;
      },
      (error) => {
        if (!ending.signal.aborted) problem.value = error.message;
      },
    );
    return () => ending.abort();
  }, [transport, target, workflowId, old, now, canCompare]);
  if (!workflowId) return <Note live>Versions can be compared once the workflow is stored.</Note>;
  if (!canCompare) return <Note live>There is one version so far.</Note>;
  const options = versions.map((each): [string, string] => [
    String(each.version),
    versionLabel(each),
  ]);
  const changes = found.value?.changes ?? [];
  return (
    <div class="cd-rows">
      <div class="cd-pairs">
        <Select
          label="From"
          value={String(old)}
          options={options}
          onChange={(value) => {
            chosen.value = [Number(value), now];
          }}
        />
        <Select
          label="To"
          value={String(now)}
          options={options}
          onChange={(value) => {
            chosen.value = [old, Number(value)];
          }}
        />
      </div>
      <div role="status">
        {changes.length > 0
          ? counted(changes.length, "difference")
          : found.value && `${capitalized(found.value.text)}.`}
      </div>
      {changes.length > 0 && (
        <ul class="comfydeploy-scroll comfydeploy-changes">
          {changes.map(({ kind, node_id, text }, place) => (
            <li key={`${place} ${node_id}`}>
              <span class={`comfydeploy-kind mod-${kind}`}>{WORDS[kind] ?? kind}</span>{" "}
              <span>{text.startsWith(kind) ? text.slice(kind.length).trim() : text}</span>
            </li>
          ))}
        </ul>
      )}
      <ErrorBox text={problem.value} />
    </div>
  );
}

const capitalized = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

/** Return a line with the number, the time and the comment of a version. */
export function versionLabel({ version, created_at, comment }: Version): string {
  return [`v${version}`, whenText(created_at), comment].filter(Boolean).join(" · ");
}

/** Return a time for people, in the time zone of this browser: 2026-01-31 09:30. */
function whenText(timestamp: string | null): string {
  const time = new Date(timestamp ?? "");
  if (Number.isNaN(time.getTime())) return timestamp ?? "";
  const two = (number: number) => String(number).padStart(2, "0");
  const day = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}`;
}

// -- saving ----------------------------------------------------------------------------------------

type SaveProps = {
  transport: Transport;
  target: Target;
  title: string;
  workflowId: string;
  /** The workflows that can get a version. */
  stored: Entry[];
  graphs: () => Promise<Source>;
  onSaved: (id: string, version: number, name: string) => void;
};

type Saved = { id: string; name: string; version: number; new_version: boolean };

export function Save(props: SaveProps) {
  const { transport, target, title, workflowId, stored, graphs, onSaved } = props;
  const task = useTask();
  const into = useSignal(workflowId);
  const name = useSignal(title);
  const comment = useSignal("");
  const force = useSignal(false);
  const state = useSignal("");
  useEffect(() => {
    into.value = workflowId;
  }, [workflowId]);
  useEffect(() => {
    name.value = title;
  }, [title]);
  const save = () =>
    task.run(async () => {
      state.value = "";
      const given = name.value.trim();
      if (!given && !into.value) throw new Error("Name: a new workflow needs a name");
      state.value = "Saving …";
      try {
        const saved = await transport.post<Saved>("workflow", {
          ...(await graphs()),
          name: given || null,
          workflow_id: into.value || null,
          comment: comment.value.trim() || null,
          force: force.value,
          target,
        });
        const { id, version, new_version: isNew } = saved;
        state.value = isNew
          ? `Saved as version ${version}.`
          : `Nothing has changed since version ${version}.`;
        if (!isNew) return;
        comment.value = "";
        onSaved(id, version, saved.name);
      } catch (error) {
        state.value = "";
        throw error;
      }
    });
  const options: [string, string][] = [
    ["", "A new workflow"],
    ...stored.map((each): [string, string] => [each.name, `A new version of ${each.title}`]),
  ];
  if (workflowId && !stored.some((each) => each.name === workflowId)) {
    options.push([workflowId, `A new version of ${title}`]);
  }
  return (
    <div class="cd-rows">
      <Select label="Save as" bind={into} options={options} />
      <TextField label="Name" bind={name} />
      <TextField label="Comment" placeholder="What is new in this version" bind={comment} />
      <Checkbox label="Save even if nothing has changed" bind={force} />
      <div class="cd-line">
        <Button
          label="Save"
          icon="save"
          hint="Save a version"
          primary
          disabled={task.busy.value}
          onClick={save}
        />
        <Note live>{state.value}</Note>
      </div>
      <ErrorBox text={task.error.value} />
      <Note>Values that were changed under Run are saved with it.</Note>
    </div>
  );
}

// -- exporting -------------------------------------------------------------------------------------

const FORMATS: [string, string][] = [
  ["api", "API format (JSON)"],
  ["ui", "Editor format (JSON)"],
  ["notebook", "Notebook"],
  ["python", "Python script"],
];
const SUFFIXES: Record<string, string> = {
  api: ".api.json",
  ui: ".json",
  notebook: ".ipynb",
  python: ".py",
};
const MIMES: Record<string, string> = {
  api: "application/json",
  ui: "application/json",
  notebook: "application/x-ipynb+json",
  python: "text/x-python",
};
const KEYS: Record<string, "workflow_api" | "workflow" | "notebook" | "python"> = {
  api: "workflow_api",
  ui: "workflow",
  notebook: "notebook",
  python: "python",
};

type ExportProps = {
  transport: Transport;
  title: string;
  folder: string | null;
  format: string;
  onFormat: (format: string) => void;
  /** The fields of a request that name the workflow with its values. */
  given: () => Promise<object>;
};

export function Export({ transport, title, folder, format, onFormat, given }: ExportProps) {
  const task = useTask();
  const stem = title.replace(/[^\p{L}\p{N}\-_. ]/gu, "-").replace(/^[ .-]+|[ .-]+$/g, "");
  const suggested = `${stem || "workflow"}${SUFFIXES[format] ?? ""}`;
  const path = useSignal(suggested);
  const replace = useSignal(false);
  const state = useSignal("");
  useEffect(() => {
    path.value = suggested;
    state.value = "";
  }, [suggested]);
  const write = () =>
    task.run(async () => {
      state.value = "";
      const file = path.value.trim();
      const whole = file.startsWith("/") || !folder ? file : `${folder}/${file}`;
      const body = { ...(await given()), to: format, path: whole, replace: replace.value };
      const written = await transport.post<{ path: string }>("workflow/export", body);
      state.value = `Written to ${written.path}`;
    });
  const download = () =>
    task.run(async () => {
      state.value = "";
      const body = { ...(await given()), to: format, text: true };
      const made = await transport.post<Record<string, string>>("workflow/convert", body);
      const text = made[KEYS[format] ?? ""] ?? "";
      const name = path.value.trim().split("/").at(-1) || "workflow";
      saveFile(name, new Blob([text], { type: MIMES[format] ?? "" }));
    });
  return (
    <div class="cd-rows">
      <Select label="Format" value={format} options={FORMATS} onChange={onFormat} />
      <TextField label="File" placeholder="relative to the folder of the notebook" bind={path} />
      <Checkbox label="Replace a file of that name" bind={replace} />
      <div class="cd-line">
        <Button
          label="Write"
          icon="file"
          hint="Write the file beside the notebook"
          primary
          disabled={task.busy.value}
          onClick={write}
        />
        <Button label="Download" icon="download" disabled={task.busy.value} onClick={download} />
        <Note live>{state.value}</Note>
      </div>
      <ErrorBox text={task.error.value} />
    </div>
  );
}
