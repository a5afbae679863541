import assert from "node:assert/strict";
import test from "node:test";
import { render } from "preact";
import { FormView } from "../src/components/form_view.tsx";
import { Missing } from "../src/components/missing.tsx";
import { FormState } from "../src/state/form.ts";
import { RouteError, type Transport, type Upload } from "../src/transport.ts";
import { find, named, scrollEverywhere, until } from "./page.ts";

const settled = () => new Promise((resolve) => setTimeout(resolve, 170));

function page() {
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  return root;
}

const NOTHING = { offline: false, models: [], missing_nodes: [], warnings: [] };

const MODEL = {
  name: "<b>.safetensors",
  folder: "vae",
  url: "javascript:alert(1)",
  size: null,
  pickle: false,
  state: "missing",
  problem: null,
  transfer: null,
};

test("missing models are downloaded with progress, cancelled in place, and then offered", async (t) => {
  const asked: [string, unknown][] = [];
  let models: object[] = [MODEL];
  const transfer = { id: "t", filename: "b", direction: "down", size: 2048, sent: 1024 };
  let queue: object[] = [{ ...transfer, state: "active" }];
  const transport = {
    post: async (path: string, body: object) => {
      asked.push([path, body]);
      if (path === "cancel-uploads") throw new Error("It has ended");
      return { offline: false, models, missing_nodes: [], warnings: [] };
    },
    get: async () => ({ uploads: queue }),
  } as unknown as Transport;
  let fetched = 0;
  const root = page();
  const source = { workflow_id: "w" };
  render(
    <Missing
      transport={transport}
      source={source}
      machine={null}
      onFetched={() => {
        fetched += 1;
      }}
    />,
    root,
  );
  t.after(() => render(null, root));
  await settled();
  scrollEverywhere();
  assert.match(root.textContent, /1 model is missing/);
  assert.equal(root.querySelector("a, b.safetensors"), null);
  models = [{ ...MODEL, state: "fetching", transfer: "t" }];
  named(root, "Download all").click();
  await settled();
  scrollEverywhere();
  await until(() => /50 % · 1.0 KiB of 2.0 KiB/.test(root.textContent));
  named(root, "Cancel b").click();
  await until(() => /It has ended/.test(root.textContent));
  assert.deepEqual(asked.at(-1), ["cancel-uploads", { id: "t" }]);
  queue = [{ ...transfer, state: "done" }];
  await until(() => fetched === 1);
  await until(() => !/missing/.test(root.textContent)); // nothing is lacking any more
});

test("a picture of a form is sent by the page; that is cancelled, and another one is taken", async (t) => {
  const sent: { upload: Upload; resolve: (reply: object) => void }[] = [];
  const facts = { node: "1", more: false, hint: "", choices: null, required: false };
  const key = "1.image";
  const row = { ...facts, key, keys: [key], input: "image", kind: "image", label: "Photo" };
  const form = {
    title: "",
    structure: "",
    rows: [{ ...row, original: "", options: ["photo.png"] }],
    values: { [key]: "" },
    choices: [],
    unlocked: [],
    outputs: [],
    notes: [],
    problems: {},
    others: {},
    unknown: {},
    given: {},
    defined: true,
  };
  const transport = {
    base: null,
    post: async () => form,
    get: async () => form,
    content: async () => new Blob([]),
    send: (_: string, upload: Upload) =>
      new Promise((resolve, reject) => {
        sent.push({ upload, resolve });
        upload.signal?.addEventListener("abort", () => reject(upload.signal?.reason));
      }),
  } as unknown as Transport;
  const state = new FormState(transport, () => {});
  await state.open({ workflow_id: "w" });
  const root = page();
  render(<FormView state={state} transport={transport} focus={{ current: () => {} }} />, root);
  t.after(() => render(null, root));
  await settled();
  scrollEverywhere();
  const choose = (file: File) => {
    const input = find<HTMLInputElement>(root, "input[type=file]");
    Object.defineProperty(input, "files", { value: [file], configurable: true });
    input.dispatchEvent(new Event("change"));
  };
  choose(new File(["x"], "a.txt", { type: "text/plain" }));
  assert.match(root.textContent, /a.txt is not a picture/);
  choose(new File(["x"], "a.png", { type: "image/png" }));
  await until(() => sent.length === 1);
  sent[0]?.upload.progress?.(0.42);
  assert.match(root.textContent, /Sending a.png: 42 %/);
  named(root, "Photo: do not send it").click();
  assert.equal(sent[0]?.upload.signal?.aborted, true);
  assert.doesNotMatch(root.textContent, /Sending/);
  choose(new File(["x"], "b.png", { type: "image/png" }));
  await until(() => sent.length === 2);
  sent[1]?.resolve({ name: "b (1).png" });
  await until(() => state.values.value["1.image"] === "b (1).png");
  assert.equal(named(root, "Photo: do not send it").hidden, true);
});

