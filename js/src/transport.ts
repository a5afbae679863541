/**
 * How a panel speaks with the routes: straight, or through the kernel where the page does not come
 * from the Jupyter server. Both ways have the same requests, events, files and errors.
 */

import { type ReadonlySignal, signal } from "@preact/signals";
import { newId } from "./dom.ts";
import { toJson } from "./exact.ts";
import { messageOf, parseJson } from "./format.ts";
import { type Buffers, type Model, Subscriptions } from "./model.ts";
import { pageHeaders } from "./server.ts";

export type Query = Record<string, string | number | boolean | null | undefined>;

/** What a request may have; `body` is sent as JSON. */
export type Options = { query?: Query; body?: unknown; signal?: AbortSignal };

/** One event of a stream. */
export type ServerEvent = { event: string; data: unknown };

/** A file that is sent as the part `file` of a form. */
export type Upload = {
  query?: Query;
  fields?: Record<string, string>;
  file: File;
  /** Called with the share that was sent. */
  progress?: (share: number) => void;
  signal?: AbortSignal;
};

type ErrorReply = { code?: string; message?: string; error?: string; details?: Details } & Record<
  string,
  unknown
>;
type Details = { field?: string; reason?: string } & Record<string, unknown>;

/** An error that a route answered with, or why there is no answer (`status` 0). */
export class RouteError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code = "",
    readonly details: Details = {},
  ) {
    super(message);
  }

  /** Whether the server did not answer. */
  get isUnreachable(): boolean {
    return this.status === 0;
  }

  /** Whether the server may answer the same request later: it, or the login, is away. */
  get isPassing(): boolean {
    if (this.code === "signed_out") return true;
    // a proxy before the server has no code
    return this.status ? !this.code && GATEWAY.includes(this.status) : this.code !== "no_kernel";
  }
}

const GATEWAY = [502, 503, 504];
const PAUSES = [300, 1000, 2000, 5000]; // ms until a request that was not answered is sent again

/** Wait: less long if the browser is online again, and longer while the page is hidden. */
function pause(duration: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = new AbortController();
    const once = { signal: over.signal };
    const end = () => {
      clearTimeout(timer);
      over.abort();
      resolve();
    };
    const timer = setTimeout(() => {
      if (!document.hidden) end();
      else document.addEventListener("visibilitychange", end, once);
    }, duration);
    addEventListener("online", end, once);
    signal.addEventListener("abort", end, once);
  });
}

/**
 * Do something again until the server answers, which may be away for some time. `lost` gets why it
 * does not, and an empty text in the end.
 */
export async function untilAnswered<Result>(
  action: () => Promise<Result>,
  signal: AbortSignal,
  lost: (why: string) => void,
): Promise<Result> {
  try {
    for (let tries = 0; ; tries += 1) {
      try {
        return await action();
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof RouteError) || !error.isPassing) throw error;
        lost(error.message);
      }
      await pause(PAUSES[Math.min(tries, PAUSES.length - 1)] ?? 0, signal);
      signal.throwIfAborted();
    }
  } finally {
    lost("");
  }
}

const SIGNED_OUT = "You are signed out of Jupyter: sign in again in another tab of the browser";
const NO_TOKEN =
  "The Jupyter server does not accept the token of this kernel: connect again with the present one";
const OFFLINE = "The browser is offline";
const UNREACHABLE = "The Jupyter server does not answer";
const MISSING =
  "This Jupyter server does not know what the panel asks for: its comfydeploy_jupyter has another " +
  "version, or is not enabled. Restart Jupyter after an installation";
const LATE = 4000; // ms until a kernel that has not answered a request is asked whether it listens
const CHUNK = 1 << 20; // bytes of a file in one message; a server may refuse more than 10 MB
const AHEAD = 4; // messages that are sent before the kernel has confirmed the first of them
const MAX_STREAMS = 4; // of the six connections that a browser opens to one server

function textOf(body: unknown): string | null {
  return body === undefined ? null : toJson(body);
}

/** Return the error that a request did not arrive, or its reply. */
function lost(error: unknown): RouteError {
  const text = navigator.onLine === false ? OFFLINE : UNREACHABLE;
  return new RouteError(0, text, "unreachable", { reason: messageOf(error) });
}

/** Return what comes over the network, or throw why it does not. */
async function arrived<Found>(found: Promise<Found>, signal?: AbortSignal): Promise<Found> {
  try {
    return await found;
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw lost(error);
  }
}

/** Return a list of a reply; a server of another version may answer something else. */
export function listOf<Entry>(found: Entry[] | undefined): Entry[] {
  if (Array.isArray(found)) return found;
  throw new RouteError(200, MISSING, "no_list");
}

