/** The runs and batches of a workflow, or of all: loads what is visible, and follows what changes. */

import { signal } from "@preact/signals";
import {
  EVERYTHING,
  type Filter,
  fieldsOf,
  foldsBatches,
  isFiltered,
} from "../components/filters.tsx";
import { messageOf } from "../format.ts";
import type { Batch, RunCard, RunCards } from "../shown_runs.ts";
import { listOf, type Transport } from "../transport.ts";

const PAGE = 60; // entries in a request
const KEPT = 20; // pages that are kept
const WATCHED = 10; // of the newest entries, which are compared with those before
const PAUSE = 50; // ms without scrolling, after which entries are loaded
const LOOK = 3000; // ms between two comparisons
const LOST = 5000; // while nothing answers

/** An entry of the list: a run, or a batch in place of its points. */
export type Listed = RunCard | Batch;

export function isBatch(entry: Listed): entry is Batch {
  return "batch_id" in entry;
}

/** Return what identifies an entry. */
export function keyOf(entry: Listed): string {
  return isBatch(entry) ? entry.batch_id : entry.prompt_id;
}

export class RunList {
  /** Changes whenever anything below changes. */
  readonly revision = signal(0);
  readonly filter;
  /** The names and values of the labels of the runs that were loaded. */
  readonly labels = signal<[string, string][]>([]);
  /** Why the list is not up to date; empty if it is. */
  readonly problem = signal("");
  /** Whether there is something newer: what is read keeps its place until its top is visible. */
  readonly hasNewer = signal(false);
  /** The number of entries; -1 until it is known. */
  count = -1;

