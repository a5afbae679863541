/**
 * The one WebSocket of the page: what the server does now, and what has ended.
 *
 * It keeps what it knows while the connection is lost, tries again with growing pauses, and asks
 * for the ends that it has missed.
 */

import { parseJson } from "../src/format.ts";
import { pageConfig, pageHeaders } from "../src/server.ts";
import type { End, Known, Link, Overview } from "../src/state/overview.ts";

const FIRST_PAUSE = 500; // ms
const LONGEST_PAUSE = 30_000;
const SETTLED = 10_000; // ms after which a connection is no longer a new one
const ASK_TIMEOUT = 5000;
const OPEN_TIMEOUT = 20_000; // browsers wait for minutes
const REMEMBERED = 500; // ends that are not told twice

/** The runs that the page shows, and whether it shows all the rest. */
export type Watch = { first: number; count: number; details: boolean };

const NOTHING: Watch = { first: 0, count: 20, details: false };

type Message = {
  event?: string;
  data?: Partial<Overview> & { ended?: End[]; mark?: string };
};

/** Sentences for people. */
export type Words = Record<Exclude<Link, "connecting" | "open"> | "offline" | "blocked", string>;

export class Live {
  private state: Known = { link: "connecting", problem: "", ends: 0, opened: 0 };
  private readonly listeners = new Set<(known: Known) => void>();
  private readonly followers = new Set<(ends: End[]) => void>();
  private socket: WebSocket | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private mark = "";
  private told = new Set<string>();
  private watched = NOTHING;
  private isOver = true;

  constructor(private readonly words: Words) {}

  get known(): Known {
    return this.state;
  }

  /** Call a function now and with each change; return what stops that. */
  subscribe(listener: (known: Known) => void): () => void {
    this.listeners.add(listener);
    listener(this.state);
    return () => this.listeners.delete(listener);
  }

  /** Call a function with the ends of a message. */
  onEnds(follower: (ends: End[]) => void): () => void {
    this.followers.add(follower);
    return () => this.followers.delete(follower);
  }

  start(): void {
    if (!this.isOver) return;
    this.isOver = false;
    addEventListener("online", this.again);
    addEventListener("offline", this.leave);
    document.addEventListener("visibilitychange", this.again);
    this.connect();
  }

  stop(): void {
    this.isOver = true;
    clearTimeout(this.timer);
    removeEventListener("online", this.again);
    removeEventListener("offline", this.leave);
    document.removeEventListener("visibilitychange", this.again);
    this.socket?.close();
    this.socket = null;
  }

  /** Say what the page shows; null if nothing of it is seen. */
  watch(asked: Watch | null): void {
    const watched = asked ?? NOTHING;
    if (JSON.stringify(watched) === JSON.stringify(this.watched)) return;
    this.watched = watched;
    if (this.state.link === "open") this.sendWatch();
  }

  /** Try to connect now, if there is no connection. */
  readonly again = (): void => {
    if (this.isOver || this.socket || document.hidden) return;
    clearTimeout(this.timer);
    this.failures = 0;
    this.connect();
  };

  /** Look whether the server can be reached offline: a socket stays open although nothing arrives. */
  private readonly leave = (): void => {
    const { socket } = this;
    clearTimeout(this.timer);
    this.socket = null;
    socket?.close();
    this.connect();
  };

  private sendWatch(): void {
    this.socket?.send(JSON.stringify({ event: "watch", ...this.watched }));
  }

  private connect(): void {
    const { baseUrl = "/", token, wsUrl } = pageConfig();
    const url = new URL(`${baseUrl}comfyui-deploy/overview`, wsUrl || location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const xsrf = pageHeaders()["X-XSRFToken"];
    for (const [name, value] of Object.entries({ token, _xsrf: xsrf, after: this.mark })) {
      if (value) url.searchParams.set(name, value);
    }
    let openedAt = 0;
    const socket = new WebSocket(url);
    this.socket = socket;
    const late = setTimeout(() => socket.close(), OPEN_TIMEOUT);
    socket.onopen = () => {
      clearTimeout(late);
      openedAt = Date.now();
      this.change({ link: "open", problem: "", opened: this.state.opened + 1 });
      if (this.watched !== NOTHING) this.sendWatch();
    };
    socket.onmessage = ({ data }) => this.read(parseJson<Message>(String(data)));
    socket.onclose = async () => {
      clearTimeout(late);
      if (this.socket !== socket) return;
      this.socket = null;
      if (Date.now() - openedAt < SETTLED || !openedAt) this.failures += 1;
      else this.failures = 1;
      const link = await this.whyClosed(Boolean(openedAt));
      if (this.isOver || this.socket) return;
      this.change(link);
      clearTimeout(this.timer); // of another connection that was lost in the meantime
      const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(this.failures - 1, 10));
      this.timer = setTimeout(() => this.connect(), pause * (0.5 + Math.random() / 2));
    };
  }

  /** Find out why there is no connection: a browser does not tell why it opened none. */
  private async whyClosed(wasOpen: boolean): Promise<{ link: Link; problem: string }> {
    const away = { link: "away" as const, problem: this.words.away };
    if (navigator.onLine === false) return { ...away, problem: this.words.offline };
    if (wasOpen) return away;
    try {
      const { baseUrl = "/" } = pageConfig();
      const reply = await fetch(`${baseUrl}comfyui-deploy/check-status`, {
        headers: pageHeaders(),
        cache: "no-store",
        signal: AbortSignal.timeout(ASK_TIMEOUT),
      });
      const { status, ok } = reply;
      // a hub sends requests to its page too if the server was stopped, with an error
      const isRefused = (reply.redirected && ok) || status === 401 || status === 403;
      if (isRefused) return { link: "signedOut", problem: this.words.signedOut };
      if (status === 404) return { link: "missing", problem: this.words.missing };
      return ok ? { ...away, problem: this.words.blocked } : away;
    } catch {
      return away;
    }
  }

  private read(message: Message | null): void {
    if (message?.event !== "overview" || !message.data) return; // of another version
    const { ended = [], mark, ...parts } = message.data;
    this.mark = mark || this.mark;
    const news = (Array.isArray(ended) ? ended : []).filter((end) => {
      const key = `${end.id} ${end.ended_at}`;
      return !this.told.has(key) && this.told.add(key);
    });
    if (this.told.size > REMEMBERED) this.told = new Set([...this.told].slice(-REMEMBERED / 2));
    this.change({ ...parts, ends: this.state.ends + news.length });
    if (news.length) for (const follower of this.followers) follower(news);
  }

  private change(news: Partial<Known>): void {
    this.state = { ...this.state, ...news };
    for (const listener of this.listeners) listener(this.state);
  }
}
