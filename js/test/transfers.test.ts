import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { AHEAD, CHUNK } from "../src/files.ts";
import { forgetPageServer } from "../src/server.ts";
import { droppedFiles } from "../src/transfers/dropped_files.ts";
import { TransferRate } from "../src/transfers/transfer_rate.ts";
import transfers from "../src/views/transfers.ts";
import { answerRequests, asModel, FakeModel, FakeRequest, find, until } from "./page.ts";

/** The models of the fields that say where files go. */
const FIELDS: Record<string, Record<string, unknown>> = {
  place: { _options_labels: ["Input", "Output"], index: 0 },
  subfolder: { value: "/by hand/ " },
  overwrite: { value: true },
};

function open(state: object = {}) {
  const model = new FakeModel({
    fields: {
      place: "IPY_MODEL_place",
      subfolder: "IPY_MODEL_subfolder",
      overwrite: "IPY_MODEL_overwrite",
    },
    places: { Input: "input", Output: "output" },
    machine: "",
    instance: "one",
    transfers: [],
    ...state,
  });
  model.widget_manager = { get_model: async (id: string) => new FakeModel(FIELDS[id] ?? {}) };
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const { initialize, render } = transfers();
  const end = initialize({ model: asModel(model) });
  render({ model: asModel(model), el });
  const choose = (...files: File[]) => {
    const input = find<HTMLInputElement>(el, "input[type=file]");
    Object.defineProperty(input, "files", { value: files, configurable: true });
    input.dispatchEvent(new Event("change"));
  };
  const messages = (type: string) => model.sent.filter((message) => message.type === type);
  return { model, el, choose, messages, end };
}

const summaryOf = (el: HTMLElement) => find(el, ".comfydeploy-summary").textContent;
const rowsOf = (el: HTMLElement) => [...el.querySelectorAll<HTMLElement>("li")];
const states = (el: HTMLElement) => rowsOf(el).map((row) => row.dataset.state);
const buttonOf = (root: HTMLElement, text: string) =>
  [...root.querySelectorAll("button")].find((button) => button.textContent === text);

beforeEach(() => {
  forgetPageServer();
  // The page does not come from the kernel's server: everything goes through the kernel.
  answerRequests(() => ({ instance: "another" }));
});

