import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import type { Model } from "../src/model.ts";
import { mount } from "../src/panels/index.tsx";
import { forgetPageServer } from "../src/server.ts";
import { droppedFiles } from "../src/transfers/dropped_files.ts";
import { TransferRate } from "../src/transfers/transfer_rate.ts";
import {
  answerRequests,
  FakeModel,
  FakeRequest,
  find,
  named,
  type Sent,
  scrollEverywhere,
  type,
  until,
} from "./page.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 20));
const json = (value: unknown) => [
  new DataView(new TextEncoder().encode(JSON.stringify(value)).buffer),
];
const CHUNK = 1 << 20;
const AHEAD = 4;
const MODEL = { folder: "loras", name: "a/b.pt", size: 3, modified: 1 };
const USES = {
  in_use: false,
  workflows: [],
  run_count: 0,
  unfinished: 0,
  queued: false,
  transfers: [],
};

let panels = 0;

type Reply = { status?: number; body: unknown };
type Answers = Record<string, unknown | ((sent: Sent) => Reply | null)>;

/** Show the panel in a page that does not come from the server; `answers` are the routes'. */
async function open(t: TestContext, answers: Answers = {}, state: Record<string, unknown> = {}) {
  panels += 1;
  const model = new FakeModel({
    component: "UploadPanel",
    server: { base: "", instance: "1" },
    error: "",
    record: `record-${panels}`,
    place: "input",
    subfolder: "/by hand/ ",
    overwrite: true,
    machine: null,
    choose_machine: true,
    uploads: [],
    followed: {},
    rows: [],
    refreshed: 0,
    ...state,
  });
  const routes: Answers = {
    machines: [{ id: "local", name: "Here", kind: "managed" }],
    "upload-queue-status": { uploads: [] },
    models: ({ query }: Sent) => {
      return {
        body: query.includes("format") ? { loras: [], vae: [], custom_nodes: [] } : [MODEL],
      };
    },
    "fs/stat": { filesystem: { free: 3 * 2 ** 30, total: 2 ** 33 } },
    "models/uses": USES,
    ...answers,
  };
  const asked: Sent[] = [];
  /** Messages about uploads and files; the others are answered at once. */
  const other: Sent[] = [];
  const send = model.send.bind(model);
  model.send = (message: object, callbacks?: unknown, buffers?: ArrayBuffer[]) => {
    send(message, callbacks, buffers);
    const [sent] = model.takeSent();
    if (sent?.kind !== "request") return void other.push(sent as Sent);
    asked.push({ ...sent, body: JSON.parse(sent.body) });
    const answer = routes[sent.path];
    const reply = typeof answer === "function" ? answer(sent) : { body: answer };
    if (!reply) return;
    const { status = 200, body } = reply;
    queueMicrotask(() => {
      model.receive({ kind: "reply", id: sent.id, status }, json(body ?? { message: "?" }));
    });
  };
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const end = mount(model as unknown as Model, el);
  t.after(end);
  await new Promise((resolve) => setTimeout(resolve, 170)); // effects come after a frame
  scrollEverywhere();
  await tick();
  const show = async (tab: string) => {
    [...el.querySelectorAll<HTMLElement>("[role=tab]")]
      .find(({ textContent }) => textContent === tab)
      ?.click();
    await new Promise((resolve) => setTimeout(resolve, 170));
    scrollEverywhere();
    await tick();
  };
  const choose = async (...files: File[]) => {
    const input = find<HTMLInputElement>(el, "input[type=file]");
    Object.defineProperty(input, "files", { value: files, configurable: true });
    input.dispatchEvent(new Event("change"));
    await tick();
  };
  const messages = (kind: string) => other.filter((message) => message.kind === kind);
  const press = async (name: string, root: HTMLElement = el) => {
    named(root, name).click();
    await tick();
  };
  const reply = async (upload: Sent | undefined, body: unknown, status = 200) => {
    model.receive({ kind: "reply", id: upload?.id, status }, json(body));
    await tick();
  };
  const rows = () => [...el.querySelectorAll<HTMLElement>(".cd-transfers > li")];
  const states = () => rows().map((row) => row.dataset.state);
  const shared = () => (model.get("uploads") as { state: string }[]).map(({ state }) => state);
  const summary = () => el.querySelector(".cd-summary")?.textContent;
  return {
    model,
    el,
    end,
    asked,
    show,
    choose,
    messages,
    press,
    reply,
    rows,
    states,
    shared,
    summary,
    routes,
  };
}

