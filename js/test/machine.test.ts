import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import type { Model } from "../src/model.ts";
import { mount } from "../src/panels/index.tsx";
import { FakeModel, type Sent, scrollEverywhere } from "./page.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 20));
const GIB = 1024 ** 3;
const READY = {
  id: "local",
  name: "local",
  kind: "managed",
  status: "ready",
  error: null,
  members: [],
};
const STATUS = {
  comfyui: { version: "0.33.0", version_note: null, managed: true },
  queue: { running: 1, pending: 12 },
  uploads: { pending_uploads: 2 },
  tunnel: { running: true, protected: false, error: null, state: "running" },
  store: { warnings: ["A damaged store was renamed to a<b."] },
};
const NOTHING = { cpu: null, memory: null, gpus: [], disks: [] };

type Replies = Record<string, object | ((sent: Sent) => object)>;

/** Show a panel whose requests get these replies by their paths; return what it asked for. */
async function open(t: TestContext, replies: Replies, state: object = {}) {
  const model = new FakeModel({
    component: "ComfyDeployPanel",
    server: { base: "", instance: "1" },
    error: "",
    record: "",
    tab: "Run",
    machine: null,
    panels: {},
    summary: "",
    ...state,
  });
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  t.after(mount(model as unknown as Model, el));
  await tick();
  await new Promise((resolve) => setTimeout(resolve, 150)); // effects come after a frame
  scrollEverywhere();
  const asked: Sent[] = [];
  /** Answer what was asked until nothing is asked any more. */
  const answer = async () => {
    for (let sent = model.takeSent(); sent.length; sent = model.takeSent()) {
      for (const each of sent) {
        if (typeof each.body === "string") each.body = JSON.parse(each.body);
        asked.push(each);
        const known = replies[each.path] ?? {};
        const reply = typeof known === "function" ? known(each) : known;
        const status = Number(Reflect.get(reply, "status_code") ?? 200);
        const bytes = new TextEncoder().encode(JSON.stringify(reply));
        model.receive({ kind: "reply", id: each.id, status }, [new DataView(bytes.buffer)]);
      }
      await tick();
    }
  };
  await answer();
  const press = async (text: string) => {
    const button = [...el.querySelectorAll("button")].find((each) =>
      each.textContent?.includes(text),
    );
    assert.ok(button, `there is no button ${text}`);
    button.click();
    await tick();
    await answer();
  };
  const shown = () => el.querySelector("fieldset")?.textContent ?? "";
  const has = (text: string) => assert.ok(shown().includes(text), `${text}: ${shown()}`);
  return { model, el, asked, shown, press, has };
}

test("facts of large machines are shown, and unusual names are texts", async (t) => {
  const memory = { total: 24 * GIB, used: 23 * GIB, free: GIB };
  const half = { total: 100 * GIB, used: 50 * GIB, free: 50 * GIB };
  const hardware = {
    ...NOTHING,
    memory: { total: 64 * GIB, used: null, available: null },
    gpus: [
      { name: "A <b>GPU</b>", memory, percent: 40 },
      { name: "Other", memory: null, percent: null },
    ],
    disks: [
      { path: "/models", ...half },
      { path: "/data", total: 0, used: 0, free: 0 },
    ],
  };
  const { el, has, model } = await open(t, {
    "check-status": STATUS,
    machines: [READY],
    machine: { hardware },
  });
  has("ComfyUI 0.33.0 is ready");
  assert.equal(model.get("summary"), "ComfyUI 0.33.0 is ready");
  for (const text of [
    "1 running, 12 waiting",
    "A <b>GPU</b>",
    "23.0 of 24.0 GiB, 40 % busy",
    "memory unknown",
    "64.0 GiB",
    "Disk of /models",
    "50.0 GiB free",
    "2 in progress",
    "on, open to everybody",
    "renamed to a<b.",
  ]) {
    has(text);
  }
  assert.equal(el.querySelectorAll(".cd-meter.cd-full").length, 1);
  assert.equal(el.querySelectorAll(".cd-facts > .cd-wide").length, 3);
  assert.ok(!el.textContent.includes("CPU"));
});