export function toQuery(query: Query = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}

/** Yield the events in the text of an event stream. */
export async function* parseEvents(texts: AsyncIterable<string>): AsyncGenerator<ServerEvent> {
  let rest = "";
  for await (const text of texts) {
    const parts = (rest + text).split(/\r?\n\r?\n/);
    rest = parts.pop() ?? "";
    for (const part of parts) {
      let event = "message";
      const data: string[] = [];
      for (const line of part.split(/\r?\n/)) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length) yield { event, data: parseJson(data.join("\n")) };
    }
  }
}

export abstract class Transport {
  /** The base URL of the server, with which the page shows files; null through the kernel. */
  abstract readonly base: string | null;

  /** What it means that a request is not authenticated. */
  protected readonly signedOut: string = SIGNED_OUT;

  protected abstract raw(method: string, path: string, options: Options): Promise<Response>;
  protected abstract texts(path: string, options: Options): AsyncGenerator<string>;
  /** Return the URL of a script of the package, such as `viewers/model_viewer.js`. */
  abstract script(name: string): Promise<string>;
  /** Send a file as a form, and return the JSON of the reply. */
  abstract send<Reply>(path: string, upload: Upload): Promise<Reply>;

  /** Return the error of a reply that is not a success. */
  protected errorOf(status: number, text: string): RouteError {
    const reply = parseJson<ErrorReply>(text);
    const message = reply?.message ?? reply?.error;
    // Some errors say more beside their details, for example ComfyUI's `node_errors`.
    const { code, details: own, ...more } = reply ?? {};
    const details = { ...more, ...own };
    const isRefused = status === 401 || status === 403;
    // a page that is signed in has renewed its XSRF token
    if (isRefused && (!code || ["login", "xsrf"].includes(String(details?.reason)))) {
      return new RouteError(status, this.signedOut, "signed_out");
    }
    if (code && message) {
      return new RouteError(status, message, code, details);
    }
    if (status === 404) return new RouteError(status, MISSING, "no_route");
    return new RouteError(status, message ?? `The Jupyter server answered ${status}`);
  }

  private streams = 0;
  private readonly waiting: (() => void)[] = [];

  /** Return the JSON reply of a route. */
  async request<Reply>(method: string, path: string, options: Options = {}): Promise<Reply> {
    const reply = await this.raw(method, path, options);
    const text = await arrived(reply.text(), options.signal);
    if (!reply.ok) throw this.errorOf(reply.status, text);
    const found = parseJson(text);
    // a login page, or that of a proxy
    if (found === null) throw new RouteError(reply.status, this.signedOut, "signed_out");
    return found as Reply;
  }

  get<Reply>(path: string, query: Query = {}, signal?: AbortSignal): Promise<Reply> {
    return this.request("GET", path, { query, ...(signal && { signal }) });
  }

  post<Reply>(path: string, body: unknown = {}, signal?: AbortSignal): Promise<Reply> {
    return this.request("POST", path, { body, ...(signal && { signal }) });
  }

  /** Return the content of a file of a route. */
  async content(path: string, options: Options = {}): Promise<Blob> {
    const reply = await this.raw("GET", path, options);
    const blob = await arrived(reply.blob(), options.signal);
    if (!reply.ok) throw this.errorOf(reply.status, await blob.text());
    return blob;
  }

  /** Return the size of a file of a route, bytes; -1 if the server does not say it. */
  async size(path: string, query: Query): Promise<number> {
    const reply = await this.raw("HEAD", path, { query });
    if (!reply.ok) throw this.errorOf(reply.status, "");
    return Number(reply.headers.get("Content-Length") ?? -1);
  }

  /** Yield the events of a route until its end. Only `MAX_STREAMS` are open at a time. */
  async *events(path: string, options: Options = {}): AsyncGenerator<ServerEvent> {
    if (this.streams >= MAX_STREAMS) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    } else this.streams += 1;
    try {
      options.signal?.throwIfAborted();
      yield* parseEvents(this.texts(path, options));
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.streams -= 1;
    }
  }
}

/** To a server from which the page comes. */
export class Straight extends Transport {
  constructor(readonly base: string) {
    super();
  }

  protected raw(method: string, path: string, options: Options): Promise<Response> {
    const { query, body, signal } = options;
    const text = textOf(body);
    const ask = () => {
      const headers = pageHeaders(); // at each request: the XSRF token may have changed
      if (text !== null) headers["Content-Type"] = "application/json";
      return fetch(`${this.base}comfyui-deploy/${path}${toQuery(query)}`, {
        method,
        headers,
        ...(text !== null && { body: text }),
        ...(signal && { signal }),
      });
    };
    const reply = async () => {
      const first = await ask();
      if (first.status !== 403) return first;
      return (await this.isRenewed(await first.clone().text())) ? ask() : first;
    };
    return arrived(reply(), signal);
  }