test("a file goes to its destination, and what arrived is shared with Python", async (t) => {
  const { model, el, choose, messages, reply, rows, summary, shared } = await open(t);
  await choose(new File([new Uint8Array((AHEAD + 2) * CHUNK)], "large.bin"));
  const [upload] = messages("upload");
  assert.equal(upload?.path, "upload-file");
  assert.deepEqual(upload?.fields, { type: "input", subfolder: "by hand", overwrite: "true" });
  assert.equal(messages("piece").length, 0, "the kernel does not know the file yet");
  model.receive({ kind: "took", id: upload?.id });
  await until(() => messages("piece").length === AHEAD);
  assert.match(rows()[0]?.textContent ?? "", /0 % · 0 B of 6.0 MiB/);
  for (let piece = 0; piece < AHEAD + 2; piece += 1)
    model.receive({ kind: "took", id: upload?.id });
  await until(() => messages("piece").length === AHEAD + 2);
  await until(() => /Storing/.test(el.textContent));
  const result = { name: "large (1).bin", file_hash: "ab".repeat(32) };
  await reply(upload, result);
  assert.equal(summary(), "1 done");
  assert.match(rows()[0]?.textContent ?? "", /large.bin as large \(1\).bin.*SHA-256 abababababab…/);
  assert.deepEqual(shared(), ["done"]);
  assert.deepEqual(model.get("rows"), [
    ["large.bin", "input/by hand", "6.0 MiB", "done", "ab".repeat(32)],
  ]);
});

test("three files are sent at once; they are cancelled, tried again and cleared", async (t) => {
  const { choose, messages, reply, rows, states, press, shared, summary, model } = await open(t);
  await choose(...["a", "b", "c", "d"].map((name) => new File([], name)));
  assert.equal(states().join(), "queued,active,active,active");
  assert.equal(summary(), "4 in progress");
  await reply(messages("upload")[0], { code: "full", message: "disk full" }, 507);
  assert.equal(states().join(), "active,active,active,failed");
  assert.match(rows()[3]?.textContent ?? "", /Failed: disk full/);
  await press("Cancel d");
  assert.equal(states().join(), "cancelled,active,active,failed");
  assert.equal(messages("abort").length, 1);
  await press("Retry a");
  assert.equal(messages("upload").length, 5);
  await press("Cancel all");
  assert.equal(states().join(), "cancelled,cancelled,cancelled,cancelled");
  assert.deepEqual(shared(), ["cancelled", "cancelled", "cancelled", "cancelled"]);
  await press("Clear finished");
  assert.deepEqual([rows().length, shared().length], [0, 0]);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  assert.deepEqual(model.get("uploads"), [], "they stay cleared");
});

test("another page sees uploads, cancels and clears them; those of a closed page are lost", async (t) => {
  const left = { id: "x", page: "closed", name: "<i>", where: "input", size: 10, sent: 5 };
  const one = await open(t, {}, { uploads: [{ ...left, state: "active" }] });
  assert.match(one.rows()[0]?.textContent ?? "", /<i>.*choose the file again/);
  assert.deepEqual(one.shared(), ["lost"]);
  await one.press("Clear finished");
  await one.choose(new File([], "mine"));
  const said = one.model.get("uploads") as { state: string }[];
  const write = async (uploads: object[]) => {
    one.model.set("uploads", uploads);
    await new Promise((resolve) => setTimeout(resolve, 1100));
  };
  await write([{ ...left, state: "active" }, ...said.map((each) => ({ ...each, state: "lost" }))]);
  assert.deepEqual(one.shared(), ["active", "active"], "it says that it still sends its own one");
  await write([{ ...left, state: "active" }]);
  assert.deepEqual(one.shared(), ["active", "active"], "only one that has ended is removed");
  await write(said.map((each) => ({ ...each, state: "cancelled" })));
  assert.deepEqual(one.states(), ["cancelled"]);
  assert.equal(one.messages("abort").length, 1);
  await write([]);
  assert.deepEqual(one.rows(), []);
});

test("uploads go on while the panel is not shown, unless the kernel passes them on", async (t) => {
  const again = async ({ model, end, choose }: Awaited<ReturnType<typeof open>>) => {
    await choose(new File([], "a"));
    end();
    return () => {
      const el = document.createElement("div");
      document.body.replaceChildren(el);
      t.after(mount(model as unknown as Model, el));
      return el;
    };
  };
  const show = await again(await open(t));
  const closed = show();
  await until(() => closed.querySelector("[data-state=failed]") !== null);
  assert.match(closed.textContent, /The panel that sent it through the kernel was closed/);

  answerRequests(() => ({ instance: "1" }));
  forgetPageServer();
  globalThis.XMLHttpRequest = FakeRequest as unknown as typeof XMLHttpRequest;
  const straight = await open(t, {}, { server: { base: "/", instance: "1" } });
  const showStraight = await again(straight);
  assert.equal(FakeRequest.made.at(-1)?.form?.get("subfolder"), "by hand");
  FakeRequest.made.at(-1)?.succeed({ name: "a" });
  const el = showStraight();
  await until(() => el.querySelector("[data-state=done]") !== null);
});

