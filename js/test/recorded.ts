/** A server that answers with what a test or a story says, and runs to show. */

import type { Batch, RunCard, RunDetails, ShownFile } from "../src/shown_runs.ts";
import { isBatch } from "../src/state/run_list.ts";
import { type Options, type Query, Transport } from "../src/transport.ts";

type Asked = { method: string; path: string; query: Query; body: unknown };

/** Answers a request: with JSON, or with the content of a file. An error has `status`. */
export type Answer = (asked: Asked) => unknown;

export class Recorded extends Transport {
  readonly asked: Asked[] = [];

  constructor(
    readonly answers: Record<string, Answer>,
    readonly base: string | null = null,
  ) {
    super();
  }

  /** Return the requests of a route since the last call. */
  take(path: string): Asked[] {
    const found = this.asked.filter((each) => each.path === path);
    for (const each of found) this.asked.splice(this.asked.indexOf(each), 1);
    return found;
  }

  protected async raw(method: string, path: string, { query = {}, body, signal }: Options) {
    const asked = { method, path, query, body };
    this.asked.push(asked);
    const answer = this.answers[path];
    const found = answer ? await answer(asked) : { status: 404, message: "nothing", code: "none" };
    signal?.throwIfAborted();
    if (found instanceof Blob) {
      const headers = { "Content-Type": found.type, "Content-Length": String(found.size) };
      return new Response(found, { headers });
    }
    const status = Number((found as { status?: unknown }).status);
    return Response.json(found, { status: status >= 400 ? status : 200 });
  }

  protected async *texts(): AsyncGenerator<string> {}

  async script(name: string): Promise<string> {
    return `../../comfydeploy_jupyter/widgets/static/${name}`;
  }

  async send<Reply>(path: string, { query = {}, fields, file }: Parameters<Transport["send"]>[1]) {
    this.asked.push({ method: "POST", path, query, body: { fields, file } });
    return (await this.answers[path]?.({ method: "POST", path, query, body: file })) as Reply;
  }
}

export function file(name: string, more: Partial<ShownFile> = {}): ShownFile {
  const query = new URLSearchParams({ filename: name, subfolder: "", type: "output" });
  const size = { width: null, height: null };
  return { name, kind: "image", query: String(query), small: true, ...size, ...more };
}

const FACTS = {
  status: "success",
  created_at: "2026-11-29T10:00:00.000Z",
  machine: "local",
  seconds: 1.5,
  seeds: { "3.seed": "18446744073709551615" },
  metadata: {},
  pinned: false,
  starred: false,
  note: "",
  from_editor: false,
  workflow_id: "",
  why: "",
};

export function details(more: Partial<RunDetails> = {}): RunDetails {
  return {
    ...FACTS,
    prompt_id: "p",
    traceback: "",
    no_memory: false,
    left_out: [],
    cached: 0,
    outputs: [],
    times: [],
    ...more,
  };
}

export function output(node: string, more: Partial<RunDetails["outputs"][number]> = {}) {
  return {
    node,
    title: `Node ${node}`,
    class_type: "SaveImage",
    files: [],
    pairs: [],
    texts: [],
    ...more,
  };
}

/** A run in a list, by its number; larger numbers are newer. */
export function card(number: number, more: Partial<RunCard> = {}): RunCard {
  const time = new Date(Date.UTC(2026, 0, 1) + number * 60_000).toISOString();
  const picture = file(`picture ${number}.png`);
  const own = { prompt_id: `p${number}`, created_at: time, seeds: { "3.seed": String(number) } };
  return { ...FACTS, ...own, pictures: [picture], medium: "", inputs: [], workflow: "", ...more };
}

