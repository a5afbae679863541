import assert from "node:assert/strict";
import test from "node:test";
import type { Model } from "../src/model.ts";
import { parseEvents, type RouteError, Straight, ThroughKernel } from "../src/transport.ts";
import { FakeModel } from "./page.ts";

const bytes = (text: string) => [new DataView(new TextEncoder().encode(text).buffer)];

function throughKernel() {
  const model = new FakeModel({});
  return { model, transport: new ThroughKernel(model as unknown as Model) };
}

async function* texts(...parts: string[]) {
  yield* parts;
}

test("events are read whatever the parts are in which they arrive", async () => {
  const stream = 'id: 1\nevent: a\ndata: {"x": 1}\n\n: alive\n\r\ndata: [1,\ndata: 2]\r\n\r\n';
  for (const size of [1, 3, 7, 100]) {
    const parts = stream.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
    const found = [];
    for await (const event of parseEvents(texts(...parts))) found.push(event);
    assert.deepEqual(found, [
      { event: "a", data: { x: 1 } },
      { event: "message", data: [1, 2] },
    ]);
  }
});

test("a request through the kernel has the reply of the route, or its error", async () => {
  const { model, transport } = throughKernel();
  const reply = transport.get("runs", { limit: 2, search: "a b", machine: null });
  const [sent] = model.takeSent();
  assert.equal(sent?.path, "runs");
  assert.equal(sent?.query, "limit=2&search=a+b");
  model.receive({ kind: "reply", id: "another", status: 200 }, bytes("{}"));
  model.receive({ kind: "reply", id: sent?.id, status: 200 }, bytes('{"runs": []}'));
  assert.deepEqual(await reply, { runs: [] });

  const refused = transport.post("workflow", { name: 1 });
  const error = { code: "invalid_request", message: "name: too short", details: { field: "name" } };
  const id = model.takeSent()[0]?.id;
  model.receive({ kind: "reply", id, status: 400 }, bytes(JSON.stringify(error)));
  await assert.rejects(refused, (found: RouteError) => {
    assert.equal(found.message, "name: too short");
    assert.equal(found.details.field, "name");
    return !found.isUnreachable;
  });

  const lost = transport.get("runs");
  model.receive({ kind: "failed", id: model.takeSent()[0]?.id, error: "it does not answer" });
  await assert.rejects(lost, (found: RouteError) => found.isUnreachable);
});

test("a page that is no reply is taken for a login page, a missing route for another version", async () => {
  const { model, transport } = throughKernel();
  for (const [status, content, code] of [
    [200, "<html>Sign in</html>", "signed_out"],
    [403, "<html>", "signed_out"],
    [403, '{"code": "unauthorized", "details": {"reason": "xsrf"}}', "signed_out"],
    [404, "<html>", "no_route"],
  ]) {
    const reply = transport.get("runs");
    model.receive({ kind: "reply", id: model.takeSent()[0]?.id, status }, bytes(String(content)));
    await assert.rejects(reply, { code });
  }
});

test("a request that is given up is ended in the kernel, and one of an ended kernel fails", async () => {
  const { model, transport } = throughKernel();
  const stop = new AbortController();
  const reply = transport.get("runs", {}, stop.signal);
  const id = model.takeSent()[0]?.id;
  stop.abort();
  await assert.rejects(reply, { name: "AbortError" });
  assert.deepEqual(model.takeSent(), [{ kind: "abort", id }]);

  const waiting = transport.get("runs");
  transport.end();
  await assert.rejects(waiting, { code: "no_kernel" });
  await assert.rejects(() => transport.get("runs"), { code: "no_kernel" });
});

test("a stream through the kernel yields what arrives, until its end", async () => {
  const { model, transport } = throughKernel();
  const events = transport.events("run/streaming", { query: { prompt_id: "1" } });
  const first = events.next();
  await new Promise((resolve) => setTimeout(resolve));
  const id = model.takeSent()[0]?.id;
  model.receive({ kind: "data", id }, bytes('data: {"n": 1}\n\ndata: {"n"'));
  assert.deepEqual((await first).value?.data, { n: 1 });
  model.receive({ kind: "data", id }, bytes(": 2}\n\n"));
  assert.deepEqual((await events.next()).value?.data, { n: 2 });
  model.receive({ kind: "end", id });
  assert.equal((await events.next()).done, true);
  assert.deepEqual(model.takeSent(), []);
});