test("transfers of the server are cancelled, tried again, and stay cleared", async (t) => {
  const facts = { id: "t", filename: "m.safetensors", direction: "down", size: 100, sent: 50 };
  const queue = {
    uploads: [
      { ...facts, state: "active" },
      { ...facts, id: "old", state: "done" },
    ],
  };
  const refused = { status: 409, body: { code: "conflict", message: "It has ended" } };
  const { el, asked, press, rows, model, summary, routes } = await open(t, {
    "upload-queue-status": queue,
    "cancel-uploads": () => refused,
    "retry-uploads": { retried: 1 },
  });
  assert.equal(rows().length, 1, "what had ended before is not shown");
  assert.match(rows()[0]?.textContent ?? "", /m.safetensorsto ComfyUI50 % · 50 B of 100 B/);
  await press("Cancel m.safetensors");
  assert.match(el.textContent, /It has ended/);
  routes["upload-queue-status"] = { uploads: [{ ...facts, state: "failed", error: "404" }] };
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(summary(), "1 failed");
  await press("Retry m.safetensors");
  assert.deepEqual(asked.find(({ path }) => path === "retry-uploads")?.body, { id: "t" });
  await press("Clear finished");
  assert.deepEqual(rows(), []);
  assert.deepEqual(model.get("followed"), { t: false });
});

test("a model is added from a link, which is no trait; a wrong field says so", async (t) => {
  const wrong = { code: "invalid", message: "sha256 is short", details: { field: "sha256" } };
  const { el, model, asked, press, show, routes } = await open(t, {
    "volume/model": () => ({ status: 400, body: wrong }),
  });
  await show("Add a model from a link");
  await press("Add model");
  assert.match(el.textContent, /Enter the address/);
  const inputs = [...el.querySelectorAll<HTMLInputElement>("input[placeholder]")];
  const [link, sha256] = ["https://", "checked"].map((word) =>
    inputs.find(({ placeholder }) => placeholder.startsWith(word)),
  );
  assert.ok(link && sha256);
  type(link, " https://a.test/m?token=secret ");
  type(sha256, "12");
  await press("Add model");
  assert.equal(sha256.getAttribute("aria-invalid"), "true");
  assert.equal(asked.at(-1)?.body.url, "https://a.test/m?token=secret");
  assert.equal(asked.at(-1)?.body.folder, "loras");
  routes["volume/model"] = { id: "made" };
  await press("Add model");
  assert.deepEqual(model.get("followed"), { made: true });
  assert.equal(link.value, "");
  assert.equal(find(el, "[role=tab][aria-selected=true]").textContent, "Files");
  assert.doesNotMatch(JSON.stringify(["rows", "uploads"].map((name) => model.get(name))), /secret/);
});

test("models are searched, filtered, sorted and hashed", async (t) => {
  const entry = (folder: string, name: string, size: number) => ({ ...MODEL, folder, name, size });
  const all = [entry("loras", "b", 3), entry("vae", "<i>", 2048), entry("loras", "C", 1)];
  let hash: Reply | null = null;
  const { el, asked, show, press, model } = await open(t, {
    models: ({ query }: Sent) => ({ body: query.includes("format") ? { loras: [] } : all }),
    "get-file-hash": () => hash,
  });
  await show("Models");
  const names = () => [...el.querySelectorAll(".cd-models td.cd-words")].map((c) => c.textContent);
  assert.deepEqual(names(), ["<i>", "b", "C"]);
  assert.match(el.textContent, /3 models, 2.0 KiB · 3.0 GiB of 8.0 GiB free/);
  const size = () =>
    [...el.querySelectorAll("th")].find(({ textContent }) => textContent === "Size");
  size()?.querySelector("button")?.click();
  await tick();
  assert.deepEqual(names(), ["C", "b", "<i>"]);
  size()?.querySelector("button")?.click();
  await tick();
  assert.equal(size()?.getAttribute("aria-sort"), "descending");
  const folder = find<HTMLSelectElement>(el, "select[aria-label='Show the models folder']");
  folder.value = "loras";
  folder.dispatchEvent(new Event("change"));
  await tick();
  assert.deepEqual(names(), ["b", "C"]);
  type(find(el, "input[type=search]"), "ras B");
  await tick();
  assert.deepEqual(names(), ["b"]);
  const row = find(el, "tbody tr");
  await press("Compute the hash of b");
  assert.equal(asked.at(-1)?.query, "filename=loras%2Fb");
  assert.equal(named(el, "Compute the hash of b").disabled, true);
  hash = { status: 404, body: { code: "missing", message: "There is no such file" } };
  model.receive(
    { kind: "reply", id: asked.at(-1)?.id, status: 200 },
    json({ file_hash: "0123456789ab" }),
  );
  await tick();
  assert.ok(named(el, "Copy the hash of b"));
  assert.equal(find(el, "tbody tr"), row, "its row stays, with its focus");
  type(find(el, "input[type=search]"), "C");
  await tick();
  await press("Compute the hash of C");
  assert.match(el.textContent, /loras\/C: There is no such file/);
});