test("a file goes through the kernel in chunks, only a few ahead of those it has stored", async () => {
  const { model, el, choose, messages } = open();
  const chunks = AHEAD + 2;
  choose(new File([new Uint8Array(chunks * CHUNK)], "large.bin"));
  await until(() => messages("open").length === 1);
  const [opened] = messages("open");
  assert.equal(opened?.name, "large.bin");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(messages("chunk").length, 0, "the kernel does not know the file yet");
  model.receive({ type: "opened", id: opened?.id });
  await until(() => messages("chunk").length === AHEAD);
  assert.deepEqual(opened?.destination, {
    type: "input",
    subfolder: "by hand",
    overwrite: true,
    machine: "",
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(messages("chunk").length, AHEAD);
  model.receive({ type: "stored", id: opened?.id, bytes: 2 * CHUNK });
  await until(() => messages("chunk").length === chunks);
  const offsets = Array.from({ length: chunks }, (_, index) => index * CHUNK);
  assert.deepEqual(
    messages("chunk").map(({ offset }) => offset),
    offsets,
  );
  model.receive({ type: "stored", id: opened?.id, bytes: chunks * CHUNK });
  const result = { name: "large.bin", file_hash: "ab".repeat(32) };
  model.receive({ type: "closed", id: opened?.id, error: null, result });
  await until(() => states(el)[0] === "done");
  assert.equal(summaryOf(el), "1 done");
  assert.match(rowsOf(el)[0]?.textContent ?? "", /SHA-256 abababababab…/);
  assert.equal(messages("uploads").at(-1)?.uploads[0].state, "done");
});

test("three files are sent at once; the others wait", async () => {
  const { model, el, choose, messages } = open();
  choose(...["a", "b", "c", "d"].map((name) => new File([], name)));
  await until(() => messages("open").length === 3);
  await until(() => states(el).join() === "queued,active,active,active");
  assert.equal(summaryOf(el), "4 in progress");
  model.receive({ type: "closed", id: messages("open")[0]?.id, error: "disk full" });
  await until(() => messages("open").length === 4);
  await until(() => states(el).join() === "active,active,active,failed");
  assert.match(rowsOf(el)[3]?.textContent ?? "", /Failed: disk full/);
});

test("cancelling stops what is sent, and a retry sends it again", async () => {
  const { model, el, choose, messages } = open();
  choose(new File([new Uint8Array(2 * AHEAD * CHUNK)], "a"));
  await until(() => messages("open").length === 1);
  model.receive({ type: "opened", id: messages("open")[0]?.id });
  await until(() => messages("chunk").length === AHEAD);
  buttonOf(el, "Cancel all")?.click();
  await until(() => states(el)[0] === "cancelled");
  assert.equal(messages("abort").length, 1);
  buttonOf(rowsOf(el)[0] as HTMLElement, "Retry")?.click();
  await until(() => messages("open").length === 2);
  await until(() => states(el)[0] === "active");
});

test("a page of the kernel's server sends files by itself, also while the kernel is busy", async () => {
  answerRequests(() => ({ instance: "one" }));
  globalThis.XMLHttpRequest = FakeRequest as unknown as typeof XMLHttpRequest;
  const config = document.createElement("script");
  config.id = "jupyter-config-data";
  config.textContent = JSON.stringify({ baseUrl: "/" });
  const { model, el, choose } = open({ machine: "gpu" });
  document.body.append(config);
  choose(new File(["content"], "a.txt"), new File([], "b.txt"));
  await until(() => FakeRequest.made.length === 2);
  const [first, second] = FakeRequest.made;
  assert.equal(first?.url, "/comfyui-deploy/upload-file?machine=gpu");
  assert.equal(first?.form?.get("subfolder"), "by hand");
  assert.equal(first?.form?.get("overwrite"), "true");
  first?.upload.onprogress({ loaded: 50, total: 100 });
  first?.succeed({ name: "a (1).txt" });
  second?.succeed({ name: "b.txt", reused: true });
  await until(() => summaryOf(el) === "2 done");
  assert.match(rowsOf(el)[1]?.textContent ?? "", /a.txt as a \(1\).txt/);
  assert.match(rowsOf(el)[0]?.textContent ?? "", /Existed already/);

  buttonOf(el, "Clear finished")?.click();
  // The kernel, which is free again, answers what it was sent, in order.
  const known = new Set<string>();
  for (const message of model.takeSent()) {
    if (message.type === "hello") model.receive({ type: "report" });
    if (message.type === "uploads") {
      for (const { id } of message.uploads) known.add(id);
      model.receive(message);
    }
    if (message.type === "forget") {
      assert.deepEqual(new Set(message.ids), known);
      model.receive(message);
    }
  }
  assert.deepEqual(rowsOf(el), []);
});

test("uploads of other pages are shown, and their page is asked to cancel", () => {
  const { model, el } = open();
  const upload = { id: "x-1", page: "x", name: "a", where: "input", size: 10, sent: 5 };
  model.receive({ type: "uploads", uploads: [{ ...upload, state: "active" }] });
  assert.match(rowsOf(el)[0]?.textContent ?? "", /50 % · 5 B of 10 B/);
  model.takeSent();
  buttonOf(rowsOf(el)[0] as HTMLElement, "Cancel")?.click();
  assert.deepEqual(model.takeSent(), [{ type: "cancel", id: "x-1" }]);
  model.receive({ type: "uploads", uploads: [{ ...upload, state: "lost" }] });
  buttonOf(el, "Clear finished")?.click();
  assert.deepEqual(model.takeSent(), [{ type: "forget", ids: ["x-1"] }]);
  model.receive({ type: "forget", ids: ["x-1"] });
  assert.deepEqual(rowsOf(el), []);
});

test("transfers of the server come and go", () => {
  const { model, el } = open();
  const transfer = {
    id: "t",
    filename: "model.safetensors",
    direction: "down",
    size: 100,
    sent: 100,
  };
  model.set("transfers", [{ ...transfer, state: "failed", error: "404" }]);
  assert.match(rowsOf(el)[0]?.textContent ?? "", /model.safetensors.*to ComfyUI.*Failed: 404/);
  model.takeSent();
  buttonOf(el, "Retry failed")?.click();
  assert.deepEqual(model.takeSent(), [{ type: "retry", id: "t" }]);
  model.set("transfers", []);
  assert.deepEqual(rowsOf(el), []);
});

test("a rate is known after half a second, and smoothed", (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const rate = new TransferRate();
  const at = (time: number, sent: number) => {
    now = time;
    return rate.update(sent);
  };
  assert.equal(at(0, 0), "");
  assert.equal(at(400, 4096), "");
  assert.equal(at(1000, 10240), "10.0 KiB/s");
  assert.equal(at(2000, 10240), "7.0 KiB/s");
  assert.equal(rate.update(10240, 10240 + 7168 * 90), "7.0 KiB/s · about 1 min 30 s left");
  assert.equal(rate.reset(), "");
  assert.equal(at(3000, 20480), "");
});

test("dropped folders are opened", async () => {
  const fileEntry = (name: string) => ({
    isFile: true,
    name,
    file: (resolve: (file: File) => void) => resolve(new File([], name)),
  });
  const folder = (name: string, ...batches: object[][]) => ({
    isFile: false,
    name,
    createReader: () => ({
      readEntries: (resolve: (entries: object[]) => void) => resolve(batches.shift() ?? []),
    }),
  });
  const tree = folder("outer", [fileEntry("a")], [folder("inner", [fileEntry("b")])]);
  const plain = new File([], "c");
  const items = [
    { kind: "string" },
    { kind: "file", webkitGetAsEntry: () => tree },
    { kind: "file", webkitGetAsEntry: () => null, getAsFile: () => plain },
  ];
  const found = await droppedFiles({ items } as unknown as DataTransfer);
  assert.deepEqual(
    found.map(({ file, folder: inside }) => [inside, file.name]),
    [
      ["outer", "a"],
      ["outer/inner", "b"],
      ["", "c"],
    ],
  );
});
