/** The runs of a panel: queues them, follows them one after another, and has their progress. */

import { batch, computed, signal } from "@preact/signals";
import { counted, messageOf } from "../format.ts";
import { RouteError, type ServerEvent, type Transport, untilAnswered } from "../transport.ts";
import type { Inputs, NodeErrors, Source } from "./form.ts";

/** The record of a run, as `POST run` replies and `GET runs` lists it. */
export type RunRecord = {
  prompt_id: string;
  status: string;
  queue_position?: number | null;
  live_status?: string | null;
  started_at?: string | null;
  created_at?: string | null;
  [name: string]: unknown;
};

/** What is known of the run that is followed. Times are ms of this page's clock. */
export type Progress = {
  prompt_id: string;
  status: string;
  text: string;
  fraction: number;
  step: number;
  steps: number;
  node: string | null;
  /** The states of the nodes, by their ids. */
  nodes: Record<string, Mark>;
  since: number;
  left: number | null;
  leftAt: number;
  /** Whether the text says that the server is away. */
  isLost?: boolean;
};

/** The state of a node in a run; one that has none is not executed yet. */
export type Mark = "done" | "running" | "failed";

export const MAX_AT_ONCE = 100;

const FINAL = new Set(["success", "failed", "cancelled"]);
const WAITS = ["not-started", "queued"]; // for outputs of other runs, in the queue
const ACTIVE = [...WAITS, "running", "uploading"];
const PAUSES = [100, 300, 1000, 2000, 5000]; // ms between attempts to join a run again
const WORDS: Record<string, string> = {
  running: "Running",
  uploading: "Uploading",
};

/** An id for a run, so that it can be found if the reply to its request is lost. */
export function newRunId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The place of a queued run in words. */
function placeOf({ live_status, queue_position: place }: RunRecord): string {
  if (live_status) return live_status;
  if (place === null || place === undefined) return "Waiting in the queue";
  if (place <= 1) return "Next in the queue";
  return `Waiting: ${counted(place - 1, "run")} before this one`;
}

function marked(nodes: unknown[], mark: Mark): Record<string, Mark> {
  return Object.fromEntries(nodes.map((node) => [String(node), mark]));
}

/** The states of the nodes in a run that has ended. */
export function marksOf(record: RunRecord): Record<string, Mark> {
  const { cached_nodes, node_times, error } = record as {
    cached_nodes?: string[];
    node_times?: Record<string, number>;
    error?: { node_id?: string | null } | null;
  };
  return {
    ...marked([...(cached_nodes ?? []), ...Object.keys(node_times ?? {})], "done"),
    ...marked(error?.node_id ? [error.node_id] : [], "failed"),
  };
}

export class RunQueue {
  /** The ids of the run that is followed and of those that wait for it. */
  readonly followed = signal<string[]>([]);
  readonly submitting = signal(0);
  readonly isCancelling = signal(false);
  readonly progress = signal<Progress | null>(null);
  /** The last preview of the sampler. */
  readonly preview = signal<{ mime: string; image: string } | null>(null);
  /** The last run that ended here. */
  readonly result = signal<RunRecord | null>(null);
  readonly error = signal("");
  /** The code of the error that a server answered with. */
  errorCode = "";
  /** Why what is being queued or cancelled has to wait; empty if it has not. */
  readonly lost = signal("");
  readonly isBusy = computed(() => this.submitting.value + this.followed.value.length > 0);

  private giveUp = new AbortController(); // of what is being queued
  private readonly stop = new AbortController(); // of everything
  private isWorking = false;

  constructor(
    private readonly transport: Transport,
    private readonly on: {
      accepted: (promptId: string, inputs: Inputs, nodeErrors: NodeErrors) => void;
      refused: (error: unknown) => void;
      ended: (record: RunRecord) => void;
    },
  ) {}

  end(): void {
    this.stop.abort();
    this.giveUp.abort();
  }

  /** Queue a workflow once for each of these inputs. */
  async submit(source: Source, runs: Inputs[], machine: string | null): Promise<void> {
    await this.queue(runs.length, async (done) => {
      for (const inputs of runs) {
        const prompt_id = newRunId();
        const body = { ...source, inputs, machine, prompt_id, wait: false };
        const cancel = () => this.interrupt(prompt_id);
        const reply = await this.make<{ node_errors?: NodeErrors }>(
          "run",
          body,
          "prompt_id",
          cancel,
        );
        batch(() => {
          done();
          this.follow(prompt_id);
        });
        this.on.accepted(prompt_id, inputs, reply?.node_errors ?? {});
      }
    });
  }

