/** Shows ComfyUI's files in the page. */

import { newId } from "./dom.ts";
import type { Buffers, Model, Subscriptions } from "./model.ts";
import { pageServer, type ServerFacts } from "./server.ts";

const SMALL = 768; // pixels of the largest copies that the page keeps; larger ones are like whole files
export const KEPT = 200; // small copies that the page keeps

/** The traits that a view of ComfyUI's files has. */
export type FilesTraits = { server: ServerFacts };

/** "file": the answer to a request; "copy": a small copy that was not requested. */
type FileMessage = {
  kind: string;
  id: string;
  query: string;
  error?: string;
  mime?: string;
};
type Waiting = {
  resolve: (url: string) => void;
  reject: (error: Error) => void;
  /** The query of the picture, if a small copy is wanted. */
  copyOf: string;
};

/**
 * The files of ComfyUI.
 *
 * If the page can reach the Jupyter server, it shows them by their URL. Otherwise the kernel sends
 * their content, and the page shows it by a blob URL: the browser keeps the content until that is
 * revoked. Small copies are kept for the next time; a whole file is only kept while it is shown.
 */
export class Files {
  private readonly waiting = new Map<string, Waiting>();
  private readonly blobUrls = new Set<string>();
  /** Small copies, by side and query: those that were requested, and those that are there. */
  private readonly requested = new Map<string, Promise<string>>();
  private readonly small = new Map<string, string>(); // the last one used is the last
  /** Blob URLs of small copies that the kernel has sent while it answers no requests. */
  private readonly copies = new Map<string, string>();
  /** The last request for each element that shows files; earlier answers are not for it any more. */
  private readonly last = new WeakMap<Element, object>();
  /** The URLs that only one element uses. */
  private readonly own = new WeakMap<Element, string>();

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
      waiting.resolve(this.blobUrl(message, buffers));
    });
  }

  private blobUrl({ mime }: FileMessage, buffers: Buffers): string {
    const url = URL.createObjectURL(new Blob(buffers, { type: mime }));
    this.blobUrls.add(url);
    return url;
  }

  /** Have the browser free a file that the kernel has sent; do nothing for other URLs. */
  revoke(url: string): void {
    if (this.blobUrls.delete(url)) URL.revokeObjectURL(url);
  }

  /** Keep a small copy, and show it where it was requested. */
  private take(message: FileMessage, buffers: Buffers): void {
    this.copies.set(message.query, this.blobUrl(message, buffers));
    for (const [id, { resolve, copyOf }] of this.waiting) {
      if (copyOf !== message.query) continue;
      this.waiting.delete(id);
      resolve(this.blobUrl(message, buffers));
    }
  }

  /**
   * Return the URL of a file; with `side`, of a copy of a picture with at most so many pixels.
   *
   * A caller that does not pass it to `show` must call `revoke` when the file is not needed any more,
   * unless it is a small copy.
   */
  async url(query: string, side = 0): Promise<string> {
    const base = await pageServer(this.model.get("server"));
    if (base === null) {
      return isSmall(side) ? this.smallCopy(query, side) : this.askForFile(query, side);
    }
    return `${base}comfyui-deploy/view?${query}${side ? `&thumbnail=${side}` : ""}`;
  }

  /** Return the URL of a small copy; request it from the kernel unless that was done before. */
  private async smallCopy(query: string, side: number): Promise<string> {
    const key = `${side} ${query}`;
    const known = this.small.get(key);
    if (known) return this.keep(key, known);
    const sent = this.copies.get(query);
    if (sent) return sent;
    const request =
      this.requested.get(key) ??
      this.askForFile(query, side)
        .then((url) => this.keep(key, url))
        .finally(() => this.requested.delete(key));
    this.requested.set(key, request);
    return request;
  }

  /** Keep a small copy, and free the one that was not used for the longest time. */
  private keep(key: string, url: string): string {
    this.small.delete(key);
    this.small.set(key, url);
    const [oldest] = this.small;
    if (oldest && this.small.size > KEPT) {
      this.small.delete(oldest[0]);
      this.revoke(oldest[1]);
    }
    return url;
  }

  private askForFile(query: string, side: number): Promise<string> {
    const id = newId();
    const answer = new Promise<string>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, copyOf: side ? query : "" });
    });
    this.model.send({ kind: "file", id, query, side });
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
      media.onerror = () => {
        this.setOwn(media, "");
        failed();
      };
      const url = await this.url(query, side);
      if (isLast()) {
        media.src = url;
        this.setOwn(media, isSmall(side) ? "" : url);
      } else if (!isSmall(side)) this.revoke(url);
    } catch {
      if (isLast()) failed();
    }
  }

  /** Note the URL that only this element uses, and free the one before. */
  private setOwn(media: Element, url: string): void {
    this.revoke(this.own.get(media) ?? "");
    this.own.set(media, url);
  }

  /** Free the browser's memory for the files that an element, or what it contains, has shown. */
  free(root: Element): void {
    for (const media of [root, ...root.querySelectorAll("img, video, audio")]) {
      this.last.delete(media);
      this.setOwn(media, "");
      media.removeAttribute("src");
      if (media instanceof HTMLMediaElement) media.load();
    }
  }

  /** Free the browser's memory for all files. */
  end(): void {
    for (const url of this.blobUrls) this.revoke(url);
  }
}

function isSmall(side: number): boolean {
  return side > 0 && side <= SMALL;
}
