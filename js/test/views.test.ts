import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { forgetPageServer } from "../src/server.ts";
import button from "../src/views/button.ts";
import copyButton from "../src/views/copy_button.ts";
import download from "../src/views/download.ts";
import fileButton from "../src/views/file_button.ts";
import gallery from "../src/views/gallery.ts";
import history from "../src/views/history.ts";
import lifeline from "../src/views/lifeline.ts";
import models from "../src/views/models.ts";
import progress from "../src/views/progress.ts";
import runButton from "../src/views/run_button.ts";
import searchCombo from "../src/views/search_combo.ts";
import { answerRequests, find, scrollEverywhere, show, until } from "./page.ts";

const SERVER = { base: "/", instance: "one" };

beforeEach(() => {
  forgetPageServer();
  answerRequests(() => ({ instance: "one" }));
});

const BUTTON = {
  description: "Run",
  icon: "play",
  hint: "Run it",
  button_style: "",
  disabled: false,
};

test("a button shows its text, or has a name in its place", () => {
  const { model, el } = show(button, { ...BUTTON });
  const element = find<HTMLButtonElement>(el, "button");
  element.click();
  assert.deepEqual(model.sent, [{ kind: "click" }]);
  assert.equal(element.textContent, " Run");
  assert.equal(element.hasAttribute("aria-label"), false);
  model.set("description", "");
  assert.equal(element.getAttribute("aria-label"), "Run it");
  model.set("disabled", true);
  assert.equal(element.disabled, true);
});

test("the number of runs is sent with a click, and a wrong one is marked", () => {
  const { model, el } = show(runButton, { disabled: false, most: 100, problem: "" });
  const times = find<HTMLInputElement>(el, "input");
  times.value = "3";
  find(el, "button").click();
  assert.deepEqual(model.sent, [{ kind: "run", times: 3 }]);
  model.set("problem", "must be 1 to 100");
  assert.equal(times.getAttribute("aria-invalid"), "true");
  assert.equal(document.activeElement, times);
});

test("a combo box takes options with values and notes", () => {
  const options = ["plain", ["Text", 7, "a note"]];
  const state = { description: "Workflow", options, value: 7, placeholder: "", free: false };
  const { el, model } = show(searchCombo, state);
  const input = find<HTMLInputElement>(el, "input");
  assert.equal(input.value, "Text");
  input.click();
  assert.equal(find(el, "small").textContent, "a note");
  el.querySelector("li")?.click();
  assert.equal(model.get("value"), "plain");
});

test("a file of the wrong kind is refused, another one is sent", async () => {
  const setUp = (el: HTMLElement) => el.classList.add("comfydeploy-panel");
  const state = { label: "Open", hint: "", accept: ".json" };
  const { model, el } = show(fileButton, state, setUp);
  const drop = (name: string) => {
    const event = new Event("drop", { bubbles: true, cancelable: true });
    const dataTransfer = { types: ["Files"], files: [new File([""], name)] };
    el.dispatchEvent(Object.assign(event, { dataTransfer }));
  };
  drop("a.txt");
  assert.deepEqual(model.takeSent(), [{ kind: "refused", name: "a.txt" }]);
  drop("a.json");
  await until(() => model.sent.length > 0);
  assert.equal(model.takeSent()[0]?.name, "a.json");
  el.classList.add("cd-dead");
  drop("b.txt");
  assert.deepEqual(model.sent, [], "the kernel is gone");
});

test("a download is asked for once, and saved under its name", () => {
  const { model, el } = show(download, { label: "Save" });
  const element = find<HTMLButtonElement>(el, "button");
  element.click();
  assert.equal(element.disabled, true);
  assert.deepEqual(model.sent, [{ type: "wanted" }]);
  model.receive({ type: "nothing" });
  assert.equal(element.disabled, false);
});

const STATE = {
  phase: "running",
  text: "KSampler 3/20",
  node: "KSampler",
  fraction: 0.254,
  step: 3,
  steps: 20,
  elapsed: 12.2,
  left: 75,
};

