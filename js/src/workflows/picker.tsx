/** Chooses a workflow: a field with all of them, its versions, files, and ways to begin. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Combo } from "../components/combo.tsx";
import { FileButton, useDrop } from "../components/files.tsx";
import {
  ErrorBox,
  Icon,
  IconButton,
  Labelled,
  Select,
  usePolling,
  useTask,
} from "../components/ui.tsx";
import { counted } from "../format.ts";
import type { IconName } from "../icons.ts";
import type { Transport } from "../transport.ts";
import {
  ACCEPTED,
  type Entry,
  keyOf,
  LIST_INTERVAL,
  lastUsed,
  listEditor,
  listFiles,
  listStored,
  listTemplates,
  noteUsed,
  type Opened,
  open,
  openFile,
  openText,
} from "./source.ts";

const TYPING = 300; // ms without a key after which the server searches
const NOTES = { stored: "stored", file: "file", editor: "ComfyUI's editor" };
const LATEST = 5; // workflows of each kind that are offered to begin with

/** All workflows that can be chosen; empty until they are known. */
export type Choices = {
  entries: Entry[];
  templates: Entry[];
  isLoaded: boolean;
  /** List them again. */
  refresh: () => void;
  /** List the stored ones again: another panel may have stored one. */
  look: (signal: AbortSignal) => Promise<void>;
  /** Search the stored ones, of which only the last changed are listed. */
  search: (text: string) => void;
};

/** List what can be chosen once it is time; `folder` is that of the notebook, if it is known. */
export function useChoices(transport: Transport, folder: string | null, isTime: boolean): Choices {
  const stored = useSignal<Entry[]>([]);
  const files = useSignal<Entry[]>([]);
  const editor = useSignal<Entry[]>([]);
  const templates = useSignal<Entry[]>([]);
  const isLoaded = useSignal(false);
  const ending = useRef<AbortController | null>(null);
  const listing = useRef<Promise<void> | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  const addStored = (found: Entry[]) => {
    const known = new Set(found.map(keyOf));
    stored.value = [...found, ...stored.value.filter((each) => !known.has(keyOf(each)))];
  };
  const list = async () => {
    ending.current?.abort();
    ending.current = new AbortController();
    const { signal } = ending.current;
    const into = async (listed: Promise<Entry[]>, set: (found: Entry[]) => void) => {
      const found = await listed.catch(() => null); // the next request shows the same error
      if (found && !signal.aborted) set(found);
    };
    await Promise.all([
      into(listStored(transport, "", null, signal), (found) => {
        stored.value = found;
      }),
      into(
        folder === null ? Promise.resolve([]) : listFiles(transport, folder, signal),
        (found) => {
          files.value = found;
        },
      ),
      into(listEditor(transport, signal), (found) => {
        editor.value = found;
      }),
      into(listTemplates(transport, signal), (found) => {
        templates.value = found;
      }),
    ]);
    if (!signal.aborted) isLoaded.value = true;
  };
  const refresh = () => {
    listing.current = list();
  };
  const search = (text: string) => {
    clearTimeout(timer.current);
    if (!text.trim()) return;
    timer.current = setTimeout(async () => {
      await listing.current; // which replaces what was found
      listStored(transport, text, null, ending.current?.signal).then(addStored, () => {});
    }, TYPING);
  };
  const look = async (signal: AbortSignal) => {
    const found = await listStored(transport, "", null, signal).catch(() => null); // as above
    if (found && !signal.aborted && isLoaded.value) stored.value = found;
  };
  const isDue = useRef(isTime);
  isDue.current ||= isTime;
  useEffect(() => {
    if (isDue.current) refresh();
    return () => {
      clearTimeout(timer.current);
      ending.current?.abort();
    };
  }, [transport, folder, isDue.current]);
  return {
    entries: [...stored.value, ...files.value, ...editor.value],
    templates: templates.value,
    isLoaded: isLoaded.value,
    refresh,
    look,
    search,
  };
}

type PickerProps = {
  transport: Transport;
  choices: Choices;
  /** The workflow that is shown; null if none is. */
  shown: Pick<Opened, "title" | "source" | "key"> | null;
  onOpen: (opened: Opened) => void;
};