test("a model is deleted after what uses it is known, also if a first try was refused", async (t) => {
  let uses: object = { ...USES, workflows: [{ name: "sunset" }], run_count: 3 };
  let changed: Reply | null = { status: 409, body: { code: "conflict", message: "1 run uses it" } };
  const { el, asked, show, press } = await open(t, {
    "models/uses": () => ({ body: uses }),
    "volume/model": () => changed,
  });
  await show("Models");
  await press("Delete a/b.pt");
  await new Promise((resolve) => setTimeout(resolve, 170));
  const dialog = find<HTMLDialogElement>(el, "dialog");
  const lines = [...dialog.querySelectorAll("li")].map((line) => line.textContent);
  assert.deepEqual(lines, ["1 stored workflow uses it: “sunset”.", "3 earlier runs used it."]);
  uses = { ...USES, in_use: true, run_count: 4, unfinished: 1 };
  await press("Delete", dialog);
  assert.match(dialog.textContent, /1 run uses it/);
  await tick();
  assert.match(dialog.textContent, /1 run that has not ended needs it now/);
  const orders = () => asked.filter(({ path }) => path === "volume/model").map(({ body }) => body);
  changed = { body: { message: "done" } };
  await press("Delete", dialog);
  const order = { action: "delete", folder: "loras", filename: "a/b.pt", machine: null };
  assert.deepEqual(orders(), [
    { ...order, in_use: false },
    { ...order, in_use: true },
  ]);
  assert.equal(el.querySelector("dialog"), null);
  assert.match(el.textContent, /loras\/a\/b.pt is deleted/);
});

test("a slow move says so, and fails beside the list if its dialog is closed", async (t) => {
  const { el, asked, show, press, model } = await open(t, { "volume/model": () => null });
  await show("Models");
  await press("Move or rename a/b.pt");
  const dialog = find<HTMLDialogElement>(el, "dialog");
  assert.equal(named(dialog, "Move").disabled, true, "it is there already");
  type(find<HTMLInputElement>(dialog, "input"), "c.pt ");
  await tick();
  await press("Move", dialog);
  const { id, body } = asked.at(-1) as Sent;
  assert.deepEqual([body.to_folder, body.to_filename], ["loras", "c.pt"]);
  assert.ok(named(dialog, "Moving …"));
  await press("Cancel", dialog);
  assert.equal(el.querySelector("dialog"), null);
  assert.match(el.textContent, /Moving loras\/a\/b.pt …/);
  model.receive(
    { kind: "reply", id, status: 500 },
    json({ code: "x", message: "No space is left" }),
  );
  await tick();
  assert.match(el.textContent, /loras\/a\/b.pt: No space is left/);
  assert.doesNotMatch(el.textContent, /Moving/);
});

test("models of another machine cannot be changed", async (t) => {
  const { el, show } = await open(t, { "fs/stat": () => ({ status: 409, body: {} }) });
  await show("Models");
  assert.ok(named(el, "Compute the hash of a/b.pt"));
  assert.equal(el.querySelector("[aria-label^=Delete]"), null);
});

test("a server of another version, and half an answer, are told and change nothing", async (t) => {
  const { el, show, routes } = await open(t, { models: {}, "upload-queue-status": { more: 1 } });
  await until(() => el.textContent.includes("its comfydeploy_jupyter has another version"));
  await show("Models");
  await until(() => find(el, ".cd-models").textContent.includes("another version"));
  routes["upload-queue-status"] = { uploads: [] };
});

test("the machine is chosen where there are several", async (t) => {
  const machines = [
    { id: "local", name: "Here", kind: "managed" },
    { id: "gpu", name: "There", kind: "comfyui" },
    { id: "cloud", name: "ComfyDeploy", kind: "cloud" },
  ];
  const { el, model, asked, choose, messages } = await open(t, { machines }, { machine: "There" });
  const find = () => el.querySelector<HTMLSelectElement>(".cd-rows > .cd-labelled > select");
  await until(() => find() !== null);
  const select = find() as HTMLSelectElement;
  assert.deepEqual(
    [...select.options].map(({ value }) => value),
    ["local", "gpu"],
  );
  assert.equal(select.value, "gpu", "by its name");
  select.value = "local";
  select.dispatchEvent(new Event("change"));
  await new Promise((resolve) => setTimeout(resolve, 170));
  assert.equal(model.get("machine"), "local");
  assert.match(asked.filter(({ path }) => path === "models").at(-1)?.query, /machine=local/);
  await choose(new File([], "a"));
  assert.equal(messages("upload")[0]?.query, "machine=local");
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