test("progress has a number, a time and a preview", () => {
  const { model, el } = show(progress, { state: STATE });
  assert.deepEqual(model.sent, [{ kind: "hello" }]);
  assert.equal(find(el, ".cd-number").textContent, "25 % · 12 s · about 1 min 15 s left");
  const bars = [...el.querySelectorAll("[role=progressbar]")];
  assert.deepEqual(
    bars.map((bar) => bar.getAttribute("aria-valuenow")),
    ["25", "15"],
  );
  model.receive({ kind: "preview", mime: "image/jpeg" }, [new DataView(new ArrayBuffer(2))]);
  const preview = find<HTMLImageElement>(el, ".cd-preview");
  assert.equal(preview.hidden, false);
  model.set("state", { phase: "" });
  assert.equal(el.hidden, true);
  assert.equal(preview.hasAttribute("src"), false);
});

const RUN = {
  prompt_id: "p1",
  status: "success",
  title: "",
  created_at: "2020-01-02T03:04:05Z",
  seconds: 61,
  query: "filename=a.png",
  kind: "file",
  summary: "3.seed: 1",
};

test("earlier runs are shown with a small picture, and a click shows one", async () => {
  const runs = [RUN, { ...RUN, prompt_id: "p2", query: null, kind: "text" }];
  const state = { runs, more: true, chosen: "p2", opened: true, server: SERVER };
  const { model, el } = show(history, state);
  assert.equal(find(el, "summary").textContent, "History (2+)");
  scrollEverywhere();
  const image = find<HTMLImageElement>(el, "img");
  await until(() => image.src !== "");
  assert.match(image.src, /view\?filename=a.png&thumbnail=192$/);
  const [first, second] = el.querySelectorAll<HTMLButtonElement>(".cd-run");
  assert.equal(second?.getAttribute("aria-pressed"), "true");
  first?.focus();
  first?.click();
  assert.deepEqual(model.takeSent(), [{ kind: "show", prompt_id: "p1" }]);
  model.set("chosen", "p1");
  assert.equal(document.activeElement, el.querySelector(".cd-run"), "the focus stays");
  model.set("runs", []);
  assert.equal(el.hidden, true);
});

const ITEM = { name: "a.png", kind: "image", query: "filename=a.png", small: true, waits: false };
const RESULT = {
  prompt_id: "p1",
  status: "success",
  title: "Success",
  facts: ["1.00 s"],
  problems: [],
  seeds: ["5"],
  items: [ITEM],
  pairs: [],
  texts: [],
  times: [],
  reusable: true,
};

const showResult = (more: object) =>
  show(gallery, { result: { ...RESULT, ...more }, server: SERVER });

test("the name of a file hides nothing", () => {
  const items = [{ ...ITEM, name: "gpj.\u202eevil\u0000.png", kind: "file" }];
  const { el } = showResult({ items });
  assert.equal(find(el, ".cd-tile").title, "gpj.\ufffdevil\ufffd.png");
});

test("names and texts are no HTML", () => {
  const text = "<img src=x onerror=alert(1)>";
  const texts = [{ node: text, text, beginning: text, waits: false }];
  const { el } = showResult({
    items: [{ ...ITEM, name: text, kind: "3d" }],
    texts,
    problems: [text],
  });
  assert.equal(el.querySelector("[onerror]"), null);
  assert.equal(find(el, "pre").textContent, text);
});

test("a picture is loaded when it is near the screen; one that is gone is a file", async () => {
  const { el } = showResult({});
  const image = find<HTMLImageElement>(el, ".cd-picture-button img");
  assert.equal(image.hasAttribute("src"), false);
  scrollEverywhere();
  await until(() => image.hasAttribute("src"));
  assert.match(image.src, /thumbnail=768$/);
  image.dispatchEvent(new Event("error"));
  assert.equal(find(el, ".cd-tile").title, "a.png");
});

test("pairs are compared, and their pictures are not shown twice", () => {
  const items = [ITEM, { ...ITEM, name: "b.png" }, { ...ITEM, name: "c.png" }];
  const { el } = showResult({ items, pairs: [[0, 1]] });
  const slider = find<HTMLInputElement>(el, ".cd-compare input");
  assert.equal(slider.getAttribute("aria-label"), "Compare a.png with b.png");
  assert.equal(el.querySelectorAll(".cd-picture-button").length, 1);
});

test("outputs that the author did not choose are made when they are opened", () => {
  const { el } = showResult({
    items: [ITEM, { ...ITEM, name: "b.bin", kind: "file", waits: true }],
  });
  const rest = find<HTMLDetailsElement>(el, ".cd-rest");
  assert.equal(find(rest, "summary").textContent, "Other outputs (1)");
  assert.equal(rest.querySelector(".cd-tile"), null);
  rest.open = true;
  rest.dispatchEvent(new Event("toggle"));
  assert.ok(rest.querySelector(".cd-tile"));
});