test("only four streams are open at a time, and one that is left frees its place", async () => {
  const { model, transport } = throughKernel();
  const streams = Array.from({ length: 5 }, () => transport.events("run/streaming"));
  const started = streams.map((stream) => stream.next());
  const tick = () => new Promise((resolve) => setTimeout(resolve));
  await tick();
  const sent = model.takeSent();
  assert.equal(sent.length, 4);
  model.receive({ kind: "data", id: sent[0]?.id }, bytes("data: 1\n\n"));
  await started[0];
  await streams[0]?.return(undefined);
  await tick();
  const [ended, next] = model.takeSent();
  assert.equal(ended?.kind, "abort");
  assert.equal(next?.kind, "stream");
});

test("a file is sent in pieces, no faster than the kernel takes them", async () => {
  const { model, transport } = throughKernel();
  const file = new File([new Uint8Array((6 << 20) + 1)], "big.bin");
  const shares: number[] = [];
  const sending = transport.send("upload-file", {
    file,
    fields: { type: "input" },
    progress: (share) => shares.push(share),
  });
  const tick = () => new Promise((resolve) => setTimeout(resolve, 20));
  const [head] = model.takeSent();
  assert.equal(head?.kind, "upload");
  assert.equal(head?.size, file.size);
  await tick();
  assert.deepEqual(model.takeSent(), [], "the kernel does not know about the file yet");
  let pieces = 0;
  for (let taken = 0; taken < 8; taken += 1) {
    model.receive({ kind: "took", id: head?.id });
    await tick();
    pieces += model.takeSent().length;
    assert.ok(pieces - taken <= 4);
  }
  assert.equal(pieces, 7);
  model.receive({ kind: "reply", id: head?.id, status: 200 }, bytes('{"name": "big.bin"}'));
  assert.deepEqual(await sending, { name: "big.bin" });
  assert.equal(shares.at(-1), 1);
});

test("an empty file is sent without a piece", async () => {
  const { model, transport } = throughKernel();
  const sending = transport.send("upload-file", { file: new File([], "empty") });
  const [head] = model.takeSent();
  assert.deepEqual([head?.name, head?.size], ["empty", 0]);
  model.receive({ kind: "took", id: head?.id });
  model.receive({ kind: "reply", id: head?.id, status: 200 }, bytes('{"name": "empty"}'));
  assert.deepEqual(await sending, { name: "empty" });
  assert.deepEqual(model.takeSent(), []);
});

test("a straight request has the XSRF token of this moment, and says why it failed", async () => {
  const asked: [string, RequestInit][] = [];
  let answer = () => Promise.resolve(new Response('{"ok": true}'));
  const { fetch } = globalThis;
  globalThis.fetch = ((url: string, init: RequestInit) => {
    asked.push([url, init]);
    return answer();
  }) as typeof globalThis.fetch;
  try {
    const transport = new Straight("/user/me/");
    // biome-ignore lint/suspicious/noDocumentCookie: as Jupyter sets it
    document.cookie = "_xsrf=one";
    assert.deepEqual(await transport.post("run", { a: 1 }), { ok: true });
    // biome-ignore lint/suspicious/noDocumentCookie: as Jupyter sets it
    document.cookie = "_xsrf=two";
    await transport.get("runs", { limit: 1 });
    assert.equal(asked[0]?.[0], "/user/me/comfyui-deploy/run");
    assert.equal(asked[1]?.[0], "/user/me/comfyui-deploy/runs?limit=1");
    const tokens = asked.map(([, { headers }]) => Reflect.get(headers ?? {}, "X-XSRFToken"));
    assert.deepEqual(tokens, ["one", "two"]);
    answer = () => Promise.reject(new TypeError("Failed to fetch"));
    await assert.rejects(transport.get("runs"), (error: RouteError) => error.isUnreachable);
  } finally {
    globalThis.fetch = fetch;
  }
});
