/** Where workflows are, and how a panel opens one. */

import { parseJson } from "../format.ts";
import { type FormReply, keepForm, type Source } from "../state/form.ts";
import { RouteError, type Transport } from "../transport.ts";

/** The end of what a conversion says of a missing node class, which the panel says by itself. */
const NO_CLASS = "this ComfyUI has no such node class; it is kept";

/** A workflow that is open. */
export type Opened = {
  title: string;
  source: Source;
  /** What its conversion to API format has lost. */
  warnings: string[];
  /** That of its entry in a list, if it was opened from one. */
  key?: string;
};

/** A workflow that can be opened. `kind` is the `type` of a file in requests, or `stored`. */
export type Entry = {
  kind: "stored" | "file" | "editor" | "template" | "example";
  /** Its id, or the name of its file. */
  name: string;
  title: string;
  /** What is shown beside it: its newest version, a time, its category. */
  note: string;
  tags?: string[];
  version?: number;
};

/** A workflow as the route `workflows` has it. */
export type Stored = {
  id: string;
  name: string | null;
  latest_version: number | null;
  updated_at: string | null;
  tags?: string[];
};

type EditorFile = { path: string; updated_at: string };
type Listed = { filename: string; title: string };
type Template = Listed & { type: "template" | "example"; group: string; description: string };
type Converted = {
  title: string;
  workflow_api: string;
  workflow?: string;
  warnings: string[];
  form?: FormReply;
};

type Version = { workflow_id: string; version: number };

export const MAX_LISTED = 100;

/** How often stored workflows are listed while a list of them is seen, ms. */
export const LIST_INTERVAL = 5000;

/** The endings of files in which ComfyUI saves workflows. */
export const ACCEPTED = ".json,.png,.webp,.flac,.mp3,.opus,.mp4,.webm,.latent";

export const keyOf = ({ kind, name }: Entry) => `${kind}:${name}`;

export function storedEntry({ id, name, latest_version, tags }: Stored): Entry {
  const title = name ?? "";
  return {
    kind: "stored",
    name: id,
    title,
    note: latest_version ? `v${latest_version}` : "",
    tags: tags ?? [],
    ...(latest_version && { version: latest_version }),
  };
}

/** Where stored workflows are: on this server, or at ComfyDeploy. */
export type Target = "cloud" | null;

export async function listStored(
  transport: Transport,
  search: string,
  target: Target,
  signal?: AbortSignal,
): Promise<Entry[]> {
  const query = { search: search || null, limit: MAX_LISTED, target };
  return (await transport.get<Stored[]>("workflows", query, signal)).map(storedEntry);
}

/** Return the workflow files in a folder; none if the server may not read it. */
export async function listFiles(
  transport: Transport,
  folder: string,
  signal?: AbortSignal,
): Promise<Entry[]> {
  const found = await transport.get<Listed[]>("workflow/files", { folder }, signal).catch(() => []);
  return found.map(({ filename, title }) => ({
    kind: "file",
    name: filename,
    title,
    note: "file",
  }));
}

/** Return the workflows of ComfyUI's editor; none if ComfyUI does not answer. */
export async function listEditor(transport: Transport, signal?: AbortSignal): Promise<Entry[]> {
  const found = await transport.get<EditorFile[]>("editor/workflows", {}, signal).catch(() => []);
  return found.map(({ path, updated_at }) => ({
    kind: "editor",
    name: path,
    title: path.replace(/\.json$/, ""),
    note: updated_at.slice(0, 10),
  }));
}

/** Return the examples, and the templates of ComfyUI; none if ComfyUI does not answer. */
export async function listTemplates(transport: Transport, signal?: AbortSignal): Promise<Entry[]> {
  const found = await transport.get<Template[]>("workflow/templates", {}, signal).catch(() => []);
  return found.map(({ type, filename, title, group }) => ({
    kind: type,
    name: filename,
    title,
    note: group,
  }));
}

function opened({ title, workflow_api, workflow, warnings, form }: Converted): Opened {
  const source = { workflow_api, ...(workflow && { workflow }) };
  if (form) keepForm(source, form);
  return { title, source, warnings: warnings.filter((text) => !text.endsWith(NO_CLASS)) };
}

/** Open a workflow that is listed, by default its newest version; to show its form, with that. */
export async function open(
  transport: Transport,
  entry: Entry,
  signal?: AbortSignal,
  form = false,
): Promise<Opened> {
  if (entry.kind === "stored") {
    const { name: workflow_id, title, version } = entry;
    const source = { workflow_id, ...(version && { version }) };
    return { title, source, warnings: [], key: keyOf(entry) };
  }
  const file = { filename: entry.name, type: entry.kind };
  const body = { ...file, to: "api", text: true, ...(form && { form }) };
  const found = await transport.post<Converted>("workflow/convert", body, signal);
  const title = entry.kind === "template" ? entry.title : found.title;
  return { ...opened(found), title, key: keyOf(entry) };
}