/** A field with all workflows, their versions, and a button that opens a file. */
export function WorkflowPicker({ transport, choices, shown, onOpen }: PickerProps) {
  const root = useRef<HTMLDivElement>(null);
  const { take, takeFile, error, fail } = useOpening(transport, onOpen, true);
  useDrop(root, {
    accept: ACCEPTED,
    take: ([file]) => file && takeFile(file),
    refuse: (file) => fail(`${file.name} is no file in which ComfyUI saves workflows`),
    wholePanel: true,
  });
  usePaste(root, transport, onOpen, fail);
  const entries = listed(choices.entries);
  const present = shown && keyOfShown(shown);
  const options = entries.map((entry) => ({
    value: keyOf(entry),
    text: entry.title,
    note: NOTES[entry.kind as keyof typeof NOTES],
  }));
  const hasShown = options.some(({ value }) => value === present);
  if (shown && !hasShown) {
    options.unshift({ value: present ?? "", text: shown.title || "Given workflow", note: "" });
  }
  const hint =
    choices.isLoaded && !options.length
      ? "There is no workflow here. Open one from your computer."
      : "Search workflow files and stored workflows";
  return (
    <div class="cd-rows cd-picker" ref={root}>
      <div class="cd-line">
        <div class="cd-grow">
          <Labelled label="Workflow">
            {(id) => (
              <Combo
                id={id}
                label="Workflow"
                value={present ?? null}
                options={options}
                placeholder={hint}
                onType={choices.search}
                onOpen={choices.refresh}
                onChoose={(key) => {
                  const entry = entries.find((each) => keyOf(each) === key);
                  if (entry) take(entry);
                }}
              />
            )}
          </Labelled>
        </div>
        {shown?.source.workflow_id && (
          <VersionChooser
            title={shown.title}
            id={shown.source.workflow_id}
            version={Number(shown.source.version) || undefined}
            latest={entries.find((each) => keyOf(each) === present)?.version}
            onOpen={onOpen}
          />
        )}
        <IconButton icon="refresh" label="Search for workflows again" onClick={choices.refresh} />
        <FileButton
          label="Open"
          accept={ACCEPTED}
          hint="Open a workflow of your computer: a JSON file, or a picture that ComfyUI made"
          onFiles={([file]) => file && takeFile(file)}
        />
      </div>
      <ErrorBox text={error} />
    </div>
  );
}

/** What opens workflows; of several requests at the same time, the last one is shown. */
export function useOpening(
  transport: Transport,
  onOpen: (opened: Opened) => void,
  /** Whether the forms of the workflows are shown. */
  form = false,
) {
  const task = useTask();
  const failed = useSignal("");
  const last = useRef<AbortController | null>(null);
  const carryOut = (opening: (signal: AbortSignal) => Promise<Opened>, entry?: Entry) => {
    last.current?.abort();
    const ending = new AbortController();
    last.current = ending;
    failed.value = "";
    return task.run(async () => {
      try {
        const opened = await opening(ending.signal);
        if (ending.signal.aborted) return;
        if (entry) noteUsed(entry);
        onOpen(opened);
      } catch (problem) {
        if (!ending.signal.aborted) throw problem;
      }
    });
  };
  useEffect(() => () => last.current?.abort(), []);
  return {
    take: (entry: Entry) => carryOut((signal) => open(transport, entry, signal, form), entry),
    takeFile: (file: File) => carryOut((signal) => openFile(transport, file, signal)),
    busy: task.busy.value,
    error: failed.value || task.error.value,
    fail: (text: string) => {
      failed.value = text;
    },
  };
}

/** Open a workflow that is pasted into the panel, but not into a field. */
function usePaste(
  root: { current: HTMLElement | null },
  transport: Transport,
  onOpen: (opened: Opened) => void,
  fail: (text: string) => void,
): void {
  const latest = useRef(onOpen);
  latest.current = onOpen;
  useEffect(() => {
    const panel = root.current?.closest(".comfydeploy-panel");
    const onPaste = async (event: Event) => {
      const { target, clipboardData } = event as ClipboardEvent;
      if (target instanceof Element && target.closest("input, textarea, [contenteditable]")) return;
      const file = clipboardData?.files[0];
      const text = clipboardData?.getData("text/plain") ?? "";
      if (!file && !text.trimStart().startsWith("{")) return;
      event.preventDefault();
      try {
        const opened = file ? await openFile(transport, file) : await openText(transport, text);
        if (opened) latest.current(opened);
      } catch (problem) {
        fail(problem instanceof Error ? problem.message : String(problem));
      }
    };
    panel?.addEventListener("paste", onPaste);
    return () => panel?.removeEventListener("paste", onPaste);
  }, [root, transport]);
}