  private waiting: RunCard[] = [];
  private pages = new Map<number, Listed[]>();
  /** The cursor before each page that is known; that of the first one is where the list begins. */
  private readonly cursors = new Map<number, string>();
  private readonly stale = new Set<number>(); // pages that are loaded again when they are visible
  private readonly loading = new Map<number, AbortController>();
  private isCounted = false;
  private counting = new AbortController();
  private range: [number, number] = [0, 0];
  private isAtTop = true;
  private newest = "";
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly transport: Transport,
    /** The hash of the workflow, as its form says it; undefined for all workflows. */
    readonly structure: string | undefined,
    filter: Filter = EVERYTHING,
  ) {
    this.filter = signal(filter);
  }

  /** Whether there is anything to show, or to search. */
  get isEmpty(): boolean {
    return this.count <= 0 && !isFiltered(this.filter.peek());
  }

  /** Return an entry by its place, newest first; undefined until it is loaded. */
  at(place: number): Listed | undefined {
    const ended = place - this.waiting.length;
    if (ended < 0) return this.waiting[place];
    return this.pages.get(Math.floor(ended / PAGE))?.[ended % PAGE];
  }

  /** Return the place of a loaded entry; -1 if it is not loaded. */
  placeOf(key: string): number {
    for (const [page, entries] of this.pages) {
      const place = entries.findIndex((entry) => keyOf(entry) === key);
      if (place >= 0) return this.waiting.length + page * PAGE + place;
    }
    return -1;
  }

  /** Return the loaded runs, newest first. */
  loaded(): RunCard[] {
    const pages = [...this.pages].sort(([first], [second]) => first - second);
    const runs = pages.flatMap(([, entries]) => entries.filter((entry) => !isBatch(entry)));
    return [...this.waiting, ...(runs as RunCard[])];
  }

  find(promptId: string): RunCard | undefined {
    return this.loaded().find((run) => run.prompt_id === promptId);
  }

  /** Load the entries of these places, which are visible. */
  need(first: number, end: number, isAtTop: boolean): void {
    this.range = [first, end];
    this.isAtTop = isAtTop;
    if (isAtTop && this.hasNewer.peek()) {
      this.refresh();
      return;
    }
    const [from, to] = this.visible();
    for (const [page, stop] of this.loading) {
      if (this.cursors.has(0) && (page < from || page > to)) stop.abort();
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.loadVisible(), PAUSE);
  }

  /** Return the first and the last page that are visible. */
  private visible(): [number, number] {
    const [first, end] = this.range;
    const pageOf = (place: number) => Math.floor(Math.max(0, place - this.waiting.length) / PAGE);
    return [pageOf(first), pageOf(Math.max(first, end - 1))];
  }

  private async loadVisible(): Promise<void> {
    // Where the list begins must be known before other pages are counted from there.
    if (!this.cursors.has(0)) {
      if (this.loading.has(0)) return;
      await this.load(0);
      if (!this.cursors.has(0)) return;
    }
    const [from, to] = this.visible();
    for (let page = from; page <= to; page += 1) {
      if (this.loading.has(page) || (this.pages.has(page) && !this.stale.has(page))) continue;
      this.load(page);
    }
    if (this.pages.size > KEPT) {
      for (const page of this.pages.keys()) {
        if (page < from - KEPT / 2 || page > to + KEPT / 2) this.pages.delete(page);
      }
    }
  }

  /** Show other runs. */
  choose(filter: Filter): void {
    this.filter.value = filter;
    this.forget(false);
    this.pages.clear();
    this.newest = "";
    this.load(0);
  }

  /** Load everything again that is visible; what is shown stays until then. */
  refresh(): void {
    this.forget(!this.isAtTop);
    for (const page of this.pages.keys()) this.stale.add(page);
    this.timer = setTimeout(() => this.loadVisible(), PAUSE);
  }

  /** Forget what is known of the places of entries, also where the list begins, if wanted. */
  private forget(keepsStart: boolean): void {
    this.end();
    const start = this.cursors.get(0);
    this.cursors.clear();
    if (keepsStart && start !== undefined) this.cursors.set(0, start);
    this.isCounted = false;
    this.hasNewer.value &&= keepsStart;
  }

  /** Look for changes that others make; return after how many ms to look again. */
  async poll(signal: AbortSignal): Promise<number> {
    if (this.count < 0) {
      if (!this.loading.has(0)) await this.load(0);
      return this.problem.peek() ? LOST : LOOK;
    }
    try {
      const found = await this.ask({ limit: WATCHED, count: !this.isSearch }, signal);
      this.problem.value = "";
      const newest = this.markOf(found);
      if (this.newest && newest !== this.newest) this.refresh();
      this.newest = newest;
      const start = this.cursors.get(0);
      this.hasNewer.value = !this.isAtTop && start !== undefined && (found.start ?? "") > start;
      return LOOK;
    } catch (error) {
      if (!signal.aborted) this.problem.value = messageOf(error);
      return LOST;
    }
  }

  /** Change runs here, as they were changed at the server. */
  change(promptIds: string[], change: Partial<RunCard>): void {
    const changed = <Entry extends Listed>(entry: Entry) =>
      promptIds.includes(keyOf(entry)) ? { ...entry, ...change } : entry;
    for (const [page, entries] of this.pages) this.pages.set(page, entries.map(changed));
    this.waiting = this.waiting.map(changed);
    this.revision.value += 1;
  }

  end(): void {
    clearTimeout(this.timer);
    for (const stop of this.loading.values()) stop.abort();
    this.counting.abort();
    this.loading.clear();
    this.stale.clear();
  }

  /** Whether all runs are read to count those that are found: the first ones are shown before. */
  private get isSearch(): boolean {
    return this.filter.peek().search !== "";
  }

  private async ask(
    which: { limit: number; cursor?: string; offset?: number; count?: boolean },
    signal: AbortSignal,
  ): Promise<RunCards> {
    const filter = this.filter.peek();
    const query = {
      ...which,
      ...fieldsOf(filter),
      ...(foldsBatches(filter) && { batches: true }),
      ...(this.structure && { structure: this.structure }),
    };
    const found = await this.transport.get<RunCards>("runs/cards", query, signal);
    listOf(found.runs); // a server of another version may answer something else
    listOf(found.waiting);
    return found;
  }

  private async load(page: number): Promise<void> {
    const stop = new AbortController();
    this.loading.set(page, stop);
    this.stale.delete(page);
    const near = Math.max(0, ...[...this.cursors.keys()].filter((each) => each <= page));
    const cursor = this.cursors.get(near);
    const from = { ...(cursor && { cursor }), offset: (page - near) * PAGE };
    const count = !this.isCounted && !this.isSearch;
    try {
      const found = await this.ask({ limit: PAGE, ...from, count }, stop.signal);
      if (stop.signal.aborted) return;
      this.pages.set(page, inOrder(found));
      this.cursors.set(page, this.cursors.get(page) ?? found.start ?? "");
      if (found.next) this.cursors.set(page + 1, found.next);
      if (!cursor && page === 0) {
        this.waiting = found.waiting;
        this.newest ||= this.markOf(found);
      }
      if (found.total !== null) this.noteTotal(near * PAGE + found.total);
      else if (!this.isCounted) {
        this.count = Math.max(this.count, this.waiting.length + (page + 1) * PAGE);
        this.tally();
      }
      this.note(found.runs);
      this.problem.value = "";
      this.revision.value += 1;
    } catch (error) {
      if (!stop.signal.aborted) this.problem.value = messageOf(error);
    } finally {
      if (this.loading.get(page) === stop) this.loading.delete(page);
    }
  }

  /** Count what a search finds; until then the list is as long as what is loaded. */
  private async tally(): Promise<void> {
    this.counting.abort();
    this.counting = new AbortController();
    const { signal } = this.counting;
    const cursor = this.cursors.get(0);
    const found = await this.ask({ limit: 1, ...(cursor && { cursor }) }, signal).catch(() => null);
    if (!found || signal.aborted) return; // the next look, or a page, counts again
    this.noteTotal(found.total ?? 0);
    this.revision.value += 1;
  }

  private noteTotal(total: number): void {
    this.count = total + this.waiting.length;
    this.isCounted = true;
    const last = Math.ceil(total / PAGE);
    for (const each of this.pages.keys()) if (each >= last) this.pages.delete(each);
  }

  /** Return a text that changes when the newest entries, or their number, change. */
  private markOf(found: RunCards): string {
    const facts = [...found.waiting, ...inOrder(found).slice(0, WATCHED)].map((entry) =>
      isBatch(entry)
        ? [entry.batch_id, entry.state]
        : [entry.prompt_id, entry.status, entry.pinned, entry.starred, entry.note, entry.why],
    );
    return JSON.stringify([this.isSearch ? null : found.total, facts]);
  }

  private note(runs: RunCard[]): void {
    const known = new Set(this.labels.peek().map((label) => JSON.stringify(label)));
    const { size } = known;
    for (const { metadata } of runs) {
      for (const label of Object.entries(metadata)) known.add(JSON.stringify(label));
    }
    if (known.size > size) this.labels.value = [...known].sort().map((text) => JSON.parse(text));
  }
}

/** Return the runs and the batches of a reply in one list, newest first. */
function inOrder({ runs, batches = [] }: RunCards): Listed[] {
  return [...batches, ...runs].sort((a, b) =>
    a.created_at === b.created_at ? 0 : a.created_at < b.created_at ? 1 : -1,
  );
}