/** Return the graphs of a run. */
export async function graphsOf(transport: Transport, promptId: string): Promise<Source> {
  type Graphs = { workflow_api: string; workflow: string | null };
  const query = { graph: promptId, text: true };
  const { workflow_api, workflow } = await transport.get<Graphs>("runs", query);
  return { workflow_api, ...(workflow && { workflow }) };
}

const MAX_PARSED = 20 << 20; // bytes of a JSON file that the page reads itself

/** Open a file of the user's computer; errors name it. */
export async function openFile(
  transport: Transport,
  file: File,
  signal?: AbortSignal,
): Promise<Opened> {
  const isText = /\.json$/i.test(file.name) && file.size <= MAX_PARSED;
  if (isText && !parseJson(await file.text())) throw new Error(`${file.name} is not JSON`);
  const upload = { file, fields: { to: "api", text: "true" }, ...(signal && { signal }) };
  try {
    const reply = await transport.send<Converted>("workflow/convert", upload);
    return { ...opened(reply), title: file.name }; // as files are called in the list
  } catch (error) {
    if (!(error instanceof RouteError)) throw error;
    const { status, message, code, details } = error;
    throw new RouteError(status, message.replace(/^file: /, `${file.name} `), code, details);
  }
}

/** Open the workflow in a text that was pasted; null if the text is not JSON. */
export async function openText(transport: Transport, text: string): Promise<Opened | null> {
  if (!text.trimStart().startsWith("{") || !parseJson(text)) return null;
  const body = { workflow: text, to: "api", text: true };
  return opened(await transport.post<Converted>("workflow/convert", body));
}

/** An input that is in front of the form; without a label it keeps its own. */
export type FrontInput = { key: string; label?: string };

/** How the choice of inputs can be kept: each way with its label and what it does. */
export function waysToSave({ source, key, title }: Opened): [string, string, string][] {
  if (source.workflow_id) return [["version", "Save", "As a new version of the workflow"]];
  const ways: [string, string, string][] = [
    ["store", "Store on the server", "As a workflow that the server keeps"],
    ["here", "Use here", "Only in this panel, and in its `workflow` in Python"],
  ];
  const isFile = key?.startsWith("file:") && key.endsWith(".json") && source.workflow;
  return isFile ? [["file", "Save", `Into the file ${title}`], ...ways] : ways;
}

/** Keep the inputs that are in front of a form in its workflow; return what is open then. */
export async function saveFront(
  transport: Transport,
  opened: Opened,
  front: FrontInput[],
  machine: string | null,
  way: string,
): Promise<Opened> {
  const { source, key = "", title } = opened;
  const change = { machine, front, to: "ui", text: true };
  if (way === "file") {
    const filename = key.slice("file:".length);
    const file = { filename, type: "file", path: filename, replace: true };
    await transport.post("workflow/export", { ...change, ...file });
    const entry: Entry = { kind: "file", name: filename, title, note: "" };
    return { ...(await open(transport, entry)), title };
  }
  const made = await transport.post<Converted>("workflow/convert", { ...source, ...change });
  const { workflow_api, workflow } = made;
  const graphs = { ...(workflow_api && { workflow_api }), workflow };
  if (way === "here") return { ...opened, key: "", source: graphs };
  const { workflow_id } = source;
  const stored = workflow_id
    ? await transport.post<Version>("workflow/version", {
        ...graphs,
        workflow_id,
        comment: "Inputs of the form chosen",
      })
    : await transport.post<Version>("workflow", { ...graphs, name: title || "Workflow" });
  const { version } = stored;
  const entry: Entry = { kind: "stored", name: stored.workflow_id, title, note: "", version };
  return open(transport, { ...entry, title: made.title || title });
}

const USED = "comfydeploy-workflows"; // the key in the browser's storage
const MAX_USED = 8;

/** Return the workflows that were opened last in this browser, the last one first. */
export function lastUsed(): Entry[] {
  try {
    const found = parseJson<Entry[]>(localStorage.getItem(USED));
    return Array.isArray(found)
      ? found.filter((each) => each?.kind && each.name && each.title)
      : [];
  } catch {
    return []; // the browser forbids it
  }
}

export function noteUsed(entry: Entry): void {
  const others = lastUsed().filter((each) => keyOf(each) !== keyOf(entry));
  try {
    localStorage.setItem(USED, JSON.stringify([entry, ...others].slice(0, MAX_USED)));
  } catch {
    // as above
  }
}