/** The versions of a stored workflow; nothing if there is only one. */
function VersionChooser(props: {
  title: string;
  id: string;
  version: number | undefined;
  latest: number | undefined;
  onOpen: (opened: Opened) => void;
}) {
  const { title, id, version, latest = 1, onOpen } = props;
  const most = Math.max(latest, version ?? 1);
  if (most < 2) return null;
  const numbers = Array.from({ length: most }, (_, index) => String(most - index));
  return (
    <Select
      label="Version"
      value={String(version ?? most)}
      options={numbers.map((number) => [number, number])}
      onChange={(number) =>
        onOpen({ title, source: { workflow_id: id, version: Number(number) }, warnings: [] })
      }
    />
  );
}

/** The last used ones first. */
function listed(entries: Entry[]): Entry[] {
  const used = lastUsed().map(keyOf);
  const rank = (entry: Entry) => {
    const place = used.indexOf(keyOf(entry));
    return place < 0 ? used.length : place;
  };
  return [...entries].sort((one, other) => rank(one) - rank(other));
}

function keyOfShown({ key, source }: Pick<Opened, "source" | "key">): string {
  return source.workflow_id ? `stored:${source.workflow_id}` : (key ?? "given");
}

/** Shown by a panel without a workflow: what was used last, files, stored ones, and templates. */
export function WorkflowStart({ transport, choices, onOpen }: Omit<PickerProps, "shown">) {
  const { take, takeFile, error } = useOpening(transport, onOpen, true);
  const of = (kind: Entry["kind"]) => choices.entries.filter((each) => each.kind === kind);
  const files = of("file").slice(0, LATEST);
  const stored = of("stored").slice(0, LATEST);
  const examples = choices.templates.filter(({ kind }) => kind === "example");
  const templates = choices.templates.filter(({ kind }) => kind === "template");
  const used = lastUsed().slice(0, LATEST);
  const root = useRef<HTMLDivElement>(null);
  usePolling(root, async (signal) => {
    if (choices.isLoaded) await choices.look(signal);
    return LIST_INTERVAL;
  });
  const choice = (icon: IconName) => (entry: Entry) => (
    <button
      type="button"
      key={keyOf(entry)}
      class="cd-button"
      title={entry.title}
      onClick={() => take(entry)}
    >
      <Icon name={icon} /> <span class="cd-cut">{entry.title}</span>
    </button>
  );
  return (
    <div class="comfydeploy-start" ref={root}>
      {used.length > 0 && <Card title="Used last">{used.map(choice("history"))}</Card>}
      <Card title="A file" text="A workflow, or a picture, video or sound that ComfyUI made.">
        {files.map(choice("file-o"))}
        <FileButton
          label="Open a file of this computer …"
          accept={ACCEPTED}
          onFiles={([file]) => file && takeFile(file)}
        />
      </Card>
      <Card
        title="A stored workflow"
        text={
          stored.length
            ? "Changed last:"
            : "There is none yet. Use WorkflowPanel to store workflows."
        }
      >
        {stored.map(choice("bookmark-o"))}
      </Card>
      <Card
        title="An example"
        text={
          examples.length
            ? "These workflows can run on this ComfyUI."
            : "ComfyUI does not answer yet."
        }
      >
        {examples.map(choice("play"))}
        {templates.length > 0 && (
          <Combo
            label="Templates of ComfyUI"
            value={null}
            placeholder={`Search ${counted(templates.length, "template")} of ComfyUI`}
            options={templates.map((each) => ({
              value: keyOf(each),
              text: each.title,
              note: each.note,
            }))}
            onChoose={(key) => {
              const entry = templates.find((each) => keyOf(each) === key);
              if (entry) take(entry);
            }}
          />
        )}
      </Card>
      <ErrorBox text={error} />
    </div>
  );
}

function Card(props: { title: string; text?: string; children: ComponentChildren }) {
  return (
    <section class="cd-card" aria-label={props.title}>
      <div class="cd-heading">{props.title}</div>
      {props.text && <p class="cd-faint">{props.text}</p>}
      {props.children}
    </section>
  );
}
