/** Shows ComfyUI's files in the page, and sends the user's files to the kernel. */

import { newId } from "./dom.ts";
import { messageOf, parseJson } from "./format.ts";
import type { Buffers, Model, Subscriptions } from "./model.ts";
import { pageHeaders, pageServer, type ServerFacts } from "./server.ts";

export const CHUNK = 1 << 20; // bytes of a file in one message; a server may refuse more than 10 MB
export const AHEAD = 4; // messages that are sent before the kernel has confirmed the first of them

/** The traits that a view of ComfyUI's files has. */
export type FilesTraits = { server: ServerFacts };

/** "file": the answer to a request; "copy": a small copy that was not requested. */
type FileMessage = {
  kind: string;
  id: string;
  query: string;
  error?: string;
  size?: number;
  mime?: string;
};
type Waiting = {
  resolve: (answer: string | number) => void;
  reject: (error: Error) => void;
  /** The query of the picture, if a small copy is wanted. */
  copyOf: string;
};

/**
 * The files of ComfyUI.
 *
 * If the page can reach the Jupyter server, it shows them by their URL. Otherwise the kernel sends
 * their content, and the page shows it by a blob URL.
 */
export class Files {
  private readonly waiting = new Map<string, Waiting>();
  private readonly blobUrls: string[] = [];
  /** Blob URLs of small copies that the kernel has sent while it answers no requests. */
  private readonly copies = new Map<string, string>();
  /** The last request for each element that shows files; earlier answers are not for it any more. */
  private readonly last = new WeakMap<HTMLElement, object>();

  constructor(
    private readonly model: Model<FilesTraits>,
    events: Subscriptions,
  ) {
    events.on("msg:custom", (message: FileMessage, buffers: Buffers) => {
      if (message.kind === "copy") this.take(message, buffers);
      const waiting = this.waiting.get(message.id);
      if (message.kind !== "file" || !waiting) return;
      this.waiting.delete(message.id);
      if (message.error) return waiting.reject(new Error(message.error));
      if (message.size !== undefined) return waiting.resolve(message.size);
      waiting.resolve(this.blobUrl(message, buffers));
    });
  }

  private blobUrl({ mime }: FileMessage, buffers: Buffers): string {
    const url = URL.createObjectURL(new Blob(buffers, { type: mime }));
    this.blobUrls.push(url);
    return url;
  }

  /** Keep a small copy, and show it where it was requested. */
  private take(message: FileMessage, buffers: Buffers): void {
    const url = this.blobUrl(message, buffers);
    this.copies.set(message.query, url);
    for (const { resolve, copyOf } of this.waiting.values()) {
      if (copyOf === message.query) resolve(url);
    }
  }

  /** Return the URL of a file; with `side`, of a copy of a picture with at most so many pixels. */
  async url(query: string, side = 0): Promise<string> {
    const base = await pageServer(this.model.get("server"));
    if (base === null) {
      const copy = side ? this.copies.get(query) : undefined;
      return copy ?? String(await this.askForFile(query, side));
    }
    return `${base}comfyui-deploy/view?${query}${side ? `&thumbnail=${side}` : ""}`;
  }

  /** Return the size of a file in bytes; -1 if the server does not return it. */
  async size(query: string): Promise<number> {
    const base = await pageServer(this.model.get("server"));
    if (base === null) return Number(await this.askForFile(query, 0, true));
    const url = `${base}comfyui-deploy/view?${query}`;
    const reply = await fetch(url, { method: "HEAD", headers: pageHeaders() });
    if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
    return Number(reply.headers.get("Content-Length") ?? -1);
  }

  /** Return why there is no small copy of a picture; empty if that is not known. */
  async whyNoCopy(query: string, side: number): Promise<string> {
    let message = "";
    try {
      const reply = await fetch(await this.url(query, side), { headers: pageHeaders() });
      if (!reply.ok) message = parseJson<{ message?: string }>(await reply.text())?.message ?? "";
    } catch (error) {
      message = messageOf(error);
    }
    return message.replace(/^thumbnail:/, "A preview");
  }

  private askForFile(query: string, side: number, only_size = false): Promise<string | number> {
    return this.ask({ kind: "file", query, side, only_size }, side ? query : "");
  }

  /** Send a message, and return the reply of the kernel: a blob URL, or a number. */
  ask(message: object, copyOf = ""): Promise<string | number> {
    const id = newId();
    const answer = new Promise<string | number>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, copyOf });
    });
    this.model.send({ ...message, id });
    return answer;
  }

  /**
   * Show a file in a picture, video or sound; `failed` is called if it cannot be shown. If the
   * element is to show another file before the answer, the answer is dropped.
   */
  async show(
    media: HTMLImageElement | HTMLMediaElement,
    query: string,
    side = 0,
    failed: () => void = () => {},
  ): Promise<void> {
    const request = {};
    const isLast = () => this.last.get(media) === request;
    this.last.set(media, request);
    try {
      media.onerror = failed;
      const url = await this.url(query, side);
      if (isLast()) media.src = url;
    } catch {
      if (isLast()) failed();
    }
  }

  /** Free the browser's memory for the files. */
  end(): void {
    for (const url of this.blobUrls) URL.revokeObjectURL(url);
  }
}

/**
 * Send a file of the user's computer to the kernel in chunks, no faster than the kernel stores them.
 *
 * Return the id that the kernel's messages about the file have.
 */
export async function sendFile(
  model: Model,
  file: File,
  facts: Record<string, unknown>,
): Promise<string> {
  const id = newId();
  const total = Math.max(1, Math.ceil(file.size / CHUNK));
  let taken = 0;
  let wake = () => {};
  const onMessage = (message: { kind: string; id: string }) => {
    if (message.kind !== "took" || message.id !== id) return;
    taken += 1;
    wake();
  };
  model.on("msg:custom", onMessage);
  for (let piece = 0; piece < total; piece += 1) {
    while (piece - taken >= AHEAD) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    const offset = piece * CHUNK;
    const content = await file.slice(offset, offset + CHUNK).arrayBuffer();
    const { name, size } = file;
    model.send({ kind: "piece", id, name, size, offset, ...facts }, undefined, [content]);
  }
  model.off("msg:custom", onMessage);
  return id;
}

/** Have the kernel upload a file of the user's computer to ComfyUI; return the name that it got. */
export async function uploadByKernel(model: Model, file: File): Promise<string> {
  const id = await sendFile(model, file, {});
  return new Promise((resolve, reject) => {
    const onMessage = (message: { kind: string; id: string; name: string; error?: string }) => {
      if (message.kind !== "stored" || message.id !== id) return;
      model.off("msg:custom", onMessage);
      if (message.error) reject(new Error(message.error));
      else resolve(message.name);
    };
    model.on("msg:custom", onMessage);
  });
}
