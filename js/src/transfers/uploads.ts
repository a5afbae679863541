/**
 * The uploads of a panel, of all pages that show it.
 *
 * A page sends its files by itself, because only it has them; its uploads go on while no view shows
 * them. The trait `uploads` has those of all pages. Each page corrects there what others say of its
 * own ones, except that they are to be cancelled or forgotten.
 */

import { effect, type Signal, signal, untracked } from "@preact/signals";
import { newId } from "../dom.ts";
import { messageOf } from "../format.ts";
import type { Traits } from "../state/traits.ts";
import type { Transport } from "../transport.ts";
import type { ChosenFile } from "./dropped_files.ts";
import { type Destination, isOpen, sendFile, type Transfer } from "./transfer.ts";

const AT_ONCE = 3; // uploads
const INTERVAL = 150; // ms between two updates of the page
const SYNC_INTERVAL = 1000; // ms between two updates of the trait, unless a state changes

const CLOSED = new Error("The panel that sent it through the kernel was closed");

export type Upload = Transfer & {
  /** The page that sends it. */
  page: string;
};

export type UploadTraits = { uploads: Upload[] };

type OwnFile = { file: File; destination: Destination; stop: AbortController };

const ofPanels = new Map<string, Uploads>();

/** Return the uploads of a panel; `panel` identifies it in this page. */
export function uploadsOf(panel: string): Uploads {
  const found = ofPanels.get(panel) ?? new Uploads();
  ofPanels.set(panel, found);
  return found;
}

export class Uploads {
  /** Those of all pages, oldest first. */
  readonly all: Signal<Upload[]> = signal([]);
  private readonly page = newId();
  private own: Upload[] = [];
  private readonly files = new Map<string, OwnFile>(); // that were not sent yet
  private readonly told = new Set<string>(); // the ids of own ones that the trait had
  private transport: Transport | null = null;
  private readonly attached: Traits<UploadTraits>[] = [];
  private drawTimer: ReturnType<typeof setTimeout> | undefined;
  private tellTimer: ReturnType<typeof setTimeout> | undefined;
  private toldStates = "";

  /** Send by this transport, and follow the trait, until the function that is returned is called. */
  attach(transport: Transport, traits: Traits<UploadTraits>): () => void {
    this.transport = transport;
    this.attached.push(traits);
    // a page that still sends one of these corrects it
    const isLeft = (upload: Upload) => isOpen(upload) && upload.page !== this.page;
    if (traits.uploads.value.some(isLeft)) {
      const uploads = traits.uploads.value.map((upload): Upload => {
        return isLeft(upload) ? { ...upload, state: "lost" } : upload;
      });
      traits.set({ uploads });
    }
    const stop = effect(() => {
      const { value } = traits.uploads;
      untracked(() => this.hear(value));
    });
    return () => {
      stop();
      this.attached.splice(this.attached.indexOf(traits), 1);
      // through the kernel, nothing arrives any more
      if (transport.base === null && this.transport === transport) {
        for (const file of this.files.values()) file.stop.abort(CLOSED);
      }
    };
  }

  private get traits(): Traits<UploadTraits> | undefined {
    return this.attached.at(-1);
  }

  add(chosen: ChosenFile[], destination: Destination): void {
    for (const { file, folder } of chosen) {
      const id = newId();
      const subfolder = [destination.subfolder, folder].filter(Boolean).join("/");
      const { name, size } = file;
      const where = [destination.type, subfolder].filter(Boolean).join("/");
      const stop = new AbortController();
      this.files.set(id, { file, destination: { ...destination, subfolder }, stop });
      const facts = { id, page: this.page, name, where, size };
      this.own.push({ ...facts, sent: 0, state: "queued", error: null, result: null });
    }
    this.startQueued();
    this.draw();
  }

  /** Whether it can be sent again: this page must have its file. */
  canRetry({ id, state }: Transfer): boolean {
    return (state === "failed" || state === "cancelled") && this.files.has(id);
  }

  cancel(id: string): void {
    const upload = this.own.find((each) => each.id === id);
    if (!upload) this.say((each) => (each.id === id ? { ...each, state: "cancelled" } : each));
    else if (upload.state === "queued") this.change(id, { state: "cancelled" });
    else if (isOpen(upload)) this.files.get(id)?.stop.abort();
  }

  retry(id: string): void {
    const file = this.files.get(id);
    if (!file) return;
    file.stop = new AbortController();
    this.change(id, { state: "queued", sent: 0, error: null });
    this.startQueued();
  }

