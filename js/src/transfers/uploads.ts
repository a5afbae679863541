/**
 * Lists the uploads of all pages, and sends those of this page.
 *
 * The page sends files to the route `upload-file`, also while the kernel is busy. If the page cannot
 * reach the Jupyter server that the kernel uses, it sends them to the kernel in chunks. The uploads
 * that were started in a page belong to this page, because only this page has their files. It sends
 * their state to the kernel, and the kernel sends it to the other pages.
 */

import { AHEAD, CHUNK } from "../files.ts";
import { messageOf } from "../format.ts";
import type { Model } from "../model.ts";
import {
  Cancelled,
  type Destination,
  forgetPageServer,
  pageServer,
  postFile,
  type UploadReply,
} from "../server.ts";
import type { ChosenFile } from "./dropped_files.ts";
import { isOpen, type ServerTransfer, type Transfer } from "./transfer.ts";
import type { TransferList } from "./transfer_list.ts";

const AT_ONCE = 3; // uploads
const INTERVAL = 150; // ms between two updates of the page and of the kernel

export type UploadTraits = {
  fields: { place: string; subfolder: string; overwrite: string };
  places: Record<string, string>;
  machine: string;
  instance: string;
  transfers: ServerTransfer[];
};

/** The fields of a message of the kernel; which of them it has depends on `type`. */
type Message = {
  type: string;
  id: string;
  ids: string[];
  uploads: Transfer[];
  bytes: number;
  error: string | null;
  result: UploadReply;
};

/**
 * An upload through the kernel: the bytes that the kernel has stored (null: it does not know the file
 * yet), and the outcome.
 */
type Relay = { stored: number | null; end: UploadReply | Error | null; wake: () => void };

/** A file of this page. */
type OwnFile = {
  file: File;
  destination: Destination;
  abort: (() => void) | null;
  relay: Relay | null;
};