  /** Make a batch; return whether it was made, or its creation was given up or refused. */
  create(body: { batch_id: string }): Promise<boolean> {
    const path = `batch/${body.batch_id}/cancel`;
    return this.queue(1, () => this.make("batch", body, "batch_id", () => this.tell(path, {})));
  }

  /** Do this; return whether it was done, or was given up or refused. */
  private async queue(
    number: number,
    work: (done: () => void) => Promise<unknown>,
  ): Promise<boolean> {
    const { signal } = this.giveUp;
    let left = number;
    batch(() => {
      this.error.value = "";
      this.submitting.value += number;
    });
    try {
      await work(() => {
        left -= 1;
        this.submitting.value -= 1;
      });
      return true;
    } catch (error) {
      if (!signal.aborted) {
        this.fail(error);
        this.on.refused(error);
      }
      return false;
    } finally {
      this.submitting.value -= left;
      if (signal.aborted && this.giveUp.signal === signal) this.giveUp = new AbortController();
      if (!this.followed.value.length) this.isCancelling.value = false;
    }
  }

  /**
   * Have the server make something with an id of ours, which is the field `id` of the body. The
   * request is sent until there is a reply, and makes it once; what is given up is cancelled.
   */
  private async make<Reply>(
    path: string,
    body: object,
    id: string,
    cancel: () => Promise<void>,
  ): Promise<Reply | null> {
    const { signal } = this.giveUp;
    signal.throwIfAborted();
    const send = async () => {
      try {
        return await this.transport.post<Reply>(path, body);
      } catch (error) {
        // it is there already: the reply to an earlier request was lost
        if (error instanceof RouteError && error.status === 409 && error.details.field === id) {
          return null;
        }
        throw error;
      }
    };
    const stop = () => !this.stop.signal.aborted && cancel();
    try {
      const reply = await untilAnswered(send, signal, this.wait);
      if (signal.aborted) await stop(); // while there was no reply yet
      return reply;
    } catch (error) {
      if (signal.aborted) await stop(); // an earlier request may have arrived
      throw error;
    }
  }

  private readonly wait = (why: string) => {
    this.lost.value = why;
  };

  /** Follow a run, after those that are followed already. */
  follow(promptId: string): void {
    if (this.followed.value.includes(promptId)) return;
    this.followed.value = [...this.followed.value, promptId];
    this.work();
  }

  /** Follow the single runs of a workflow that have not ended; return their ids, oldest first. */
  async find(structure: string, isCurrent: () => boolean): Promise<string[]> {
    const query = { structure, single: true };
    const lists = await Promise.all(
      ACTIVE.map((status) => this.transport.get<RunRecord[]>("runs", { ...query, status })),
    );
    if (!isCurrent()) return [];
    const active = lists.flat();
    active.sort((a, b) => String(a.created_at).localeCompare(String(b.created_at)));
    for (const run of active) this.follow(run.prompt_id);
    return active.map((run) => run.prompt_id);
  }

  /** Cancel the run that is shown; without one, what is being queued. */
  async cancel(everything = false): Promise<void> {
    const runs = everything ? [...this.followed.value].reverse() : this.followed.value.slice(0, 1);
    if (everything || !runs.length) this.giveUp.abort();
    this.isCancelling.value = true;
    // The last one first, so that none of them starts in between.
    for (const promptId of runs) await this.interrupt(promptId);
  }

  private interrupt(promptId: string): Promise<void> {
    return this.tell("interrupt", { prompt_id: promptId });
  }

  /** Send a cancellation until there is a reply; what has ended, or is not there, needs none. */
  private async tell(path: string, body: object): Promise<void> {
    try {
      await untilAnswered(() => this.transport.post(path, body), this.stop.signal, this.wait);
    } catch (error) {
      const isOver = error instanceof RouteError && [404, 409].includes(error.status);
      if (!isOver && !this.stop.signal.aborted) this.fail(error);
    }
  }

  private fail(error: unknown): void {
    this.errorCode = error instanceof RouteError ? error.code : "";
    this.error.value = messageOf(error);
  }

