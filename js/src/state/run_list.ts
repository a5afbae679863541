/** The runs of a workflow, or of all: loads those that are visible, and follows what changes. */

import { signal } from "@preact/signals";
import { EVERYTHING, type Filter, fieldsOf, isFiltered } from "../components/filters.tsx";
import { messageOf } from "../format.ts";
import type { RunCard, RunCards } from "../shown_runs.ts";
import { listOf, type Transport } from "../transport.ts";

const PAGE = 60; // runs in a request
const KEPT = 20; // pages that are kept
const WATCHED = 10; // of the newest runs, which are compared with those before
const PAUSE = 50; // ms without scrolling, after which runs are loaded
const LOOK = 3000; // ms between two comparisons
const LOST = 5000; // while nothing answers

export class RunList {
  /** Changes whenever anything below changes. */
  readonly revision = signal(0);
  readonly filter;
  /** The names and values of the labels of the runs that were loaded. */
  readonly labels = signal<[string, string][]>([]);
  /** Why the list is not up to date; empty if it is. */
  readonly problem = signal("");
  /** The number of runs; -1 until it is known. */
  count = -1;

  private waiting: RunCard[] = [];
  private pages = new Map<number, RunCard[]>();
  private readonly stale = new Set<number>(); // pages that are loaded again when they are visible
  private readonly loading = new Map<number, AbortController>();
  private range: [number, number] = [0, 0];
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

  /** Return a run by its place, newest first; undefined until it is loaded. */
  at(place: number): RunCard | undefined {
    const ended = place - this.waiting.length;
    if (ended < 0) return this.waiting[place];
    return this.pages.get(Math.floor(ended / PAGE))?.[ended % PAGE];
  }

  /** Return the loaded runs, newest first. */
  loaded(): RunCard[] {
    const pages = [...this.pages].sort(([first], [second]) => first - second);
    return [...this.waiting, ...pages.flatMap(([, runs]) => runs)];
  }

  find(promptId: string): RunCard | undefined {
    return this.loaded().find((run) => run.prompt_id === promptId);
  }

  /** Load the runs of these places, which are visible. */
  need(first: number, end: number): void {
    this.range = [first, end];
    const [from, to] = [first, end - 1].map((place) =>
      Math.floor(Math.max(0, place - this.waiting.length) / PAGE),
    ) as [number, number];
    for (const [page, stop] of this.loading) if (page < from || page > to) stop.abort();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.loadVisible(from, to), PAUSE);
  }

  private loadVisible(from: number, to: number): void {
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
    this.end();
    this.pages.clear();
    this.newest = "";
    this.load(0);
  }

  /** Load everything again that is visible; what is shown stays until then. */
  refresh(): void {
    for (const page of this.pages.keys()) this.stale.add(page);
    const [first, end] = this.range;
    this.need(first, Math.max(end, first + 1));
  }

  /** Look for changes that others make; return after how many ms to look again. */
  async poll(signal: AbortSignal): Promise<number> {
    if (this.count < 0) {
      if (!this.loading.has(0)) await this.load(0);
      return this.problem.peek() ? LOST : LOOK;
    }
    try {
      const found = await this.ask(WATCHED, 0, signal);
      this.problem.value = "";
      const newest = markOf(found);
      if (this.newest && newest !== this.newest) this.refresh();
      this.newest = newest;
      return LOOK;
    } catch (error) {
      if (!signal.aborted) this.problem.value = messageOf(error);
      return LOST;
    }
  }

  /** Change runs here, as they were changed at the server. */
  change(promptIds: string[], change: Partial<RunCard>): void {
    const changed = (run: RunCard) =>
      promptIds.includes(run.prompt_id) ? { ...run, ...change } : run;
    for (const [page, runs] of this.pages) this.pages.set(page, runs.map(changed));
    this.waiting = this.waiting.map(changed);
    this.revision.value += 1;
  }

  end(): void {
    clearTimeout(this.timer);
    for (const stop of this.loading.values()) stop.abort();
    this.loading.clear();
    this.stale.clear();
  }

  private async ask(limit: number, offset: number, signal: AbortSignal): Promise<RunCards> {
    const filter = this.filter.peek();
    const query = {
      limit,
      offset,
      ...fieldsOf(filter),
      // those of batches are in the rows of these, unless runs are searched
      ...(!isFiltered(filter) && { single: true }),
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
    try {
      const found = await this.ask(PAGE, page * PAGE, stop.signal);
      if (stop.signal.aborted) return;
      this.pages.set(page, found.runs);
      if (page === 0) {
        this.waiting = found.waiting;
        this.newest ||= markOf({ ...found, runs: found.runs.slice(0, WATCHED) });
      }
      this.count = found.total + this.waiting.length;
      const last = Math.ceil(found.total / PAGE);
      for (const each of this.pages.keys()) if (each >= last) this.pages.delete(each);
      this.note(found.runs);
      this.problem.value = "";
      this.revision.value += 1;
    } catch (error) {
      if (!stop.signal.aborted) this.problem.value = messageOf(error);
    } finally {
      if (this.loading.get(page) === stop) this.loading.delete(page);
    }
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

/** Return a text that changes when the newest runs, or their number, change. */
function markOf({ runs, total, waiting }: RunCards): string {
  const facts = [...waiting, ...runs].map((run) => [
    run.prompt_id,
    run.status,
    run.pinned,
    run.starred,
    run.note,
    run.why,
  ]);
  return JSON.stringify([total, facts]);
}