  /** Renew the XSRF token if a reply says that it was missing or wrong; return whether it did. */
  private async isRenewed(refusal: string): Promise<boolean> {
    if (parseJson<ErrorReply>(refusal)?.details?.reason !== "xsrf") return false;
    // leads to a page, with which the server sets the cookie; a server of JupyterHub has no such page
    const { ok } = await fetch(`${this.base}login`);
    if (!ok) await fetch(this.base);
    return true;
  }

  protected async *texts(path: string, options: Options): AsyncGenerator<string> {
    const reply = await this.raw(options.body === undefined ? "GET" : "POST", path, options);
    if (!reply.ok || !reply.body) throw this.errorOf(reply.status, await reply.text());
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      throw lost(error);
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  async script(name: string): Promise<string> {
    // the panels are a script without an address, so the path alone would lead nowhere
    return new URL(`${this.base}static/comfydeploy/${name}`, location.href).href;
  }

  async send<Reply>(path: string, upload: Upload): Promise<Reply> {
    const first = await this.postForm(path, upload);
    const isAgain = first.status === 403 && (await this.isRenewed(first.text));
    const { status, text } = isAgain ? await this.postForm(path, upload) : first;
    const reply = parseJson(text);
    if (status >= 200 && status <= 299 && reply) return reply as Reply;
    throw this.errorOf(status, text);
  }

  private postForm(
    path: string,
    { query, fields, file, progress, signal }: Upload,
  ): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const form = new FormData();
      for (const [name, value] of Object.entries(fields ?? {})) form.append(name, value);
      form.append("file", file, file.name);
      const request = new XMLHttpRequest(); // fetch tells no progress
      request.open("POST", `${this.base}comfyui-deploy/${path}${toQuery(query)}`);
      for (const [name, value] of Object.entries(pageHeaders())) {
        request.setRequestHeader(name, value);
      }
      request.upload.onprogress = ({ loaded, total }) => progress?.(loaded / Math.max(1, total));
      request.upload.onload = () => progress?.(1);
      request.onload = () => resolve({ status: request.status, text: request.responseText });
      const text = "The connection was lost, or the file was removed";
      request.onerror = () => reject(new RouteError(0, text, "unreachable"));
      request.onabort = () => reject(signal?.reason);
      signal?.addEventListener("abort", () => request.abort());
      if (signal?.aborted) reject(signal.reason);
      else request.send(form);
    });
  }
}

/** A message of the kernel about a request. */
type Answer = {
  kind: string;
  id: string;
  status?: number;
  type?: string;
  size?: number;
  error?: string;
};
type Listener = (message: Answer, buffers: Buffers) => void;

/** Through the kernel, which adds the token: the page never gets it. */
export class ThroughKernel extends Transport {
  readonly base = null;
  protected override readonly signedOut = NO_TOKEN;
  private readonly listeners = new Map<string, Listener>();
  private gone: RouteError | null = null;
  private readonly unanswered = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly silent = signal(false);
  private readonly messages: Subscriptions;

  constructor(private readonly model: Model) {
    super();
    this.messages = new Subscriptions(model);
    this.messages.on("msg:custom", (message: Answer, buffers: Buffers) => {
      this.heard(message.id);
      this.listeners.get(message.id)?.(message, buffers);
    });
  }

  /** Whether the kernel does not even take messages: it is busy, or has ended. */
  get isSilent(): ReadonlySignal<boolean> {
    return this.silent;
  }

  /** Stop listening; what waits stays unanswered. */
  close(): void {
    clearTimeout(this.timer);
    this.messages.end();
  }

  /** A message has come; those of streams that go on do not say whether the kernel listens. */
  private heard(id: string): void {
    if (!this.unanswered.delete(id)) return;
    this.silent.value = false;
    clearTimeout(this.timer);
    if (this.unanswered.size) this.timer = setTimeout(() => this.doubt(), LATE);
  }

  /** A request takes long, or the kernel does not take it: ask whether it listens. */
  private doubt(): void {
    const id = newId();
    this.unanswered.add(id);
    this.model.send({ kind: "ping", id });
    this.timer = setTimeout(() => {
      this.silent.value = true;
    }, LATE / 2);
  }

  /** The kernel has ended: what waits for it fails, and so does every later request. */
  end(): void {
    clearTimeout(this.timer);
    this.silent.value = false;
    this.gone = new RouteError(0, "The kernel of this panel has ended", "no_kernel");
    for (const [id, listener] of this.listeners) listener({ kind: "gone", id }, []);
  }