test("the machines of a pool are shown with their state", async (t) => {
  const busy = {
    id: "s",
    name: "<b>Studio</b>",
    status: "ready",
    version: "0.33.0",
    gpu: "NVIDIA GeForce RTX 4090",
    queue: 3,
    run: "r1",
    models: ["checkpoints/a<b>.safetensors"],
    error: null,
  };
  const gone = { ...busy, id: "a", name: "Attic", status: "unreachable", version: null, gpu: "1" };
  const idle = { queue: 0, run: null, models: [], error: "it answered <502>" };
  const pool = {
    ...READY,
    id: "p",
    name: "All",
    kind: "pool",
    members: [busy, { ...gone, ...idle }],
  };
  const { el, has } = await open(
    t,
    { "check-status": STATUS, machines: [READY, pool], machine: { hardware: NOTHING } },
    { machine: "p" },
  );
  has("1 of 2 machines ready");
  const [first, second] = [...el.querySelectorAll(".cd-members li")].map(
    (each) => each.textContent,
  );
  assert.ok(first?.includes("<b>Studio</b>1 running, 2 waiting"));
  assert.ok(first?.includes("ComfyUI 0.33.0 · NVIDIA GeForce RTX 4090a<b>.safetensors"));
  assert.ok(second?.includes("idleComfyUI · GPU 1 · cannot be reachedit answered <502>"));
  assert.equal(el.querySelector("select")?.value, "p");
});

test("a ComfyUI that is down is started, its log shown, and each error said once", async (t) => {
  const down = { ...READY, status: "backoff", error: "the same" };
  const comfyui = { ...STATUS.comfyui, error: "the same", hint: "Look at <its> log" };
  const { has, press, asked, shown } = await open(t, {
    "check-status": { ...STATUS, comfyui },
    machines: [down],
    machine: { hardware: NOTHING },
    "comfyui/log": { path: "/comfyui.log", lines: ["one <b>", "two"] },
    "comfyui/start": { status_code: 409, code: "conflict", message: "machine: not this one" },
  });
  has("ComfyUI 0.33.0 is down, it is being started again");
  assert.equal(shown().split("the same").length, 2);
  has("Look at <its> log");
  await press("Start");
  assert.deepEqual(asked.find(({ path }) => path === "comfyui/start")?.body, { machine: null });
  has("machine: not this one");
});

test("memory is freed, an earlier ComfyUI used, and notes are shown", async (t) => {
  const note = "ComfyUI 0.99.1 is <newer>";
  const comfyui = { ...STATUS.comfyui, version_note: note, kept: { version: "0.32.0" } };
  const { has, press } = await open(t, {
    "check-status": { ...STATUS, comfyui },
    machines: [READY],
    machine: { hardware: NOTHING },
    free: { gpu: { freed: 3 * GIB }, ram: { freed: 5 << 20 }, pending: true },
    "comfyui/back": { version: "0.32.0", notes: ["Two packs may not work."] },
  });
  has(note);
  await press("Free memory");
  has(
    "3.0 GiB of GPU memory, 5 MiB of RAM freed; ComfyUI frees more when the current run has ended",
  );
  await press("Back to ComfyUI 0.32.0");
  has("ComfyUI 0.32.0 is used. Two packs may not work.");
});

test("a machine that is deleted is left, and half an answer breaks no panel", async (t) => {
  const gone = { status_code: 404, code: "not_found", message: "There is no such machine" };
  const { model, has } = await open(
    t,
    {
      "check-status": ({ query }) => (query ? gone : STATUS),
      machines: [READY],
      machine: {},
    },
    { machine: "attic" },
  );
  assert.equal(model.get("machine"), null);
  has("is ready");
});

test("the account is shown, and password and key leave their fields when they are sent", async (t) => {
  let account = { source: null as string | null, email: null as string | null, problem: null };
  const { el, has, press, asked } = await open(
    t,
    {
      "comfy-account": ({ body }: Sent) => {
        if (body?.password === "wrong") {
          return { status_code: 400, code: "cloud", message: "The password is wrong" };
        }
        if (body?.email) account = { ...account, source: "signed-in", email: body.email };
        else if (body) account = { ...account, source: body.api_key ? "kept" : null };
        return account;
      },
    },
    { component: "AccountPanel" },
  );
  const type = async (label: string, text: string) => {
    const id = [...el.querySelectorAll("label")].find(
      (each) => each.textContent === label,
    )?.htmlFor;
    const input = el.querySelector<HTMLInputElement>(`#${id}`);
    assert.ok(input);
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await tick();
    return input;
  };
  has("There is no Comfy account");
  await press("Sign in");
  has("Enter the email and the password");
  const email = await type("Email", " ada@example.org ");
  const password = await type("Password", "wrong");
  await press("Sign in");
  has("The password is wrong");
  assert.equal(password.value, "");
  await type("Password", "right");
  await press("Sign in");
  has("Signed in to Comfy as ada@example.org");
  assert.equal(email.value, "ada@example.org");
  await press("Sign out");
  has("There is no Comfy account");
  const key = await type("API key", "comfyui-secret");
  await press("Store key");
  has("A key of a Comfy account is stored");
  assert.equal(key.value, "");
  assert.equal(asked.at(-1)?.body.api_key, "comfyui-secret");
});