  private pause(duration: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, duration));
  }

  private async work(): Promise<void> {
    if (this.isWorking) return;
    this.isWorking = true;
    for (;;) {
      const [promptId] = this.followed.value;
      if (promptId === undefined || this.stop.signal.aborted) break;
      const record = await this.watch(promptId);
      if (this.stop.signal.aborted) break;
      batch(() => {
        this.followed.value = this.followed.value.slice(1);
        this.progress.value = null;
        this.preview.value = null;
        this.isCancelling.value = false;
        if (record) this.result.value = record;
      });
      if (record) this.on.ended(record);
    }
    this.isWorking = false;
  }

  /** Follow one run to its end, also while the server is away; return its record. */
  private async watch(promptId: string): Promise<RunRecord | null> {
    const { signal } = this.stop;
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        const known = await this.transport.get<RunRecord>(
          "check-status",
          { prompt_id: promptId },
          signal,
        );
        if (FINAL.has(known.status)) return known;
        this.begin(known);
        const query = { prompt_id: promptId, previews: true };
        for await (const event of this.transport.events("run/streaming", { query, signal })) {
          failures = 0;
          const record = this.feed(event);
          if (record) return record;
        }
      } catch (error) {
        if (signal.aborted) return null;
        if (error instanceof RouteError && error.status === 404) return null; // it was deleted
        const { value } = this.progress;
        if (value) {
          const text = `${messageOf(error)}; trying again`;
          this.progress.value = { ...value, text, isLost: true };
        }
      }
      await this.pause(PAUSES[Math.min(failures, PAUSES.length - 1)] ?? 0);
    }
    return null;
  }

  private begin(known: RunRecord): void {
    const started = known.started_at ?? known.created_at;
    const status = known.status;
    const before = this.progress.value;
    if (before?.prompt_id === known.prompt_id && !before.isLost) return;
    this.progress.value = {
      prompt_id: known.prompt_id,
      status,
      text: WAITS.includes(status)
        ? placeOf(known)
        : (known.live_status ?? WORDS[status] ?? status),
      fraction: Number(known.progress ?? 0),
      step: 0,
      steps: 0,
      node: null,
      nodes: {},
      since: started ? Math.min(Date.now(), Date.parse(started)) : Date.now(),
      left: null,
      leftAt: 0,
    };
  }

  /** Ask for the place of a run that waits; call it from time to time. */
  async ask(signal: AbortSignal): Promise<void> {
    const { value } = this.progress;
    if (!value || !WAITS.includes(value.status)) return;
    const known = await this.transport.get<RunRecord>(
      "check-status",
      { prompt_id: value.prompt_id },
      signal,
    );
    const now = this.progress.value;
    if (
      now?.prompt_id === value.prompt_id &&
      WAITS.includes(now.status) &&
      WAITS.includes(known.status)
    ) {
      this.progress.value = { ...now, status: known.status, text: placeOf(known) };
    }
  }

  /** Take an event of the run that is followed; return its record if it has ended. */
  private feed({ data: message }: ServerEvent): RunRecord | null {
    const { event, data } = (message ?? {}) as { event?: string; data?: Record<string, unknown> };
    const { value } = this.progress;
    if (!event || !data || !value) return null;
    const change = (changed: Partial<Progress>) => {
      this.progress.value = { ...value, ...changed };
    };
    const waits = WAITS.includes(value.status);
    const began = () => (waits ? { status: "running", since: Date.now() } : {});
    if (event === "execution_start") change({ ...began(), text: "Running", nodes: {} });
    else if (event === "execution_cached") {
      const nodes = Array.isArray(data.nodes) ? data.nodes : [];
      change({ nodes: { ...value.nodes, ...marked(nodes, "done") } });
    } else if (event === "executing") {
      const node = (data.display_node ?? data.node ?? null) as string | null;
      const before = marked(Object.keys(value.nodes), "done");
      const nodes = { ...before, ...(node && { [node]: "running" as const }) };
      change({ ...began(), node, nodes, step: 0, steps: 0 });
    } else if (event === "progress") {
      change({ step: Number(data.value) || 0, steps: Number(data.max) || 0 });
    } else if (event === "live_status") {
      const kind = typeof data.current_class === "string" ? data.current_class : "";
      const doing = String(data.live_status ?? "");
      const left = typeof data.time_left === "number" ? data.time_left : null;
      change({
        fraction: Math.min(1, Math.max(value.fraction, Number(data.progress) || 0)),
        left,
        leftAt: Date.now(),
        ...(!waits && doing
          ? { text: kind && !doing.includes(kind) ? `${doing} (${kind})` : doing }
          : {}),
      });
    } else if (event === "preview") {
      this.preview.value = { mime: String(data.mime), image: String(data.image) };
    } else if (event === "result") return data as RunRecord;
    else if (event === "status" && ACTIVE.includes(String(data.status))) {
      change({ status: String(data.status) });
    }
    return null;
  }
}
