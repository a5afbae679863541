/** Uploads of the page and transfers of the server, as the list shows them. */

import type { UploadReply } from "../server.ts";

export type State =
  | "queued"
  | "active"
  | "finishing"
  | "retrying"
  | "done"
  | "failed"
  | "cancelled"
  | "lost";

export type Transfer = {
  id: string;
  name: string;
  where: string;
  /** Bytes. */
  size: number | null;
  sent: number;
  state: State;
  error?: string | null;
  result?: UploadReply | null;
  /** For an upload: the page that sends it, and whether that page still has the file. */
  page?: string;
  kept?: boolean;
  /** For a transfer of the server: "up" or "down". */
  direction?: "up" | "down";
};

/** A transfer of the server, as the route `upload-queue-status` describes it. */
export type ServerTransfer = Omit<Transfer, "name" | "where"> & {
  filename: string;
  direction: "up" | "down";
};

const OPEN: ReadonlySet<State> = new Set(["queued", "active", "finishing", "retrying"]);

export function isOpen({ state }: Transfer): boolean {
  return OPEN.has(state);
}

/** Return whether it can be tried again: by the server, or by the page if it still has the file. */
export function isRetryable({ state, direction, kept }: Transfer): boolean {
  if (state === "failed") return Boolean(direction || kept);
  return state === "cancelled" && Boolean(kept);
}
