/** The list of WorkflowPanel: stored workflows, files, and workflows of ComfyUI's editor. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { FileButton, useDrop } from "../components/files.tsx";
import {
  Button,
  ErrorBox,
  Icon,
  IconButton,
  Note,
  TextField,
  useId,
  usePolling,
} from "../components/ui.tsx";
import { containsWords, messageOf, searchWords } from "../format.ts";
import { mediaOf, Picture, useSeen } from "../media.tsx";
import type { ShownFile } from "../shown_runs.ts";
import type { Transport } from "../transport.ts";
import { useOpening } from "./picker.tsx";
import {
  ACCEPTED,
  type Entry,
  keyOf,
  LIST_INTERVAL,
  listEditor,
  listFiles,
  listStored,
  MAX_LISTED,
  type Opened,
  open,
  openFile,
  type Stored,
  type Target,
} from "./source.ts";

const ENDING = /\.(json|png|webp|flac|mp3|opus|mp4|webm|latent)$/i; // of files with workflows
const SIDE = 96; // pixels of a small copy
const LOOKED_AT = 5; // of the last runs that are searched for a picture
const TYPING = 300; // ms without a key after which the server searches
const STEPS: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
const GROUPS = {
  stored: "Stored",
  file: "Files beside the notebook",
  editor: "In ComfyUI's editor",
  template: "",
  example: "",
};

/** What happened, and whether it can be undone. */
type Notice = { text: string; undo?: () => Promise<void>; isProblem?: boolean };

type Edited = { url: string; origin: string };
type Saved = { id: string; name: string; latest_version: number | null };

export type ListProps = {
  transport: Transport;
  target: Target;
  /** The folder of the notebook, if it is known. */
  folder: string | null;
  search: string;
  onSearch: (text: string) => void;
  /** The key of the workflow that is open. */
  chosen: string;
  onOpen: (opened: Opened) => void;
  /** Called with a stored workflow that was changed; null if it was deleted. */
  onChanged: (id: string, changed: Entry | null) => void;
  /** Called with the stored workflows that are listed without a search. */
  onListed: (stored: Entry[]) => void;
  /** Increases when the workflows must be listed again. */
  turn: number;
};