export class Uploads {
  private readonly page = randomHex(8);
  private readonly uploads = new Map<string, Transfer>(); // of all pages, by id, oldest first
  private readonly files = new Map<string, OwnFile>(); // of this page, by id
  private readonly lists = new Set<TransferList>();
  private readonly changed = new Set<string>(); // ids
  private count = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly model: Model<UploadTraits>) {
    model.on("msg:custom", (message: Message) => this.onMessage(message));
    this.send({ type: "hello" });
  }

  /** Stop the uploads of this page. */
  end(): void {
    for (const { abort } of this.files.values()) abort?.();
    askBeforeLeaving(false);
  }

  /** Show the uploads in a list until the returned function is called. */
  showIn(list: TransferList): () => void {
    this.lists.add(list);
    list.show([...this.uploads.values()]);
    return () => this.lists.delete(list);
  }

  async add(chosen: ChosenFile[]): Promise<void> {
    const destination = await this.destination();
    for (const { file, folder } of chosen) {
      this.count += 1;
      const id = `${this.page}-${this.count}`;
      const subfolder = [destination.subfolder, folder].filter(Boolean).join("/");
      const own = { file, destination: { ...destination, subfolder }, abort: null, relay: null };
      this.files.set(id, own);
      this.uploads.set(id, {
        id,
        page: this.page,
        name: file.name,
        where: [destination.type, subfolder].filter(Boolean).join("/"),
        size: file.size,
        kept: true,
        sent: 0,
        state: "queued",
        error: null,
        result: null,
      });
      this.changed.add(id);
    }
    this.flush();
    this.startQueued();
  }

  cancel(id: string): void {
    const upload = this.uploads.get(id);
    const own = this.files.get(id);
    if (!upload || !own) {
      this.send({ type: "cancel", id });
    } else if (upload.state === "queued") {
      this.change(upload, { state: "cancelled" });
      this.flush();
    } else if (isOpen(upload)) {
      own.abort?.();
    }
  }

  retry(id: string): void {
    const upload = this.uploads.get(id);
    if (!upload || !this.files.has(id)) {
      this.send({ type: "retry", id });
      return;
    }
    this.change(upload, { state: "queued" });
    this.flush();
    this.startQueued();
  }

  /** Remove uploads from all pages. */
  forgetEverywhere(ids: string[]): void {
    this.flush(); // a change that is sent later would add them again
    this.send({ type: "forget", ids });
  }

  /**
   * Return the destination of files from the panel's fields.
   *
   * The fields are read in the page, because a busy kernel receives changes of them later.
   */
  private async destination(): Promise<Destination> {
    const { place, subfolder, overwrite } = this.model.get("fields");
    const [places, folder, replace] = await Promise.all(
      [place, subfolder, overwrite].map((reference) =>
        this.model.widget_manager.get_model(reference.slice("IPY_MODEL_".length)),
      ),
    );
    const label = places?.get("_options_labels")[places.get("index")];
    return {
      type: this.model.get("places")[label] ?? "",
      subfolder: folder
        ?.get("value")
        .trim()
        .replace(/^\/+|\/+$/g, ""),
      overwrite: replace?.get("value"),
      machine: this.model.get("machine"),
    };
  }

  private startQueued(): void {
    const own = [...this.uploads.values()].filter(({ id }) => this.files.has(id));
    const busy = own.filter(({ state }) => state === "active" || state === "finishing").length;
    const queued = own.filter(({ state }) => state === "queued");
    for (const upload of queued.slice(0, Math.max(0, AT_ONCE - busy))) this.start(upload);
  }

  private async start(upload: Transfer): Promise<void> {
    const own = this.files.get(upload.id);
    if (!own) return;
    this.change(upload, { state: "active", sent: 0, error: null, result: null });
    const cancelled = new Promise<never>((_, reject) => {
      own.abort = () => reject(new Cancelled());
    });
    cancelled.catch(() => {});
    try {
      const base = await Promise.race([this.findServer(), cancelled]);
      const result = await (base ? this.post(base, upload, own) : this.relay(upload, own));
      this.change(upload, { state: "done", sent: upload.size ?? 0, result });
      this.files.delete(upload.id);
    } catch (error) {
      if (error instanceof Cancelled) this.change(upload, { state: "cancelled" });
      else this.change(upload, { state: "failed", error: messageOf(error) });
      forgetPageServer(); // the next attempt may have to use another way
    }
    this.flush();
    this.startQueued();
  }

  /** Return the address by which this page reaches the Jupyter server; wait until the kernel knows it. */
  private async findServer(): Promise<string | null> {
    const { model } = this;
    const instance = await new Promise<string>((resolve) => {
      const check = () => {
        if (!model.get("instance")) return;
        model.off("change:instance", check);
        resolve(model.get("instance"));
      };
      model.on("change:instance", check);
      check();
    });
    return pageServer({ base: "", instance });
  }

  private post(base: string, upload: Transfer, own: OwnFile): Promise<UploadReply> {
    const progress = (fraction: number) => {
      const sent = Math.round((upload.size ?? 0) * fraction);
      this.change(upload, fraction < 1 ? { sent } : { sent, state: "finishing" });
    };
    const { done, abort } = postFile(base, own.file, own.destination, progress);
    own.abort = abort;
    return done;
  }

  /** Send a file through the kernel, with a limited number of chunks that it has not stored. */
  private async relay(upload: Transfer, own: OwnFile): Promise<UploadReply> {
    const { id, name } = upload;
    const { file, destination } = own;
    const relay: Relay = { stored: null, end: null, wake: () => {} };
    const reply = () =>
      new Promise<void>((resolve) => {
        relay.wake = resolve;
      });
    own.relay = relay;
    own.abort = () => {
      this.send({ type: "abort", id });
      relay.end = new Cancelled();
      relay.wake();
    };
    this.send({ type: "open", id, name, size: file.size, destination });
    // later messages may reach the kernel before earlier ones: see `ChunkedFile` there
    const mayBeSent = (offset: number) =>
      relay.stored !== null && offset - relay.stored < AHEAD * CHUNK;
    for (let offset = 0; offset < file.size; offset += CHUNK) {
      while (!relay.end && !mayBeSent(offset)) await reply();
      if (relay.end) break;
      const chunk = await file.slice(offset, offset + CHUNK).arrayBuffer();
      this.send({ type: "chunk", id, offset }, [chunk]);
    }
    while (!relay.end) await reply();
    if (relay.end instanceof Error) throw relay.end;
    return relay.end;
  }

  private change(upload: Transfer, fields: Partial<Transfer>): void {
    Object.assign(upload, fields);
    this.changed.add(upload.id);
    this.timer ??= setTimeout(() => this.flush(), INTERVAL);
  }

  /** Show the changes, and send them to the kernel. */
  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const changed = [...this.changed].flatMap((id) => this.uploads.get(id) ?? []);
    this.changed.clear();
    for (const list of this.lists) list.show(changed);
    const own = changed.filter(({ page }) => page === this.page);
    if (own.length > 0) this.send({ type: "uploads", uploads: own });
    const unfinished = [...this.uploads.values()].filter(isOpen);
    askBeforeLeaving(unfinished.some(({ id }) => this.files.has(id)));
  }

  private send(message: object, buffers?: ArrayBuffer[]): void {
    this.model.send(message, undefined, buffers);
  }

  private onMessage(message: Message): void {
    const { id } = message;
    if (message.type === "uploads") {
      const foreign = message.uploads.filter(({ page }) => page !== this.page);
      for (const upload of foreign) this.uploads.set(upload.id, upload);
      for (const list of this.lists) list.show(foreign);
    } else if (message.type === "report") {
      for (const own of this.files.keys()) this.changed.add(own);
      this.flush();
    } else if (message.type === "cancel") {
      if (this.files.has(id)) this.cancel(id);
    } else if (message.type === "retry") {
      if (this.files.has(id)) this.retry(id);
    } else if (message.type === "forget") {
      this.forget(message.ids);
    } else {
      this.onRelayMessage(message);
    }
  }

  private onRelayMessage({ id, type, bytes, error, result }: Message): void {
    const relay = this.files.get(id)?.relay;
    const upload = this.uploads.get(id);
    if (!relay || !upload) return;
    if (type === "opened") {
      relay.stored ??= 0;
    } else if (type === "stored") {
      relay.stored = bytes;
      const state = bytes < (upload.size ?? 0) ? "active" : "finishing";
      this.change(upload, { sent: bytes, state });
    } else {
      relay.end = error ? new Error(error) : result;
    }
    relay.wake();
  }

  private forget(ids: string[]): void {
    for (const id of ids) {
      this.uploads.delete(id);
      this.files.delete(id);
    }
    for (const list of this.lists) list.forget(ids);
  }
}

function onBeforeUnload(event: BeforeUnloadEvent): void {
  event.preventDefault();
  event.returnValue = true; // for browsers before Chrome 119
}

/** Set whether the browser asks the user before the page is closed. */
function askBeforeLeaving(isAsked: boolean): void {
  if (isAsked) window.addEventListener("beforeunload", onBeforeUnload);
  else window.removeEventListener("beforeunload", onBeforeUnload);
}

function randomHex(bytes: number): string {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}