test("a missing node pack is installed, and loaded by a restart", async (t) => {
  const asked: [string, Record<string, unknown>][] = [];
  let state = "missing";
  let problem: string | null = null;
  let running = 1;
  const pack = () => ({
    pack: "grain",
    title: "<b>Grain",
    url: "https://registry.comfy.org/nodes/grain",
    classes: ["Grain+"],
    state,
    problem,
  });
  const nodes = [{ class_type: "Grain+", pack: "grain" }, { class_type: "Nobody's" }];
  const plan = { offline: false, machine: "second", managed: true, manager: "3.39" };
  const transport = {
    post: async (path: string, body: Record<string, unknown>) => {
      asked.push([path, body]);
      if (path === "workflow/fetch-models") return { ...NOTHING, missing_nodes: nodes };
      if (path === "cancel-node-packs") throw new Error("It has begun");
      if (path === "machine/update") return {};
      if (!body.dry_run) state = "waiting";
      return { ...plan, packs: [pack()], others: [nodes[1]] };
    },
    get: async (path: string) => {
      if (path === "check-status") return { queue: { running } };
      return path === "node-packs" ? [pack()] : { uploads: [] };
    },
  } as unknown as Transport;
  let loaded = 0;
  const root = page();
  const source = { workflow_id: "w" };
  const onFetched = () => {
    loaded += 1;
  };
  render(<Missing {...{ transport, source, onFetched }} machine={null} />, root);
  t.after(() => render(null, root));
  await until(() => /1 node pack is missing/.test(root.textContent));
  assert.match(root.textContent, /1 node class is missingNobody's/);
  assert.equal(find<HTMLAnchorElement>(root, "a").href, pack().url);
  assert.equal(root.querySelector("td b"), null);
  scrollEverywhere();
  named(root, "Install the missing node packs").click();
  await until(() => /waits for the one before it/.test(root.textContent));
  assert.deepEqual(asked.at(-1), [
    "workflow/install-packs",
    { ...source, machine: null, packs: ["grain"] },
  ]);
  named(root, "Cancel the installation of <b>Grain").click();
  await until(() => /It has begun/.test(root.textContent));
  state = "failed";
  problem = "security_level must be normal";
  await until(() => /security_level must be normal/.test(root.textContent));
  problem = null;
  named(root, "Install <b>Grain again").click();
  await until(() => state === "waiting");
  state = "installed";
  await until(() => /1 node pack installed: ComfyUI has to be restarted/.test(root.textContent));
  named(root, "Restart ComfyUI").click();
  await until(() => /A run is being executed/.test(root.textContent));
  named(root, "Cancel").click();
  await until(() => !/A run is being executed/.test(root.textContent));
  assert.equal(loaded, 0);
  running = 0;
  named(root, "Restart ComfyUI").click();
  await until(() => loaded === 1);
  assert.ok(
    asked.some(([path, body]) => path === "machine/update" && body.machine_id === "second"),
  );
});

test("missing pictures are uploaded to the inputs that name them, and an account is asked for", async (t) => {
  const sent: string[] = [];
  const rows = ["a", "b", "c"].map((name, place) => {
    const key = `${place}.image`;
    const facts = { node: String(place), more: false, hint: "", choices: 0, required: false };
    const kinds = { input: "image", kind: "image", label: `Photo ${name}`, original: "" };
    return { ...facts, ...kinds, key, keys: [key] };
  });
  const form = {
    ...{ title: "", structure: "", unlocked: [], outputs: [], notes: [], problems: {} },
    ...{ others: {}, unknown: {}, given: {}, defined: true, price: "Partner nodes: $0.06" },
    rows,
    values: { "0.image": "trip/a.png", "1.image": "b.png", "2.image": "there.png" },
    choices: [["there.png"]],
  };
  let source: string | null = null;
  const transport = {
    base: null,
    post: async (path: string) => (path === "workflow/form" ? form : NOTHING),
    get: async (path: string) => (path === "comfy-account" ? { source } : { uploads: [] }),
    size: async (_: string, { query: _q, filename }: Record<string, string>) => {
      throw new RouteError(404, `${filename} is not there`);
    },
    send: async (_: string, { file }: Upload) => {
      sent.push(file?.name ?? "");
      return { name: file?.name };
    },
  } as unknown as Transport;
  const state = new FormState(transport, () => {});
  await state.open({ workflow_id: "w" });
  const root = page();
  const workflow = { workflow_id: "w" };
  render(
    <Missing
      {...{ transport, form: state }}
      source={workflow}
      machine={null}
      onFetched={() => {}}
    />,
    root,
  );
  t.after(() => render(null, root));
  await until(() => /2 pictures are missing/.test(root.textContent));
  assert.match(root.textContent, /trip\/a.pngPhoto amissing/);
  const input = find<HTMLInputElement>(root, "input[type=file]");
  const files = ["b.png", "other.png"].map((name) => new File(["x"], name, { type: "image/png" }));
  Object.defineProperty(input, "files", { value: files, configurable: true });
  input.dispatchEvent(new Event("change"));
  await until(() => !/missing/.test(root.textContent));
  assert.equal(state.values.value["0.image"], "other.png");
  assert.equal(state.values.value["1.image"], "b.png");
  assert.deepEqual(sent.sort(), ["b.png", "other.png"]);
  scrollEverywhere();
  await until(() => /A Comfy account is missing.*\$0.06/.test(root.textContent));
  named(root, "Sign in …").click();
  source = "kept";
  await until(() => root.querySelector("dialog") !== null);
  named(root, "Close").click();
  await until(() => !/account is missing/.test(root.textContent));
});
