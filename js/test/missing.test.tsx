import assert from "node:assert/strict";
import test from "node:test";
import { render } from "preact";
import { FormView } from "../src/components/form_view.tsx";
import { Missing } from "../src/components/missing.tsx";
import { FormState } from "../src/state/form.ts";
import type { Transport, Upload } from "../src/transport.ts";
import { find, named, scrollEverywhere, until } from "./page.ts";

const settled = () => new Promise((resolve) => setTimeout(resolve, 170));

function page() {
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  return root;
}

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