test("a long text is only in the page while it is open", () => {
  const long = "word ".repeat(1000);
  const texts = [{ node: "Text", text: long, beginning: "word", waits: false }];
  const { el } = showResult({ items: [], texts });
  const details = find<HTMLDetailsElement>(el, "figure details");
  const whole = find(details, "pre");
  assert.equal(whole.textContent, "");
  details.open = true;
  details.dispatchEvent(new Event("toggle"));
  assert.equal(whole.textContent, long);
});

test("the values of a run can be used again", () => {
  const { el, model } = showResult({ items: [] });
  find(el, ".cd-head button").click();
  assert.deepEqual(model.sent, [{ kind: "reuse", prompt_id: "p1" }]);
});

test("models are searched, filtered and sorted", () => {
  const entry = (folder: string, name: string, size: number) => ({
    folder,
    name,
    size,
    modified: 0,
  });
  const { el, model } = show(models, {
    models: [entry("loras", "b", 3), entry("vae", "a", 2048), entry("loras", "C", 1)],
    loaded: true,
    hashes: { "vae/a": "0123456789abcdef" },
  });
  const names = () => [...el.querySelectorAll(".comfydeploy-name")].map((cell) => cell.textContent);
  assert.deepEqual(names(), ["a", "b", "C"]);
  find(el, "th[data-key=size] button").click();
  assert.deepEqual(names(), ["C", "b", "a"]);
  find(el, "th[data-key=size] button").click();
  assert.deepEqual(names(), ["a", "b", "C"]);
  assert.equal(find(el, "th[data-key=size]").getAttribute("aria-sort"), "descending");
  const folder = find<HTMLSelectElement>(el, "select");
  folder.value = "loras";
  folder.dispatchEvent(new Event("change"));
  assert.deepEqual(names(), ["b", "C"]);
  find(el, "[aria-label='Compute the hash of b']").click();
  assert.deepEqual(model.sent, [{ type: "hash", key: "loras/b" }]);
  model.set("hashes", { "loras/b": "!" });
  assert.equal(find<HTMLButtonElement>(el, "[aria-label='Compute the hash of b']").disabled, true);
});

test("a panel whose kernel is gone says so and is disabled, also what comes later", async () => {
  const kernel = { id: "k", status: "idle" };
  const slots: (() => void)[] = [];
  const signal = { connect: (slot: () => void) => slots.push(slot), disconnect: () => {} };
  const sessionContext = { session: { kernel }, statusChanged: signal, kernelChanged: signal };
  const setUp = (el: HTMLElement) => el.classList.add("panel");
  const state = { around: "panel", text: "The kernel is gone" };
  const { el } = show(
    {
      render({ model, el: root }) {
        model.widget_manager = { context: { sessionContext } };
        return lifeline.render({ model, el: root });
      },
    },
    state,
    setUp,
  );
  const input = document.createElement("input");
  const picture = Object.assign(document.createElement("button"), {
    className: "cd-picture-button",
  });
  el.append(input, picture);
  for (const slot of slots) slot();
  assert.equal(el.hidden, true);
  kernel.status = "dead";
  for (const slot of slots) slot();
  assert.equal(find(el, ".comfydeploy-error").textContent, "The kernel is gone");
  const later = document.createElement("button");
  el.append(later);
  await until(() => later.disabled);
  assert.equal(picture.disabled, false);
});

test("no view listens after its end", () => {
  const states: [Parameters<typeof show>[0], Record<string, unknown>][] = [
    [button, { ...BUTTON }],
    [copyButton, { text: "a", label: "Copy" }],
    [download, { label: "Save" }],
    [gallery, { result: RESULT, server: SERVER }],
    [history, { runs: [RUN], more: false, chosen: "", opened: true, server: SERVER }],
    [lifeline, { around: "x", text: "" }],
    [models, { models: [], loaded: false, hashes: {} }],
    [progress, { state: STATE }],
    [runButton, { disabled: true, most: 1, problem: "" }],
    [searchCombo, { description: "", options: [], value: "", placeholder: "", free: true }],
  ];
  for (const [view, state] of states) {
    const { model, end } = show(view, state);
    assert.ok(model.listenerCount > 0);
    end();
    assert.equal(model.listenerCount, 0);
  }
});
