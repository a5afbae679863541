/** Runs as the routes below `runs` describe them for pages, and words about them. */

/** An output file. */
export type ShownFile = {
  name: string;
  /** "hdr" is a picture that browsers cannot show. */
  kind: "image" | "hdr" | "video" | "audio" | "3d" | "file";
  /** The query of the route `view`; of another one with its path before it and a `?`. */
  query: string;
  /** False if the server makes no small copy of the picture. */
  small: boolean;
  /** The asset of ComfyUI that shows a file that is no picture; empty if there is none. */
  preview?: string;
  /** Pixels, if they are known. */
  width: number | null;
  height: number | null;
};

/** The reply of `batch/{batch_id}`, as far as it is used; `batches` has it without some fields. */
export type Batch = {
  batch_id: string;
  state: "running" | "paused" | "cancelled" | "done";
  why: string;
  title: string;
  created_at: string;
  finished_at: string | null;
  total: number;
  counts: Record<string, number>;
  fraction: number;
  time_left?: number | null;
  notes?: string[];
};

/** What lists and pages show of a run. */
export type ShownRun = {
  prompt_id: string;
  status: string;
  created_at: string;
  machine: string;
  seconds: number | null;
  /** By `<node id>.<input>`. */
  seeds: Record<string, string>;
  /** Its labels. */
  metadata: Record<string, string>;
  pinned: boolean;
  starred: boolean;
  /** Of a user; empty for none. */
  note: string;
  /** Whether ComfyUI's editor has queued it. */
  from_editor: boolean;
  workflow_id: string;
  /** Why it failed or waits; empty if neither. */
  why: string;
};

/** A run in a list. */
export type RunCard = ShownRun & {
  pictures: ShownFile[];
  medium: "" | "video" | "audio" | "3d" | "text" | "file";
  inputs: string[];
  /** The name of its stored workflow; empty if there is none. */
  workflow: string;
};

/** The reply of `runs/cards`. */
export type RunCards = {
  runs: RunCard[];
  /** Those that stand between the runs. */
  batches?: Batch[];
  /** Of all that follow the cursor; null if they were not counted. */
  total: number | null;
  waiting: RunCard[];
  /** The cursors before the first entry and after the last one. */
  start?: string | null;
  next?: string | null;
};

type NodeName = { node: string; title: string; class_type: string | null };

/** The output of a node. */
export type Output = NodeName & {
  files: ShownFile[];
  /** Pictures that are compared, before and after, as places in `files`. */
  pairs: [number, number][];
  texts: string[];
};

export type NodeTime = NodeName & { seconds: number };

/** The reply of `runs/details`. */
export type RunDetails = ShownRun & {
  traceback: string;
  no_memory: boolean;
  left_out: string[];
  cached: number;
  outputs: Output[];
  times: NodeTime[];
};

/** A value of a run, as the form shows it. */
export type RunValue = { key: string; label: string; title: string; kind: string; value: string };

/** Something that differs between two runs. */
export type Difference = {
  text: string;
  first: string | null;
  second: string | null;
  kind: string;
};

/** The type of the id of a run that is dragged. */
export const RUN_DRAG = "application/x-comfydeploy-run";

/** The size of a picture of which the server makes small copies: it is shown only by these. */
export const LARGEST_COPY = 1024;

// Control characters, and those that are invisible or change the direction of the text.
const INVISIBLE = /[\p{Cc}\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** Return the name of a file with each invisible character replaced. */
export function nameOf({ name }: ShownFile): string {
  return name.replace(INVISIBLE, "\ufffd");
}

/** Return the size of a picture or a video as text; empty if it is not known. */
export function sizeText({ width, height }: ShownFile): string {
  return width && height ? `${width} × ${height}` : "";
}

/** Return the name of a file and, if it is known, its size in pixels. */
export function describe(file: ShownFile): string {
  return [nameOf(file), sizeText(file)].filter(Boolean).join(" · ");
}

/** Return whether a file is shown as a picture. */
export function isPicture({ kind }: ShownFile): boolean {
  return kind === "image" || kind === "hdr";
}

/** Return the seeds of a run, each once. */
export function seedsOf({ seeds }: ShownRun): string[] {
  return [...new Set(Object.values(seeds))];
}

/** Return the status of a run in words. */
export function statusOf({ status }: ShownRun): string {
  if (status === "queued" || status === "not-started") return "Waiting";
  return status.charAt(0).toUpperCase() + status.slice(1);
}

/** Return the time, with the day if it is not today, and optionally with seconds. */
export function formatTime(iso: string, withSeconds = false): string {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: withSeconds ? "2-digit" : undefined,
  });
  if (isToday) return time;
  const isThisYear = date.getFullYear() === new Date().getFullYear();
  const year = isThisYear ? undefined : "numeric";
  return `${date.toLocaleDateString([], { day: "numeric", month: "short", year })} ${time}`;
}