/** The answers of a server with so many runs and batches. */
export function serverOf(runs: RunCard[], batches: Batch[] = []): Record<string, Answer> {
  return {
    "runs/cards": ({ query }) => {
      const { starred, status, search } = query;
      let found: (RunCard | Batch)[] = runs;
      if (starred || status || search) {
        found = runs.filter(
          (run) =>
            (!starred || run.starred) &&
            (!status || run.status === status) &&
            (!search || JSON.stringify(run).includes(String(search))),
        );
      } else if (query.batches && batches.length) {
        found = [...runs, ...batches];
        found.sort((a, b) => b.created_at.localeCompare(a.created_at));
      }
      // a cursor is the time of the entry before it, or of the one after it
      const cursor = String(query.cursor ?? "~");
      const place = found.findIndex(({ created_at }) => `${created_at}!` < cursor);
      const begin = place < 0 ? found.length : place;
      const offset = begin + Number(query.offset ?? 0);
      const page = found.slice(offset, offset + Number(query.limit));
      const [first, last] = [page[0], page.at(-1)];
      return {
        runs: page.filter((entry) => !isBatch(entry)),
        batches: page.filter(isBatch),
        total: query.count === false ? null : found.length - begin,
        waiting: [],
        start: first ? `${first.created_at}~` : null,
        next: last?.created_at ?? null,
      };
    },
    "runs/update": ({ body }) => {
      const { prompt_ids, ...marks } = body as { prompt_ids: string[] } & Partial<RunCard>;
      runs.forEach((run, place) => {
        if (prompt_ids.includes(run.prompt_id)) runs[place] = { ...run, ...marks };
      });
      return { success: true };
    },
    "runs/delete": ({ body }) => {
      const { prompt_ids } = body as { prompt_ids: string[] };
      for (const id of prompt_ids) {
        const place = runs.findIndex((run) => run.prompt_id === id);
        if (place >= 0) runs.splice(place, 1);
      }
      return { runs: prompt_ids.length, files: 0, bytes: 0, kept: [], kept_count: 0 };
    },
    "runs/values": () => ({
      values: [
        { key: "6.text", label: "Prompt", title: "", kind: "multiline", value: "a fox <b>" },
        { key: "3.seed", label: "Seed", title: "", kind: "seed", value: "11" },
      ],
    }),
    "runs/differences": () => ({
      differences: [
        { text: "Colour", first: "#f06fa0", second: "#0000ff", kind: "color" },
        { text: 'added "Upscale"', first: null, second: null, kind: "" },
      ],
    }),
    "fs/stat": () => ({ path: "/data/output" }),
    view: ({ method }) => (method === "HEAD" ? {} : new Blob(["picture"], { type: "image/png" })),
  };
}

/** A text that is HTML where a page takes it for that. */
export const HOSTILE = "<img src=x onerror=alert(1)>";

/** The answers of a server with a batch `b` of two rows and columns, and a point that waits. */
export function batchServer(more: object = {}): Record<string, Answer> {
  const batch: Record<string, unknown> = {
    batch_id: "b",
    state: "running",
    why: "",
    title: "Skies & sunsets",
    finished_at: null,
    total: 5,
    counts: { success: 3, failed: 1, running: 1 },
    fraction: 0.8,
    time_left: 12,
    notes: [],
    ...more,
  };
  const point = (place: number, label: string, own: object = {}) => ({
    point: place,
    label,
    values: [String(Math.floor(place / 2) + 1), place % 2 ? HOSTILE : "a"],
    status: "success",
    starred: place % 2 === 0,
    seconds: 1.5,
    files: [],
    texts: [],
    error: "",
    prompt_id: `p${place}`,
    picture: file(`point ${place} 640x400.png`),
    ...own,
  });
  const failed = { status: "failed", error: HOSTILE, seconds: null, picture: null };
  const becomes = (state: string) => () => {
    batch.state = state;
    return batch;
  };
  return {
    "batch/b": () => batch,
    "batch/b/table": () => ({
      keys: ["3.seed", "6.text"],
      labels: ["Seed", HOSTILE],
      heads: {
        row_title: "Seed",
        rows: ["1", "2"],
        column_title: HOSTILE,
        columns: ["a", HOSTILE],
      },
      points: [
        point(0, "Seed 1, a"),
        point(1, "Seed 1, b", failed),
        point(2, "Seed 2, a"),
        point(3, "Seed 2, b"),
      ],
    }),
    "batch/b/pause": becomes("paused"),
    "batch/b/resume": becomes("running"),
    "batch/b/cancel": becomes("cancelled"),
    "batch/b/retry": becomes("running"),
    "runs/update": () => ({ success: true }),
  };
}

/** The record of a run, with the name of a model that looks like HTML. */
export const RECORD = {
  complete: true,
  pending: [],
  environment: { comfyui: { version: "0.33.0", commit: "a".repeat(40) }, torch: "2.12.0" },
  node_packs: [{ name: "A pack", version: "1.0" }],
  models: [{ name: "<b>.safetensors", sha256: "0123456789abcdef" }],
  inputs: [],
  notes: [],
};
