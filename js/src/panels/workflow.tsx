/** Stored workflows: search, open, compare, validate, save, export and run them. */

import { effect, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { Down } from "../components/down.tsx";
import { Button, ErrorBox, Note, Tabs, useId } from "../components/ui.tsx";
import { messageOf } from "../format.ts";
import type { ServerFacts } from "../server.ts";
import type { Inputs, Source } from "../state/form.ts";
import { localTraits, type PanelProps, type Traits } from "../state/traits.ts";
import type { Transport } from "../transport.ts";
import { WorkflowList } from "../workflows/list.tsx";
import {
  Changes,
  Export,
  Nodes,
  type Outline,
  Save,
  type Validation,
  type Version,
  versionLabel,
} from "../workflows/sections.tsx";
import { type Entry, MAX_LISTED, type Opened, type Target } from "../workflows/source.ts";
import { RunPanel, type RunTraits } from "./run.tsx";

const MAX_VERSIONS = 1000;

/** What page and Python share. */
export type WorkflowTraits = {
  server: ServerFacts;
  /** The stored workflow that is open; empty if it is not stored. */
  workflow_id: string;
  version: number | null;
  /** The graphs that are open, as text; empty if they are those of the version. */
  source: Source;
  title: string;
  /** The inputs that were changed in the tab Run. */
  values: Inputs;
  search_text: string;
  cloud: boolean;
  /** The folder of the notebook; empty if Python does not know it. */
  directory: string;
  tab: string;
  /** The format of exported files. */
  format: string;
  validation: Validation | null;
  /** Whether another panel runs workflows. */
  runs_elsewhere: boolean;
  /** The id of its widget; empty if only Python knows it. */
  runner: string;
  /** Increases when the open workflow is to be run by it. */
  run_requests: number;
};

type Details = { outline: Outline; versions: Version[]; source: Source };

export function WorkflowPanel({ transport, traits, kernel, child }: PanelProps<WorkflowTraits>) {
  const root = useRef<HTMLDivElement>(null);
  const details = useSignal<Details | null>(null);
  const problem = useSignal("");
  const key = useSignal("");
  const stored = useSignal<Entry[]>([]);
  const turn = useSignal(0);
  const target: Target = traits.cloud.value ? "cloud" : null;
  const id = traits.workflow_id.value;
  const version = traits.version.value;
  const given = traits.source.value;
  const isGiven = Boolean(given.workflow_api || given.workflow);
  const isOpen = id !== "" || isGiven;

  const onOpen = async ({ title, source, key: opened }: Opened) => {
    key.value = opened ?? "";
    problem.value = "";
    const { workflow_id = "", version: number, ...graphs } = source;
    const change = { workflow_id, title, validation: null, values: {} };
    if (target && workflow_id) {
      // The routes that show a workflow know those of this server only.
      try {
        const found = await copyOf(transport, workflow_id, target, number);
        traits.set({ ...change, source: found, version: Number(number) || null });
      } catch (error) {
        problem.value = messageOf(error);
      }
    } else traits.set({ ...change, source: graphs, version: Number(number) || null });
  };

  // Python may open a workflow, too.
  useEffect(() => {
    if (!isOpen) {
      details.value = null;
      return;
    }
    const ending = new AbortController();
    const load = async () => {
      try {
        const query = { workflow_id: id, limit: MAX_VERSIONS, target };
        const listed = id
          ? await transport.get<Version[]>("workflow/versions", query, ending.signal)
          : [];
        const number = version ?? listed[0]?.version ?? null;
        const source = isGiven ? given : { workflow_id: id, ...(number && { version: number }) };
        const outline = await transport.post<Outline>("workflow/outline", source, ending.signal);
        if (ending.signal.aborted) return;
        problem.value = "";
        details.value = { outline, versions: listed, source };
        const title = traits.title.peek() || outline.title;
        if (number !== version || title !== traits.title.peek()) {
          traits.set({ version: number, title });
        }
      } catch (error) {
        if (!ending.signal.aborted) problem.value = messageOf(error);
      }
    };
    load();
    return () => ending.abort();
  }, [transport, target, id, version, given]);

  const open = details.value;
  const title = traits.title.value;
  const run = useRunTraits(traits, open);

  const runner = traits.runner.value;
  /** What the panel that runs workflows shows of the open one; null if that is another one. */
  const shownThere = async (): Promise<{ values: Inputs } | null> => {
    if (!runner || !child) return null;
    const names = ["shown_workflow", "values"];
    const { shown_workflow, values } = await child.get(runner, names);
    const shown = (shown_workflow as Opened | null)?.source;
    return shown && open && isSame(shown, open.source) ? { values: values as Inputs } : null;
  };
  const runThere = async () => {
    if (runner && open && !(await shownThere())) {
      const { source, outline } = open;
      const shown_workflow = { title, source, warnings: outline.warnings, key: key.value };
      child?.set(runner, { result: null, shown_workflow, values: {}, locked: null });
    }
    traits.set({ run_requests: traits.run_requests.peek() + 1 });
  };

  /** The fields of a request with the graph and the valid values that were changed under Run. */
  const withValues = async () => {
    const inputs = (await shownThere())?.values ?? run.values.peek();
    const source = open?.source ?? {};
    return Object.keys(inputs).length ? { ...source, inputs } : source;
  };
  const graphs = async (): Promise<Source> => {
    const asked = await withValues();
    if (!("inputs" in asked) && (asked.workflow_api || asked.workflow)) return asked;
    const body = { ...asked, to: "api", text: true };
    const { workflow_api, workflow } = await transport.post<Source>("workflow/convert", body);
    return { ...(workflow_api && { workflow_api }), ...(workflow && { workflow }) };
  };
  const onChanged = (changed: string, entry: Entry | null) => {
    if (changed !== traits.workflow_id.peek()) return;
    if (entry) traits.set({ title: entry.title });
    else forget();
  };
  /** A deleted workflow stays open. */
  const forget = async () => {
    const source = open?.source.workflow_id ? await graphsOf(transport, open.source) : given;
    traits.set({ workflow_id: "", version: null, source });
    key.value = "";
  };

  const chosen = id ? `stored:${id}` : key.value;
  const tabs = {
    Nodes: () =>
      open && (
        <Nodes
          transport={transport}
          outline={open.outline}
          current={graphs}
          validation={traits.validation.value}
          onValidated={(validation) => traits.set({ validation })}
        />
      ),
    Compare: () =>
      open && (
        <Changes
          transport={transport}
          target={target}
          workflowId={id}
          versions={open.versions}
          opened={version}
        />
      ),
    Save: () => (
      <Save
        transport={transport}
        target={target}
        title={title}
        workflowId={id}
        stored={stored.value}
        graphs={graphs}
        onSaved={(saved, number, name) => {
          turn.value += 1;
          const opened = { title: name, source: { workflow_id: saved, version: number } };
          onOpen({ ...opened, warnings: [] });
        }}
      />
    ),
    Export: () => (
      <Export
        transport={transport}
        title={title}
        folder={traits.directory.value || null}
        format={traits.format.value}
        onFormat={(format) => traits.set({ format })}
        given={withValues}
      />
    ),
    ...(!traits.runs_elsewhere.value && {
      Run: () => <RunPanel transport={transport} traits={run} kernel={kernel} />,
    }),
  };
  const number = version ?? open?.versions[0]?.version;
  const about =
    id && number
      ? `version ${number} of ${open?.versions[0]?.version ?? number}`
      : "not stored yet";
  return (
    <div class="comfydeploy-workflows cd-wide" ref={root}>
      {target === null && <Down transport={transport} root={root} />}
      <WorkflowList
        transport={transport}
        target={target}
        folder={traits.directory.value || null}
        search={traits.search_text.value}
        onSearch={(text) => traits.set({ search_text: text })}
        chosen={chosen}
        onOpen={onOpen}
        onChanged={onChanged}
        onListed={(found) => {
          stored.value = found.slice(0, MAX_LISTED);
        }}
        turn={turn.value}
      />
      <div class="cd-rows comfydeploy-open">
        {open ? (
          <div class="cd-line">
            <div class="cd-grow">
              <b class="cd-whole">{title || "Workflow"}</b>{" "}
              <span class="comfydeploy-note">
                {about}, {open.outline.nodes.length} nodes
              </span>
              {open.outline.warnings.map((text) => (
                <Note key={text}>The conversion is not exact: {text}</Note>
              ))}
            </div>
            {traits.runs_elsewhere.value && (
              <Button
                label="Run …"
                icon="play"
                hint="Run this workflow, with other values if you like"
                primary
                onClick={runThere}
              />
            )}
          </div>
        ) : (
          !problem.value && (
            <Note>{isOpen ? "Opening …" : "Choose a workflow, or open a file."}</Note>
          )
        )}
        <ErrorBox text={problem.value} />
        {open && id && (
          <Versions
            versions={open.versions}
            chosen={number ?? null}
            onChoose={(wanted) =>
              onOpen({ title, source: { workflow_id: id, version: wanted }, warnings: [] })
            }
          />
        )}
        {open && (
          <Tabs
            label="What to do with the workflow"
            tabs={tabs}
            shown={traits.tab.value in tabs ? traits.tab.value : "Nodes"}
            onShow={(tab) => traits.set({ tab })}
          />
        )}
      </div>
    </div>
  );
}

/** The traits of the panel below Run, which begins anew with each workflow that is opened. */
function useRunTraits(traits: Traits<WorkflowTraits>, open: Details | null) {
  const run = useMemo(
    () =>
      localTraits<RunTraits>({
        server: traits.server.peek(),
        shown_workflow: null,
        values: {},
        locked: null,
        varied: {},
        batch: "",
        machine: null,
        directory: "",
        queued: [],
        runs: [],
        result: null,
      }),
    [],
  );
  const shown = useRef("");
  useEffect(() => {
    const source = open?.source;
    if (!source || JSON.stringify(source) === shown.current) return;
    shown.current = JSON.stringify(source);
    const shown_workflow = { title: traits.title.peek(), source, warnings: [] };
    run.set({ values: {}, varied: {}, batch: "", shown_workflow });
  }, [open]);
  useEffect(() => effect(() => traits.set({ values: run.values.value })), [run, traits]);
  return run;
}

/** Whether two sources are the same version, or the same graphs. */
function isSame(one: Source, other: Source): boolean {
  const names = ["workflow_id", "version", "workflow_api", "workflow"] as const;
  return names.every((name) => String(one[name] ?? "") === String(other[name] ?? ""));
}

/** Return the graphs of a version as text. */
async function graphsOf(transport: Transport, source: Source): Promise<Source> {
  const body = { ...source, to: "api", text: true };
  const { workflow_api, workflow } = await transport.post<Source>("workflow/convert", body);
  return { ...(workflow_api && { workflow_api }), ...(workflow && { workflow }) };
}

async function copyOf(
  transport: Transport,
  workflow_id: string,
  target: string,
  version: number | string | undefined,
): Promise<Source> {
  const body = { workflow_id, ...(version && { version }), to: "api", text: true };
  const found = await transport.request<Source>("POST", "workflow/convert", {
    query: { target },
    body,
  });
  const { workflow_api, workflow } = found;
  return { ...(workflow_api && { workflow_api }), ...(workflow && { workflow }) };
}

/** The versions, of which one is open. */
function Versions(props: {
  versions: Version[];
  chosen: number | null;
  onChoose: (version: number) => void;
}) {
  const id = useId();
  const { versions, chosen, onChoose } = props;
  return (
    <div class="comfydeploy-versions">
      <label htmlFor={id}>Versions</label>
      <select
        id={id}
        size={Math.min(Math.max(2, versions.length), 6)}
        onChange={(event) => onChoose(Number(event.currentTarget.value))}
      >
        {versions.map((each) => (
          <option
            key={each.version}
            value={String(each.version)}
            selected={each.version === chosen}
          >
            {versionLabel(each)}
          </option>
        ))}
      </select>
    </div>
  );
}
