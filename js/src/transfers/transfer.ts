/** Uploads of pages and transfers of the server, as lists show them. */

import type { Transport } from "../transport.ts";

export type State =
  | "queued"
  | "active"
  | "finishing"
  | "retrying"
  | "done"
  | "failed"
  | "cancelled"
  | "lost";

/** The reply of the route `upload-file`. */
export type UploadReply = {
  name: string;
  subfolder?: string;
  type?: string;
  size?: number;
  file_hash?: string;
  reused?: boolean;
};

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
};

/** A transfer of the server, as the route `upload-queue-status` describes it. */
export type ServerTransfer = Omit<Transfer, "name" | "where"> & {
  filename: string;
  direction: "up" | "down";
};

/** Where a file goes; without a machine to the default one. */
export type Destination = {
  type: string;
  subfolder: string;
  overwrite: boolean;
  machine: string | null;
};

const OPEN: ReadonlySet<State> = new Set(["queued", "active", "finishing", "retrying"]);

export function isOpen({ state }: { state: State }): boolean {
  return OPEN.has(state);
}

export function ofServer({ filename, direction, ...more }: ServerTransfer): Transfer {
  return { ...more, name: filename, where: direction === "up" ? "from ComfyUI" : "to ComfyUI" };
}

/** Send a file into a folder of ComfyUI. */
export function sendFile(
  transport: Transport,
  file: File,
  { machine, type, subfolder, overwrite }: Destination,
  progress: (share: number) => void,
  signal: AbortSignal,
): Promise<UploadReply> {
  const fields = { type, subfolder, overwrite: String(overwrite) };
  return transport.send("upload-file", { query: { machine }, fields, file, progress, signal });
}
