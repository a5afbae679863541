/** The earlier runs of a workflow, as `widgets/history.py` describes them. */

import type { Item } from "../gallery/item.ts";

export type EarlierRun = {
  prompt_id: string;
  status: string;
  /** The displayed status; empty for a success. */
  title: string;
  created_at: string;
  seconds: number | null;
  pictures: Pick<Item, "name" | "kind" | "query" | "size">[];
  /** The text that is shown if there is no picture. */
  kind: string;
  /** The inputs that were changed. */
  summary: string;
  pinned: boolean;
  /** Whether ComfyUI's editor has queued it. */
  from_editor: boolean;
  labels: Record<string, string>;
  seeds: string[];
  problem: string;
};

/** The conditions of a search; all are optional. */
export type Filter = {
  status?: string;
  search?: string;
  days?: number;
  /** The times from which and before which runs are shown, as ISO 8601. */
  after?: string;
  before?: string;
  label?: string[] | undefined;
  pinned?: boolean;
};

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
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}