  private call(message: object, listener: Listener, signal?: AbortSignal): string {
    if (this.gone) throw this.gone;
    signal?.throwIfAborted();
    const id = newId();
    this.listeners.set(id, listener);
    signal?.addEventListener("abort", () => {
      if (!this.listeners.has(id)) return;
      this.model.send({ kind: "abort", id });
      this.unanswered.delete(id);
      listener({ kind: "aborted", id }, []);
    });
    this.model.send({ ...message, id });
    this.unanswered.add(id);
    if (this.unanswered.size === 1) this.timer = setTimeout(() => this.doubt(), LATE);
    return id;
  }

  private failure(message: Answer, signal?: AbortSignal): unknown {
    if (message.kind === "aborted") return signal?.reason;
    if (this.gone) return this.gone;
    return new RouteError(0, message.error ?? UNREACHABLE, "unreachable");
  }

  protected raw(method: string, path: string, options: Options): Promise<Response> {
    const { query, body, signal } = options;
    const facts = {
      kind: "request",
      method,
      path,
      query: toQuery(query).slice(1),
      body: textOf(body),
    };
    return this.answer(facts, signal);
  }

  async script(name: string): Promise<string> {
    const reply = await this.answer({ kind: "script", name });
    return URL.createObjectURL(await reply.blob());
  }

  private answer(asked: object, signal?: AbortSignal): Promise<Response> {
    return new Promise((resolve, reject) => {
      const id = this.call(
        asked,
        (message, content) => {
          this.listeners.delete(id);
          const { kind, status = 0, type = "", size = -1 } = message;
          const headers = { "Content-Type": type, "Content-Length": String(size) };
          const body = content[0]?.byteLength ? content[0] : null; // some have to have none
          if (kind === "reply") resolve(new Response(body, { status, headers }));
          else reject(this.failure(message, signal));
        },
        signal,
      );
    });
  }

  protected async *texts(path: string, options: Options): AsyncGenerator<string> {
    const { query, body, signal } = options;
    const arrived: string[] = [];
    const decoder = new TextDecoder();
    let error: unknown = null;
    let isOver = false;
    let wake = () => {};
    const method = options.body === undefined ? "GET" : "POST";
    const id = this.call(
      { kind: "stream", method, path, query: toQuery(query).slice(1), body: textOf(body) },
      (message, buffers) => {
        if (message.kind === "data") arrived.push(decoder.decode(buffers[0], { stream: true }));
        else {
          isOver = true;
          if (message.kind === "reply") error = this.errorOf(message.status ?? 0, text(buffers));
          else if (message.kind !== "end") error = this.failure(message, signal);
        }
        wake();
      },
      signal,
    );
    try {
      while (arrived.length || !isOver) {
        const next = arrived.shift();
        if (next !== undefined) yield next;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
      if (error) throw error;
    } finally {
      this.listeners.delete(id);
      if (!isOver) this.model.send({ kind: "abort", id });
    }
  }

  async send<Reply>(path: string, upload: Upload): Promise<Reply> {
    const { query, fields = {}, file, progress, signal } = upload;
    let taken = 0;
    let wake = () => {};
    let answer: [Answer, Buffers] | undefined;
    const { name, size } = file;
    const facts = { path, query: toQuery(query).slice(1), fields, name, size };
    const id = this.call(
      { kind: "upload", ...facts },
      (message, buffers) => {
        if (message.kind === "took") taken += 1;
        else answer = [message, buffers];
        wake();
      },
      signal,
    );
    const until = async (isTrue: () => boolean) => {
      while (!isTrue() && !answer) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    try {
      await until(() => taken > 0); // the kernel knows about the file
      for (let offset = 0, sent = 1; offset < size && !answer; offset += CHUNK, sent += 1) {
        await until(() => sent - taken < AHEAD);
        const piece = await file.slice(offset, offset + CHUNK).arrayBuffer();
        if (!answer) this.model.send({ kind: "piece", id, offset }, undefined, [piece]);
        progress?.(Math.min(1, offset / Math.max(1, size)));
      }
      await until(() => taken > size / CHUNK);
      progress?.(1);
      await until(() => false);
      const [message, content] = answer as unknown as [Answer, Buffers];
      if (message.kind !== "reply") throw this.failure(message, signal);
      const status = message.status ?? 0;
      if (status < 200 || status > 299) throw this.errorOf(status, text(content));
      return parseJson(text(content)) as Reply;
    } finally {
      this.listeners.delete(id);
    }
  }
}

function text(buffers: Buffers): string {
  return buffers.map((buffer) => new TextDecoder().decode(buffer)).join("");
}