  /** Remove uploads that have ended from the lists of all pages. */
  forget(ids: ReadonlySet<string>): void {
    this.own = this.own.filter(({ id }) => !ids.has(id));
    for (const id of ids) this.files.delete(id);
    this.say((each) => (ids.has(each.id) ? null : each));
    this.draw();
  }

  private startQueued(): void {
    const busy = this.own.filter(({ state }) => state === "active" || state === "finishing").length;
    const queued = this.own.filter(({ state }) => state === "queued");
    for (const { id } of queued.slice(0, Math.max(0, AT_ONCE - busy))) this.start(id);
  }

  private async start(id: string): Promise<void> {
    const own = this.files.get(id);
    if (!own || !this.transport) return;
    const { file, destination, stop } = own;
    this.change(id, { state: "active" });
    const progress = (share: number) => {
      const sent = Math.round(file.size * share);
      this.change(id, { sent, state: share < 1 ? "active" : "finishing" });
    };
    try {
      const result = await sendFile(this.transport, file, destination, progress, stop.signal);
      this.files.delete(id);
      this.change(id, { state: "done", sent: file.size, result });
    } catch (error) {
      const isCancelled = stop.signal.aborted && error !== CLOSED;
      if (isCancelled) this.change(id, { state: "cancelled" });
      else this.change(id, { state: "failed", error: messageOf(error) });
    }
    this.startQueued();
  }

  private change(id: string, facts: Partial<Upload>): void {
    const place = this.own.findIndex((each) => each.id === id);
    const before = this.own[place];
    if (!before) return;
    this.own[place] = { ...before, ...facts };
    if (before.state !== this.own[place].state) this.draw();
    else this.drawTimer ??= setTimeout(() => this.draw(), INTERVAL);
  }

  /** Show all uploads, and tell the other pages and Python of those of this page. */
  private draw(): void {
    clearTimeout(this.drawTimer);
    this.drawTimer = undefined;
    // in the order of the trait, which other pages keep, too
    const own = new Map(this.own.map((upload) => [upload.id, upload]));
    const said = (this.traits?.uploads.value ?? this.all.value).flatMap((upload) => {
      if (upload.page !== this.page) return upload;
      const mine = own.get(upload.id);
      own.delete(upload.id);
      return mine ?? [];
    });
    this.all.value = [...said, ...own.values()];
    askBeforeLeaving(this, this.own.some(isOpen));
    const states = this.own.map(({ id, state }) => `${id} ${state}`).join();
    if (states !== this.toldStates) this.tell();
    else this.tellTimer ??= setTimeout(() => this.tell(), SYNC_INTERVAL);
    this.toldStates = states;
  }

  private tell(): void {
    clearTimeout(this.tellTimer);
    this.tellTimer = undefined;
    if (!this.traits) return;
    if (JSON.stringify(this.traits.uploads.value) === JSON.stringify(this.all.value)) return;
    for (const { id } of this.own) this.told.add(id);
    this.traits.set({ uploads: this.all.value });
  }

  /** Change what the trait says of uploads of other pages. */
  private say(change: (upload: Upload) => Upload | null): void {
    if (!this.traits) return;
    const uploads = this.traits.uploads.value.flatMap((upload) => change(upload) ?? []);
    this.traits.set({ uploads });
  }

  /** Take what other pages say. */
  private hear(said: Upload[]): void {
    const here = new Map(said.map((upload) => [upload.id, upload]));
    for (const { id, state } of this.own) {
      const isAsked = here.get(id)?.state === "cancelled" && isOpen({ state });
      if (isAsked) this.cancel(id);
    }
    this.own = this.own.filter(
      (upload) => isOpen(upload) || here.has(upload.id) || !this.told.has(upload.id),
    );
    this.draw();
  }
}

const unfinished = new Set<object>();

function onBeforeUnload(event: BeforeUnloadEvent): void {
  event.preventDefault();
  event.returnValue = true; // for browsers before Chrome 119
}

/** Set whether the browser asks the user before the page is closed, for the uploads of a panel. */
function askBeforeLeaving(panel: object, isAsked: boolean): void {
  if (isAsked) unfinished.add(panel);
  else unfinished.delete(panel);
  if (unfinished.size) window.addEventListener("beforeunload", onBeforeUnload);
  else window.removeEventListener("beforeunload", onBeforeUnload);
}