export function WorkflowList(props: ListProps) {
  const { transport, target, folder, search, onSearch, chosen, onOpen, onChanged } = props;
  const root = useRef<HTMLDivElement>(null);
  const stored = useSignal<Entry[]>([]);
  const others = useSignal<Entry[]>([]);
  const isLoaded = useSignal(false);
  const lost = useSignal("");
  const notice = useSignal<Notice | null>(null);
  const turn = useSignal(0);
  const isEdited = useRef(false);
  const listing = useRef<AbortController | null>(null);
  const opening = useOpening(transport, onOpen);
  const isEditable = target === null;

  const list = async (): Promise<Entry[]> => {
    listing.current?.abort();
    const ending = new AbortController();
    listing.current = ending;
    try {
      const found = await listStored(transport, search, target, ending.signal);
      if (ending.signal.aborted) return [];
      stored.value = found;
      lost.value = "";
      if (!search) props.onListed(found);
      return found;
    } catch (error) {
      if (!ending.signal.aborted) lost.value = messageOf(error);
      return [];
    } finally {
      if (!ending.signal.aborted) isLoaded.value = true;
    }
  };
  const listOthers = async () => {
    const [files, editor] = await Promise.all([
      folder === null ? [] : listFiles(transport, folder),
      listEditor(transport),
    ]);
    others.value = [...files, ...editor];
  };
  useEffect(() => {
    const timer = setTimeout(list, search && isLoaded.value ? TYPING : 0);
    return () => clearTimeout(timer);
  }, [search, target, transport, props.turn]);
  useEffect(() => {
    listOthers();
  }, [folder, transport]);
  useEffect(() => () => listing.current?.abort(), []);
  usePolling(root, async () => {
    // another panel may have stored one; ComfyDeploy is not asked all the time
    if (isLoaded.value && isEditable) await list();
    return LIST_INTERVAL;
  });

  const words = searchWords(search);
  const matching = (kind: Entry["kind"]) =>
    others.value
      .filter((each) => each.kind === kind && containsWords(each.title, words))
      .slice(0, MAX_LISTED);
  const entries = [...stored.value, ...matching("file"), ...matching("editor")];
  const entry = entries.find((each) => keyOf(each) === chosen);

  /** Do something that changes stored workflows; say what has happened. */
  const change = async (action: () => Promise<Notice>) => {
    try {
      notice.value = await action();
    } catch (error) {
      notice.value = { text: messageOf(error), isProblem: true };
    }
    await list();
  };
  const update = (body: { workflow_id: string; name?: string; tags?: string[] }) =>
    change(async () => {
      const changed = await transport.post<Stored & Saved>("workflow/update", body);
      const { id, name, latest_version: version, tags = [] } = changed;
      onChanged(id, { kind: "stored", name: id, title: name, note: "", version: version ?? 1 });
      if (body.name !== undefined) return { text: `Renamed to ${name}.` };
      return { text: tags.length ? `Tags: ${tags.join(", ")}.` : "It has no tags now." };
    });
  const remove = ({ name: id, title }: Entry) =>
    change(async () => {
      await transport.post("workflow/delete", { workflow_id: id });
      onChanged(id, null);
      const undo = () =>
        change(async () => {
          const body = { workflow_id: id };
          const restored = await transport.post<Saved>("workflow/restore", body);
          await opening.take(storedOf(restored));
          return { text: `${restored.name} was restored.` };
        });
      return { text: `${title} is deleted.`, undo };
    });
  const keep = async (opened: Opened): Promise<Notice> => {
    const name = opened.title.replace(ENDING, "") || "Workflow";
    const body = { ...opened.source, name, target };
    const saved = await transport.post<Saved>("workflow", body);
    await opening.take(storedOf(saved));
    const undo = () =>
      change(async () => {
        await transport.post("workflow/delete", { workflow_id: saved.id });
        onChanged(saved.id, null);
        return { text: "It is not stored any more." };
      });
    return {
      text: `${saved.name} is stored on the server now.`,
      ...(isEditable && { undo }),
    };
  };
  const keepFiles = (files: File[]) =>
    change(async () => {
      const problems: string[] = [];
      let last: Notice = { text: "" };
      for (const file of files) {
        try {
          last = await keep(await openFile(transport, file));
        } catch (error) {
          problems.push(`${file.name} was not stored: ${messageOf(error)}`);
        }
      }
      return problems.length ? { text: problems.join("\n"), isProblem: true } : last;
    });
  useDrop(root, { take: keepFiles });

  /** Open a tab at once: a browser refuses it after the request. */
  const edit = async ({ name: workflow_id }: Entry) => {
    const tab = window.open("", "_blank");
    try {
      const reply = await transport.post<Edited>("workflow/edit", { workflow_id });
      isEdited.current = true;
      // The page may use another address of the server than the kernel.
      const from = transport.base === null ? reply.origin : location.href;
      const address = new URL(reply.url, from).href;
      if (tab) tab.location.href = address;
      else window.open(address, "_blank");
    } catch (error) {
      tab?.close();
      notice.value = { text: messageOf(error), isProblem: true };
    }
  };
  const lookForVersions = async () => {
    if (!isEdited.current) return;
    const before = new Map(stored.value.map(({ name, version }) => [name, version]));
    for (const found of await list()) {
      if (!before.has(found.name) || before.get(found.name) === found.version) continue;
      notice.value = { text: `${found.title} has a new version ${found.version}.` };
      if (keyOf(found) === chosen) opening.take(found);
    }
  };
  const look = useRef(lookForVersions);
  look.current = lookForVersions;
  useEffect(() => {
    const onFocus = () => look.current();
    window.addEventListener("focus", onFocus);
    return () => window.removeEventListener("focus", onFocus);
  }, []);

  const asked = useSignal<"name" | "tags" | null>(null);
  useEffect(() => {
    asked.value = null;
  }, [chosen]);
  const box = useRef<HTMLDivElement>(null);
  const close = () => {
    asked.value = null;
    box.current?.focus();
  };
  const many = `These ${MAX_LISTED} were changed last. Search to find others.`;
  const none = search ? "No workflow matches" : "No workflows are stored yet";
  return (
    <div class="comfydeploy-side cd-rows" ref={root}>
      <TextField
        label="Search"
        type="search"
        placeholder="in names, tags and comments"
        value={search}
        onInput={onSearch}
      />
      <div class="comfydeploy-view comfydeploy-workflow-list">
        <ListBox
          box={box}
          entries={entries}
          chosen={chosen}
          picture={(each) =>
            isEditable &&
            each.kind === "stored" && (
              <LastPicture transport={transport} workflowId={each.name} turn={turn.value} />
            )
          }
          onChoose={opening.take}
          onRename={isEditable ? () => entry?.kind === "stored" && ask("name") : undefined}
          onDelete={isEditable ? remove : undefined}
        />
        <div class="cd-faint">Drop workflow files here to store them.</div>
        {entry?.kind === "stored" && isEditable && (
          <div class="cd-line cd-actions">
            <Button
              label="Edit in ComfyUI"
              icon="sitemap"
              hint={`Open ${entry.title} in ComfyUI's page`}
              onClick={() => edit(entry)}
            />
            <Button
              label="Rename …"
              icon="pencil"
              hint={`Rename ${entry.title} (F2)`}
              onClick={() => ask("name")}
            />
            <Button
              label="Tags …"
              icon="tags"
              hint={`Change the tags of ${entry.title}`}
              onClick={() => ask("tags")}
            />
            <Button
              label="Delete"
              icon="trash-o"
              hint={`Delete ${entry.title} (Del); can be undone`}
              onClick={() => remove(entry)}
            />
          </div>
        )}
        {entry && entry.kind !== "stored" && (
          <div class="cd-line cd-actions">
            <Button
              label="Keep"
              icon="bookmark-o"
              hint={`Keep ${entry.title} on the server`}
              onClick={() => change(async () => keep(await open(transport, entry)))}
            />
          </div>
        )}
        {entry && asked.value === "name" && (
          <Question
            label={`New name of ${entry.title}`}
            value={entry.title}
            most={255}
            onDone={(name) => {
              close();
              if (name && name !== entry.title) update({ workflow_id: entry.name, name });
            }}
            onCancel={close}
          />
        )}
        {entry && asked.value === "tags" && (
          <Question
            label={`Tags of ${entry.title}, separated by commas`}
            value={(entry.tags ?? []).join(", ")}
            most={3000}
            onDone={(text) => {
              close();
              const tags = text.split(",").map((tag) => tag.trim());
              update({ workflow_id: entry.name, tags: tags.filter(Boolean) });
            }}
            onCancel={close}
          />
        )}
        {notice.value?.text && (
          <div
            class={`cd-line cd-message${notice.value.isProblem ? " cd-problem" : ""}`}
            role="status"
          >
            <span class="cd-grow">{notice.value.text}</span>
            {notice.value.undo && <Button label="Undo" icon="undo" onClick={notice.value.undo} />}
          </div>
        )}
      </div>
      {!entries.length && <Note live>{isLoaded.value ? none : "Connecting …"}</Note>}
      {stored.value.length === MAX_LISTED && <Note live>{many}</Note>}
      <div class="cd-line">
        <FileButton
          label="Open a file"
          accept={ACCEPTED}
          hint="Open a workflow, or the one in a picture, video or sound, from your computer"
          onFiles={([file]) => file && opening.takeFile(file)}
        />
        <IconButton
          icon="refresh"
          label="List the workflows again"
          onClick={() => {
            list();
            listOthers();
            turn.value += 1; // there may be new results, too
          }}
        />
      </div>
      <ErrorBox text={opening.error || lost.value} />
    </div>
  );

  function ask(what: "name" | "tags") {
    asked.value = what;
  }
}

