/** What the server does, as the socket `overview` tells it to a page. */

import type { Batch } from "../shown_runs.ts";
import type { ServerTransfer } from "../transfers/transfer.ts";

/** A run that has not ended. */
export type OpenRun = {
  prompt_id: string;
  status: string;
  title: string;
  created_at: string;
  started_at: string | null;
  machine: string;
  metadata: Record<string, string>;
  workflow_id: string;
  batch_id: string;
  point: number;
  position: number | null;
  /** Whether it ends as soon as ComfyUI has heard of it. */
  cancelling: boolean;
  /** What it does, or why it waits. */
  live_status: string;
  progress: number | null;
  step: number;
  steps: number;
  time_left: number | null;
};

/** The end of a run or of a batch. */
export type End = {
  id: string;
  kind: "run" | "batch";
  title: string;
  status: string;
  began_at: string;
  ended_at: string;
  why: string;
};

type Memory = {
  name: string;
  machine: string;
  memory: { total?: number | null; used?: number | null };
};

/** A machine or a pool. */
export type Machine = {
  id: string;
  name: string;
  kind: string;
  status: string | null;
  version: string | null;
  work: number;
  error: string | null;
  hint?: string | null;
  restarts?: number;
  memory?: Memory[];
};

/** The parts that the server has sent. */
export type Overview = {
  server: { instance: string; version: string };
  queue: { running: number; waiting: number };
  /** Those that the page shows, from a place on, and the first one of all. */
  runs: { first: number; total: number; runs: OpenRun[]; head: OpenRun[] };
  batches: Batch[];
  machines: Machine[];
  transfers: ServerTransfer[];
  /** Changes when runs or batches are deleted or marked. */
  edits: number;
};

/**
 * Whether the page is connected: `missing` if the server does not have the extension, `away` while
 * it is tried again.
 */
export type Link = "connecting" | "open" | "away" | "missing" | "signedOut";

/** What is known now; the parts stay while the connection is lost. */
export type Known = Partial<Overview> & {
  link: Link;
  /** What is wrong with the connection, in one sentence; empty if nothing is. */
  problem: string;
  /** How many runs and batches have ended since the page came. */
  ends: number;
  /** How often it has connected. */
  opened: number;
};

/** Return how many runs have not ended. */
export function openRuns({ queue, runs }: Known): number {
  return Math.max(runs?.total ?? 0, (queue?.running ?? 0) + (queue?.waiting ?? 0));
}

const ANSWERS_NOT = "does not answer";

/** Return a sentence about a ComfyUI that does not answer; empty for one that nobody has needed. */
export function whyDown({ state = "", restarts = 0, error, hint }: Down, isNeeded = false): string {
  const isAgain = state === "backoff" || (state === "starting" && restarts > 0);
  const what = isAgain
    ? "ComfyUI is down, it is being started again"
    : state === "starting"
      ? "ComfyUI is being started"
      : state === "failed"
        ? "ComfyUI does not start"
        : error || isNeeded
          ? `ComfyUI ${ANSWERS_NOT}`
          : "";
  if (!what) return "";
  const isSaid = what.endsWith(ANSWERS_NOT) && error?.includes(ANSWERS_NOT);
  const why = [isSaid ? "" : what, error].filter(Boolean).join(": ");
  return [why, hint].filter(Boolean).join(". ");
}

type Down = {
  state?: string | null;
  restarts?: number;
  error?: string | null;
  hint?: string | null;
};

/** Return the same about the machine that runs are sent to by default. */
export function whyDefaultIsDown({ machines, queue }: Known): string {
  const [machine] = machines ?? [];
  if (!machine || machine.status === "ready" || machine.status === "paused") return "";
  return whyDown({ ...machine, state: machine.status }, Boolean(queue?.waiting));
}
