import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { isSeen, secondsOf } from "../lab/ends.ts";
import { Live } from "../lab/live.ts";

import { type End, whyDefaultIsDown } from "../src/state/overview.ts";
import { until } from "./page.ts";

const WORDS = {
  away: "away",
  offline: "offline",
  signedOut: "signed out",
  missing: "missing",
  blocked: "blocked",
};

class FakeSocket {
  static opened: FakeSocket[] = [];
  readonly sent: object[] = [];
  isClosed = false;
  onopen = () => {};
  onmessage = (_: { data: string }) => {};
  onclose = () => {};
  constructor(readonly url: URL) {
    FakeSocket.opened.push(this);
  }
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.isClosed = true;
  }
  tell(data: object) {
    this.onmessage({ data: JSON.stringify({ event: "overview", data }) });
  }
}

/** A connection whose server answers a request for the reason with this status. */
function begin(t: TestContext, status = 0) {
  FakeSocket.opened = [];
  const before = { WebSocket, fetch };
  Object.assign(globalThis, {
    WebSocket: FakeSocket,
    fetch: async () => {
      if (!status) throw new Error("no network");
      return { status, ok: status === 200, redirected: false };
    },
  });
  const live = new Live(WORDS);
  t.after(() => {
    live.stop();
    Object.assign(globalThis, before);
  });
  live.start();
  return { live, socket: () => FakeSocket.opened.at(-1) as FakeSocket };
}

const END: End = {
  id: "a",
  kind: "run",
  title: "",
  status: "success",
  began_at: "2026-01-01T00:00:00.000Z",
  ended_at: "2026-01-01T00:00:31.500Z",
  why: "",
};

test("parts replace those before, and ends are told once, also after a lost connection", async (t) => {
  const { live, socket } = begin(t);
  const ends: string[] = [];
  live.onEnds((news) => ends.push(...news.map(({ id }) => id)));
  assert.equal(live.known.link, "connecting");
  socket().onopen();
  socket().tell({ queue: { running: 1, waiting: 2 }, mark: "m1" });
  socket().tell({ ended: [END], machines: [], mark: "m2" });
  assert.deepEqual(live.known.queue, { running: 1, waiting: 2 });
  assert.deepEqual([live.known.link, live.known.ends, ends], ["open", 1, ["a"]]);
  socket().onclose();
  await until(() => live.known.link === "away");
  assert.deepEqual(live.known.queue, { running: 1, waiting: 2 }, "what is known stays");
  assert.equal(live.known.problem, "away");
  await until(() => FakeSocket.opened.length === 2);
  assert.equal(socket().url.searchParams.get("after"), "m2");
  socket().onopen();
  socket().tell({ ended: [END, { ...END, id: "b" }] });
  assert.deepEqual(ends, ["a", "b"]);
  assert.equal(live.known.problem, "");
});

for (const [status, link, problem] of [
  [404, "missing", "missing"],
  [403, "signedOut", "signed out"],
  [200, "away", "blocked"],
  [0, "away", "away"],
] as const) {
  test(`a socket that does not open, with the answer ${status}, is ${link}`, async (t) => {
    const { live, socket } = begin(t, status);
    socket().onclose();
    await until(() => live.known.problem === problem);
    assert.equal(live.known.link, link);
    live.again(); // does not wait for the next attempt
    assert.equal(FakeSocket.opened.length, 2);
  });
}

test("a page that goes offline does not wait until its socket notices", async (t) => {
  const { live, socket } = begin(t);
  const onLine = Object.getOwnPropertyDescriptor(Navigator.prototype, "onLine");
  Object.defineProperty(navigator, "onLine", { configurable: true, value: false });
  t.after(() => {
    Reflect.deleteProperty(navigator, "onLine");
    if (onLine) Object.defineProperty(Navigator.prototype, "onLine", onLine);
  });
  const before = socket();
  before.onopen();
  dispatchEvent(new Event("offline"));
  assert.equal(FakeSocket.opened.length, 2, "a server on this computer can still be reached");
  before.onclose(); // late, and of a socket that is no longer that of the page
  assert.equal(live.known.link, "open");
  socket().onclose();
  await until(() => live.known.problem === "offline");
  dispatchEvent(new Event("online"));
  assert.equal(FakeSocket.opened.length, 3);
  socket().onopen();
  assert.deepEqual([live.known.link, live.known.opened], ["open", 2]);
});

test("a socket that neither opens nor fails is given up, one that is open is not", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { live, socket } = begin(t);
  t.mock.timers.tick(60_000);
  const first = socket();
  assert.equal(first.isClosed, true);
  first.onclose();
  live.again();
  socket().onopen();
  t.mock.timers.tick(60_000);
  assert.deepEqual([socket() === first, socket().isClosed], [false, false]);
});

test("what is shown is said once it is connected, and again after a reconnection", async (t) => {
  const { live, socket } = begin(t);
  live.watch({ first: 0, count: 5, details: true });
  assert.deepEqual(socket().sent, []);
  socket().onopen();
  const said = { event: "watch", first: 0, count: 5, details: true };
  assert.deepEqual(socket().sent, [said]);
  live.watch({ first: 0, count: 5, details: true });
  assert.equal(socket().sent.length, 1, "nothing new");
  socket().onclose();
  await until(() => FakeSocket.opened.length === 2);
  socket().onopen();
  assert.deepEqual(socket().sent, [said]);
  live.watch(null);
  assert.equal((socket().sent[1] as { details: boolean }).details, false);
});

test("messages of another version change nothing", (t) => {
  const { live, socket } = begin(t);
  socket().onopen();
  socket().onmessage({ data: "no json" });
  socket().onmessage({ data: '{"event": "other"}' });
  socket().tell({ ended: "none" });
  assert.equal(live.known.ends, 0);
});

test("a run is seen if a panel in the page shows it", () => {
  assert.equal(secondsOf(END), 31.5);
  document.body.innerHTML = "<div data-shows='x a y'></div>";
  const panel = document.body.firstElementChild as HTMLElement;
  panel.checkVisibility = () => true;
  assert.equal(isSeen("a"), false, "it has no size");
  panel.getBoundingClientRect = () =>
    ({ top: 0, left: 0, bottom: 9, right: 9, width: 9, height: 9 }) as DOMRect;
  assert.equal(isSeen("a"), true);
  assert.equal(isSeen("b"), false);
  panel.checkVisibility = () => false;
  assert.equal(isSeen("a"), false);
});

test("a default machine that is down is told, but not one that nobody needed", () => {
  const machine = { id: "local", name: "local", kind: "managed", version: null, work: 0 };
  const known = (status: string, more: object = {}, waiting = 0) => ({
    link: "open" as const,
    problem: "",
    ends: 0,
    opened: 1,
    queue: { running: 0, waiting },
    machines: [{ ...machine, status, error: null, ...more }],
  });
  assert.equal(whyDefaultIsDown(known("ready", { error: "old" })), "");
  assert.equal(whyDefaultIsDown(known("stopped")), "");
  assert.match(whyDefaultIsDown(known("stopped", {}, 1)), /does not answer/);
  assert.match(whyDefaultIsDown(known("backoff", { error: "killed" })), /again: killed/);
  assert.match(whyDefaultIsDown(known("failed", { error: "no GPU" })), /does not start: no GPU/);
});