function storedOf({ id, name, latest_version: version }: Saved): Entry {
  return { kind: "stored", name: id, title: name, note: "", ...(version && { version }) };
}

type ListBoxProps = {
  box: { current: HTMLDivElement | null };
  entries: Entry[];
  chosen: string;
  picture: (entry: Entry) => ComponentChildren;
  onChoose: (entry: Entry) => void;
  onRename: (() => void) | undefined;
  onDelete: ((entry: Entry) => void) | undefined;
};

/** The list box: arrows move in it, Enter chooses, F2 renames and Delete deletes the chosen one. */
function ListBox(props: ListBoxProps) {
  const { box, entries, chosen, picture, onChoose, onRename, onDelete } = props;
  const id = useId();
  const active = useSignal(chosen);
  useEffect(() => {
    if (chosen) active.value = chosen;
  }, [chosen]);
  const at = entries.findIndex((each) => keyOf(each) === active.value);
  useEffect(() => {
    box.current?.querySelector(".cd-active")?.scrollIntoView({ block: "nearest" });
  }, [active.value]);
  const choose = (entry: Entry) => {
    active.value = keyOf(entry);
    onChoose(entry);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const at = entries.findIndex((each) => keyOf(each) === active.value);
    const entry = entries[at];
    const step = STEPS[event.key];
    let next: number | null = null;
    if (step !== undefined) next = at < 0 ? 0 : at + step;
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = entries.length - 1;
    const isChosen = entry?.kind === "stored" && keyOf(entry) === chosen;
    if (next !== null) {
      const reached = entries[Math.max(0, Math.min(entries.length - 1, next))];
      if (reached) active.value = keyOf(reached);
    } else if ((event.key === "Enter" || event.key === " ") && entry) choose(entry);
    else if (isChosen && event.key === "F2") onRename?.();
    else if (isChosen && event.key === "Delete") onDelete?.(entry);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const kinds = [...new Set(entries.map(({ kind }) => kind))];
  return (
    <div
      ref={box}
      class="cd-workflows"
      role="listbox"
      tabIndex={0}
      aria-label="Workflows"
      aria-activedescendant={at < 0 ? undefined : `${id}-${at}`}
      onKeyDown={onKeyDown}
      onFocus={() => {
        if (at < 0 && entries[0]) active.value = keyOf(entries[0]);
      }}
    >
      {kinds.map((kind) => (
        // biome-ignore lint/a11y/useSemanticElements: a group of options
        <div key={kind} role="group" aria-label={GROUPS[kind]}>
          <div class="cd-group" role="presentation">
            {GROUPS[kind]}
          </div>
          {entries.map(
            (entry, place) =>
              entry.kind === kind && (
                // biome-ignore lint/a11y/useFocusableInteractive: the list keeps the focus
                // biome-ignore lint/a11y/useKeyWithClickEvents: the list handles the keys
                <div
                  key={keyOf(entry)}
                  id={`${id}-${place}`}
                  role="option"
                  class={`cd-workflow${place === at ? " cd-active" : ""}`}
                  title={entry.title}
                  aria-selected={keyOf(entry) === chosen}
                  onClick={() => choose(entry)}
                >
                  <span class="cd-frame">
                    {picture(entry) || <Icon name={kind === "stored" ? "sitemap" : "file-o"} />}
                  </span>
                  <span class="cd-names">
                    <span class="cd-name">{entry.title}</span>
                    <span class="cd-faint">
                      {entry.note}
                      {entry.tags?.map((tag) => (
                        <span key={tag} class="cd-tag">
                          {tag}
                        </span>
                      ))}
                    </span>
                  </span>
                </div>
              ),
          )}
        </div>
      ))}
    </div>
  );
}

type Cards = { runs: { pictures: ShownFile[] }[] };

/** The picture of the last result of a workflow; it is requested again when `turn` changes. */
function LastPicture(props: { transport: Transport; workflowId: string; turn: number }) {
  const { transport, workflowId, turn } = props;
  const root = useRef<HTMLSpanElement>(null);
  const isSeen = useSeen(root);
  const query = useSignal("");
  useEffect(() => {
    if (!isSeen) return;
    const ending = new AbortController();
    const asked = { like: workflowId, status: "success", limit: LOOKED_AT, count: false };
    transport.get<Cards>("runs/cards", asked, ending.signal).then(
      ({ runs }) => {
        const pictures = runs.flatMap((run) => run.pictures);
        query.value = pictures.find(({ small }) => small)?.query ?? "";
      },
      () => {},
    );
    return () => ending.abort();
  }, [transport, workflowId, turn, isSeen]);
  return (
    <span ref={root}>
      {query.value ? (
        <Picture
          media={mediaOf(transport)}
          query={query.value}
          side={SIDE}
          alt=""
          failed={() => {
            query.value = "";
          }}
        />
      ) : (
        <Icon name="sitemap" />
      )}
    </span>
  );
}

/** A text field in a line below the list. */
function Question(props: {
  label: string;
  value: string;
  most: number;
  onDone: (text: string) => void;
  onCancel: () => void;
}) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    input.current?.focus();
    input.current?.select();
  }, []);
  return (
    <div class="cd-edit">
      <label class="cd-faint" htmlFor={id}>
        {props.label}
      </label>
      <form
        class="cd-line"
        onSubmit={(event) => {
          event.preventDefault();
          props.onDone(input.current?.value.trim() ?? "");
        }}
        onKeyDown={(event) => {
          event.stopPropagation();
          if (event.key === "Escape") props.onCancel();
        }}
      >
        <input id={id} ref={input} type="text" maxLength={props.most} defaultValue={props.value} />
        <button type="submit" class="cd-button cd-primary">
          Save
        </button>
        <Button label="Cancel" onClick={props.onCancel} />
      </form>
    </div>
  );
}
