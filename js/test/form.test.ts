import assert from "node:assert/strict";
import { test } from "node:test";
import { h } from "../src/dom.ts";
import { viewQuery } from "../src/form/media_control.ts";
import form from "../src/views/form.ts";
import runButton from "../src/views/run_button.ts";
import {
  answerRequests,
  asModel,
  FakeModel,
  FakeRequest,
  find,
  press,
  scrollEverywhere,
  show,
  type,
  until,
} from "./page.ts";

const NO_PROBLEMS = {
  problems: {},
  others: [],
  opened: false,
  locked: [],
  server: {},
  machine: null,
  form_number: 1,
};

function field(key: string, kind: string, original: unknown, more: object = {}) {
  return { key, label: key, kind, hint: kind, original, options: null, more: false, ...more };
}

function showForm(fields: ReturnType<typeof field>[], state: object = {}) {
  const values = Object.fromEntries(fields.map(({ key, original }) => [key, original]));
  return show(form, { ...NO_PROBLEMS, fields, values, ...state });
}

function inputIn(el: HTMLElement): HTMLInputElement {
  return find<HTMLInputElement>(el, ".cd-control input");
}

function confirm(model: FakeModel): void {
  for (const { kind, id } of model.takeSent()) {
    if (kind === "typed") model.receive({ kind: "took", id });
  }
}

test("what is typed goes to the kernel, and can be taken back", () => {
  const { model, el } = showForm([field("3.steps", "int", "20", { min: 1, max: 100 })]);
  const input = inputIn(el);
  assert.deepEqual([input.type, input.min, input.max, input.step], ["number", "1", "100", "any"]);
  const undo = find<HTMLButtonElement>(el, ".cd-back");
  assert.equal(undo.disabled, true);
  type(input, "30");
  assert.deepEqual(
    model.sent.map(({ kind, values }) => [kind, values]),
    [["typed", { "3.steps": "30" }]],
  );
  assert.equal(find(el, ".cd-field").classList.contains("cd-changed"), true);
  undo.click();
  assert.equal(input.value, "20");
  assert.deepEqual(model.sent.at(-1)?.values, { "3.steps": "20" });
  assert.deepEqual(
    model.sent.map(({ number }) => number),
    [1, 2],
  );
});

test("values of the kernel do not replace what was typed since", () => {
  const { model, el } = showForm([field("a", "text", "one"), field("b", "text", "one")]);
  const [a, b] = el.querySelectorAll<HTMLInputElement>(".cd-control input");
  assert.ok(a && b);
  type(a, "two");
  model.set("values", { a: "one", b: "three" });
  assert.deepEqual([a.value, b.value], ["two", "three"]);
  confirm(model);
  model.set("values", { a: "four", b: "three" });
  assert.equal(a.value, "four");
});

test("a click on Run sends again what was typed and not confirmed", () => {
  const panel = h("div", { className: "comfydeploy-panel" });
  const state = { fields: [field("a", "text", ""), field("b", "text", "")], values: {} };
  const { model, el } = show(form, { ...NO_PROBLEMS, ...state }, (el) => {
    document.body.replaceChildren(panel);
    panel.append(el);
  });
  const bar = panel.appendChild(h("div"));
  const runs = new FakeModel({ disabled: false, most: 100, problem: "" });
  runButton.render({ model: asModel(runs), el: bar });
  const run = find(bar, "button");
  const [a, b] = el.querySelectorAll<HTMLInputElement>(".cd-control input");
  assert.ok(a && b);
  type(a, "two");
  confirm(model);
  type(b, "three");
  run.click();
  const [sent] = model.takeSent();
  assert.deepEqual(sent?.values, { b: "three" });
  assert.deepEqual(runs.takeSent(), [{ kind: "run", times: 1, typed: [sent] }]);
  model.receive({ kind: "took", id: sent?.id });
  run.click();
  assert.deepEqual(runs.takeSent(), [{ kind: "run", times: 1, typed: [] }]);
});

test("a seed is kept or drawn", () => {
  const { model, el } = showForm([field("3.seed", "seed", "18446744073709551615")]);
  const [draw, lock] = el.querySelectorAll<HTMLButtonElement>(".cd-control .cd-line button");
  assert.equal(inputIn(el).value, "18446744073709551615", "a number would lose its last digits");
  draw?.click();
  lock?.click();
  assert.equal(lock?.getAttribute("aria-pressed"), "true");
  assert.match(el.textContent ?? "", /kept/);
  assert.deepEqual(model.sent, [
    { kind: "draw", key: "3.seed" },
    { kind: "lock", key: "3.seed", locked: true },
  ]);
});

test("choices keep their type; a long list can be searched", () => {
  const { model, el } = showForm([field("a", "combo", 2, { options: [1, 2] })]);
  const select = find<HTMLSelectElement>(el, "select");
  assert.equal(select.selectedIndex, 1);
  select.selectedIndex = 0;
  select.dispatchEvent(new Event("change"));
  assert.deepEqual(model.sent[0]?.values, { a: 1 });
  const many = Array.from({ length: 11 }, (_, number) => `model ${number}`);
  assert.ok(
    showForm([field("a", "combo", "model 1", { options: many })]).el.querySelector(".cd-combo"),
  );
});

test("choices can be searched from eight on", () => {
  const first = (count: number) => Array.from({ length: count }, (_, n) => `model ${n}`);
  const form = (options: string[]) => showForm([field("a", "combo", "model 1", { options })]);
  assert.ok(form(first(7)).el.querySelector("select"));
  const { model, el } = form(first(8));
  assert.equal(el.querySelector("select"), null);
  const input = find<HTMLInputElement>(el, "input[role=combobox]");
  assert.equal(input.value, "model 1");
  type(input, "7");
  press(input, "Enter");
  assert.equal(input.value, "model 7");
  assert.deepEqual(model.sent.at(-1)?.values, { a: "model 7" });
});

test("the placeholder of an empty number is its range and unit", () => {
  const range = { min: 16, max: 4096, range: "16 to 4096 pixels" };
  const { el } = showForm([field("5.width", "int", "64", { ...range, hint: range.range })]);
  const input = inputIn(el);
  assert.equal(input.placeholder, "16 to 4096 pixels");
  const hint = document.getElementById(input.getAttribute("aria-describedby") ?? "");
  assert.equal(hint?.textContent, "16 to 4096 pixels");
  assert.equal(hint?.hidden, false);
});

test("a value that is not a choice is shown nevertheless", () => {
  const { el } = showForm([field("a", "combo", "gone", { options: ["here"] })]);
  const texts = [...find<HTMLSelectElement>(el, "select").children].map((each) => each.textContent);
  assert.deepEqual(texts, ["gone", "here"]);
});

test("an input that needs a value is marked, and nothing is chosen for it", () => {
  const required = { required: true };
  const { el } = showForm([
    field("a", "combo", null, { ...required, options: ["one", "two"] }),
    field("b", "bool", false, required),
    field("c", "text", ""),
  ]);
  const marks = [...el.querySelectorAll(".cd-field")].map((row) => [
    row.querySelector(".cd-required")?.textContent ?? "",
    row.querySelector("[aria-required]") !== null,
  ]);
  assert.deepEqual(marks, [
    [" *", true],
    [" *", false],
    ["", false],
  ]);
  const select = find<HTMLSelectElement>(el, "select");
  assert.deepEqual(
    [...select.options].map((option) => option.text),
    ["", "one", "two"],
  );
  assert.equal(select.selectedIndex, 0);
});

test("a colour is picked or typed", () => {
  const { model, el } = showForm([field("a", "color", "#102030")]);
  const [picker, text] = el.querySelectorAll<HTMLInputElement>(".cd-control input");
  assert.ok(picker && text);
  type(text, "#zz");
  assert.equal(picker.value, "#102030");
  type(text, "#aabbcc");
  assert.equal(picker.value, "#aabbcc");
  type(picker, "#000000");
  assert.equal(text.value, "#000000");
  assert.equal(model.sent.length, 3);
});

test("a problem is shown at its field, and goes away", () => {
  const { model, el } = showForm([field("a", "int", "1")]);
  model.set("problems", { a: "must be at least 1" });
  const problem = find(el, ".cd-problem");
  assert.equal(problem.textContent, "must be at least 1");
  assert.equal(inputIn(el).getAttribute("aria-invalid"), "true");
  assert.ok(inputIn(el).getAttribute("aria-describedby")?.includes(problem.id));
  model.set("problems", {});
  assert.equal(problem.hidden, true);
  assert.equal(inputIn(el).hasAttribute("aria-invalid"), false);
});

test("more inputs are made when they are opened, and the kernel can go to one", () => {
  const more = Array.from({ length: 9 }, (_, number) =>
    field(`f${number}`, "text", "", { more: true }),
  );
  const { model, el } = showForm([field("a", "text", ""), ...more]);
  assert.equal(el.querySelectorAll(".cd-field").length, 1);
  model.receive({ kind: "focus", key: "f3" });
  assert.equal(el.querySelectorAll(".cd-field").length, 10);
  assert.equal(document.activeElement, el.querySelectorAll(".cd-control input")[4]);
  type(find<HTMLInputElement>(el, ".cd-search input"), "f3");
  const shown = [...el.querySelectorAll<HTMLElement>(".cd-others .cd-field")].filter(
    (row) => !row.hidden,
  );
  assert.equal(shown.length, 1);
});

test("the field with the focus keeps it when the fields change", () => {
  const fields = [field("a", "text", ""), field("b", "text", "")];
  const { model, el } = showForm(fields);
  el.querySelectorAll<HTMLInputElement>(".cd-control input")[1]?.focus();
  model.set("fields", [field("new", "text", ""), ...fields]);
  assert.equal(document.activeElement, el.querySelectorAll(".cd-control input")[2]);
});

test("a small range has a slider, which never shows the error of binary fractions", () => {
  const range = { min: 0, max: 1, step: 0.01, slider: true, range: "0 to 1" };
  const { model, el } = showForm([field("a", "float", "0.5", range)]);
  const number = find<HTMLInputElement>(el, "input[type=number]");
  const slider = find<HTMLInputElement>(el, "input[type=range]");
  assert.equal(number.placeholder, "0 to 1");
  type(slider, "0.30000000000000004");
  assert.equal(number.value, "0.3");
  assert.deepEqual(model.sent.at(-1)?.values, { a: "0.3" });
  type(number, "0.75");
  assert.equal(slider.value, "0.75");
  model.set("values", { a: "0.75" });
  confirm(model);
  model.set("values", { a: "0.1" });
  assert.equal(slider.value, "0.1");
});

test("a width and a height have aspect ratios and a swap", () => {
  const size = { min: 16, max: 4096, step: 8 };
  const { model, el } = showForm([
    field("5.width", "int", "640", size),
    field("5.height", "int", "640", { ...size, width: "5.width" }),
    field("6.width", "int", "640", size),
  ]);
  const tools = find(el, ".cd-size");
  const ratio = find<HTMLSelectElement>(tools, "select");
  assert.equal(ratio.selectedOptions[0]?.textContent, "1:1");
  ratio.selectedIndex = [...ratio.options].findIndex((each) => each.textContent === "16:9");
  ratio.dispatchEvent(new Event("change"));
  const shown = () => [...el.querySelectorAll<HTMLInputElement>("input")].map((each) => each.value);
  assert.deepEqual(shown(), ["856", "480", "640"]);
  find<HTMLButtonElement>(tools, "button").click();
  assert.deepEqual(shown(), ["480", "856", "640"]);
  assert.deepEqual(Object.assign({}, ...model.sent.map(({ values }) => values)), {
    "5.width": "480",
    "5.height": "856",
  });
});

test("rows of a group are moved, removed and added, and the focus goes with them", () => {
  const row = (place: number) => ({
    group: "7.loras",
    place,
    index: place,
    title: `LoRA #${place + 1}`,
  });
  const rowFields = (count: number) => [
    ...[...Array(count).keys()].map((place) =>
      field(`7.loras.${place}.name`, "text", "a", { row: row(place) }),
    ),
    field("7.loras", "group", undefined, {
      rows: Array(count).fill({ name: "a" }),
      least: 1,
      most: 3,
      can_grow: count < 3,
      hint: `${count} rows`,
    }),
  ];
  const { model, el } = showForm(rowFields(2));
  document.body.append(el);
  const boxes = () => [...el.querySelectorAll<HTMLElement>(".cd-group-row")];
  const button = (place: number, label: string) =>
    find<HTMLButtonElement>(boxes()[place] as HTMLElement, `[aria-label$="${label}"]`);
  assert.deepEqual(
    boxes().map((box) => box.getAttribute("aria-label")),
    ["LoRA #1", "LoRA #2"],
  );
  assert.equal(button(0, "move up").disabled, true);
  assert.equal(button(1, "move down").disabled, true);
  type(inputIn(boxes()[1] as HTMLElement), "b");
  button(1, "move up").click();
  const { kind, key, order, typed } = model.sent.at(-1) as Record<string, unknown>;
  assert.deepEqual([kind, key, order], ["arrange", "7.loras", [1, 0]]);
  assert.deepEqual(
    (typed as { values: object }[]).map(({ values }) => values),
    [{ "7.loras.1.name": "b" }],
  );
  model.set("fields", rowFields(2));
  assert.equal(document.activeElement, button(0, "move down"), "the first one cannot move up");
  button(0, "move down").click();
  assert.deepEqual(model.sent.at(-1)?.order, [1, 0]);
  model.set("fields", rowFields(2));
  assert.equal(document.activeElement, button(1, "move up"));
  find<HTMLButtonElement>(el, '[aria-label="7.loras: add a row"]').click();
  assert.deepEqual(model.sent.at(-1)?.order, [0, 1, null]);
  model.set("fields", rowFields(3));
  assert.equal(find<HTMLButtonElement>(el, '[aria-label$="add a row"]').disabled, true);
  button(2, "remove").click();
  assert.deepEqual(model.sent.at(-1)?.order, [0, 1]);
  model.set("fields", rowFields(2));
  assert.equal(document.activeElement, button(1, "remove"));
  model.set("fields", rowFields(1));
  assert.equal(button(0, "remove").disabled, true);
});

test("the width of a height may be an input of another node", () => {
  const of = (key: string, label: string) => field(key, "int", "640", { label });
  const { model, el } = showForm([
    of("1.value", "Width"),
    field("2.value", "int", "640", { label: "Height", width: "1.value" }),
    of("3.value", "Line height"),
  ]);
  assert.equal(el.querySelectorAll(".cd-size").length, 1);
  const tools = find(el, ".cd-size");
  assert.equal(find(tools, "select").getAttribute("aria-label"), "aspect ratio");
  const [width] = el.querySelectorAll<HTMLInputElement>(".cd-control input");
  assert.ok(width);
  type(width, "320");
  find<HTMLButtonElement>(tools, "button").click();
  assert.deepEqual(Object.assign({}, ...model.sent.map(({ values }) => values)), {
    "1.value": "640",
    "2.value": "320",
  });
});

test("a text begins at the right if its first letters do", () => {
  const { el } = showForm([
    field("a", "multiline", ""),
    field("b", "text", ""),
    field("c", "int", ""),
  ]);
  const controls = [...el.querySelectorAll(".cd-control :is(textarea, input)")];
  assert.deepEqual(
    controls.map((control) => control.getAttribute("dir")),
    ["auto", "auto", null],
  );
});

test("changed values are counted, and all are taken back with one click", () => {
  const { model, el } = showForm([field("a", "text", "x"), field("b", "text", "y")]);
  const reset = find<HTMLButtonElement>(el, ".cd-form-head button");
  assert.equal(reset.disabled, true);
  const [a] = el.querySelectorAll<HTMLInputElement>(".cd-control input");
  assert.ok(a);
  type(a, "z");
  assert.match(find(el, ".cd-form-head").textContent ?? "", /1 changed/);
  model.set("others", [{ key: "3.x", value: "[1]" }]);
  assert.match(find(el, ".cd-form-head").textContent ?? "", /2 changed/);
  reset.click();
  assert.deepEqual(model.sent.at(-1), { kind: "reset" });
});

test("fields of one node are below its name, and labels stay whole for screen readers", () => {
  const section = { id: 0, title: "Sampler" };
  const { el } = showForm([
    field("3.steps", "int", "2", { section, parts: ["Sampler: ", "steps", ""] }),
    field("3.cfg", "float", "1", { section, parts: ["Sampler: ", "cfg", ""] }),
    field("4.text", "text", ""),
  ]);
  const group = find(el, "[role=group]");
  const heading = group.getAttribute("aria-labelledby");
  assert.equal(find(el, `#${heading}`).textContent, "Sampler");
  const labels = [...group.querySelectorAll("label")].map((each) => each.textContent);
  assert.deepEqual(labels, ["Sampler: steps", "Sampler: cfg"]);
  assert.equal(el.querySelectorAll(".cd-field").length, 3);
  assert.equal(group.querySelectorAll(".cd-field").length, 2);
});

test("of many inputs only those near the screen are made", () => {
  const fields = Array.from({ length: 700 }, (_, n) => field(`f${n}`, "text", "", { more: true }));
  const { model, el } = showForm(fields, { opened: true });
  const made = () => el.querySelectorAll(".cd-field").length;
  assert.equal(made(), 100);
  scrollEverywhere();
  assert.equal(made(), 200);
  type(find<HTMLInputElement>(el, "input[type=search]"), "f69");
  assert.equal(made(), 11);
  model.receive({ kind: "focus", key: "f555" });
  assert.equal(made(), 600);
  assert.equal(document.activeElement?.closest(".cd-field")?.textContent?.includes("f555"), true);
});

test("groups grow and shrink", () => {
  const group = field("g", "group", null, { can_grow: true, can_shrink: false });
  const { model, el } = showForm([group]);
  const [add, remove] = el.querySelectorAll<HTMLButtonElement>(".cd-group button");
  add?.click();
  assert.equal(remove?.disabled, true);
  assert.deepEqual(model.sent, [{ kind: "grow", key: "g", more: true }]);
});

test("inputs without a field are listed", () => {
  const { model, el } = showForm([]);
  const others = find(el, ".cd-unshown");
  assert.equal(others.hidden, true);
  model.set("others", [{ key: "3.x", value: "[1]" }]);
  assert.equal(others.textContent, "Also set: 3.x = [1]");
});

test("a file of the wrong kind is refused with a reason", () => {
  const { model, el } = showForm([field("1.image", "image", "", { options: ["a.png"] })]);
  const drop = (name: string) => {
    const event = new Event("drop", { bubbles: true, cancelable: true });
    const dataTransfer = { files: [new File([""], name)] };
    find(el, ".cd-picture").dispatchEvent(Object.assign(event, { dataTransfer }));
    return find(el, ".cd-problem").textContent;
  };
  assert.equal(drop("notes.txt"), "notes.txt is not a picture");
  assert.match(drop("mine.json") ?? "", /^mine.json is not a picture; to open it as a workflow, /);
  assert.deepEqual(model.sent, []);
});

test("names of files as ComfyUI writes them", () => {
  assert.equal(viewQuery("a.png", null), "filename=a.png&subfolder=&type=input");
  assert.equal(
    viewQuery("x/y/a b.png [output]", "gpu"),
    "filename=a+b.png&subfolder=x%2Fy&type=output&machine=gpu",
  );
});

test("no event listener remains after the form is closed", () => {
  const { model, end } = showForm([field("3.seed", "seed", "1"), field("a", "image", "")]);
  end();
  assert.equal(model.listenerCount, 0);
});

/** Drop a picture on the field of a form. */
function dropPicture(el: HTMLElement, name: string): void {
  const event = new Event("drop", { bubbles: true, cancelable: true });
  const dataTransfer = { files: [new File(["picture"], name, { type: "image/png" })] };
  find(el, ".cd-picture").dispatchEvent(Object.assign(event, { dataTransfer }));
}

const PHOTO = field("1.image", "image", "photo.png", { options: ["photo.png"] });

/** Return the messages of a kind that were sent, and forget all. */
function sentOf(model: FakeModel, wanted: string) {
  return model.takeSent().filter(({ kind }) => kind === wanted);
}

test("the kernel stores an uploaded picture, also under the name that the field has", async () => {
  const { model, el, end } = showForm([PHOTO]);
  const state = find(el, ".cd-picture [role=status]");
  const listeners = model.listenerCount;
  const drop = async (name: string) => {
    dropPicture(el, name);
    await until(() => model.sent.some(({ kind }) => kind === "piece"));
    assert.equal(state.textContent, `Sending ${name} …`);
    return sentOf(model, "piece")[0]?.id;
  };
  const stored = { kind: "stored", name: "photo.png" };
  model.receive({ ...stored, id: await drop("photo.png") });
  await until(() => model.sent.length > 0);
  const uploaded = { kind: "uploaded", form_number: 1, key: "1.image", name: "photo.png" };
  assert.deepEqual(model.takeSent(), [uploaded]);
  assert.equal(state.textContent, "");
  model.receive({ kind: "stored", id: await drop("b.png"), error: "disk full" });
  await until(() => state.textContent === "");
  assert.equal(find(el, ".cd-problem").textContent, "Not uploaded: disk full");
  assert.equal(model.listenerCount, listeners);

  // Only the last of several counts, and none after another value was entered.
  const early = await drop("early.png");
  const late = await drop("late.png");
  model.receive({ kind: "stored", id: early, name: "early.png" });
  await until(() => model.listenerCount === listeners + 2); // those of the later one
  assert.equal(state.textContent, "Sending late.png …");
  model.receive({ kind: "stored", id: late, name: "late.png" });
  await until(() => model.sent.length > 0);
  assert.deepEqual(model.takeSent(), [{ ...uploaded, name: "late.png" }]);
  const input = find<HTMLInputElement>(el, "[role=combobox]");
  const replaced = await drop("replaced.png");
  type(input, "typed.png");
  input.dispatchEvent(new Event("blur"));
  assert.equal(state.textContent, "");
  model.receive({ kind: "stored", id: replaced, name: "replaced.png" });
  await until(() => model.listenerCount === listeners);
  assert.deepEqual(sentOf(model, "uploaded"), []);
  end();
  assert.equal(model.listenerCount, 0);
});

test("the page uploads pictures itself; one that ends late does not replace a later one", async () => {
  answerRequests(() => ({ instance: "one" }));
  globalThis.XMLHttpRequest = FakeRequest as unknown as typeof XMLHttpRequest;
  const { model, el } = showForm([PHOTO], { server: { base: "/", instance: "one" } });
  const state = find(el, ".cd-picture [role=status]");
  for (const name of ["early.png", "photo.png"]) {
    const { length } = FakeRequest.made;
    dropPicture(el, name);
    await until(() => FakeRequest.made.length > length);
  }
  const [early, late] = FakeRequest.made.splice(0);
  late?.succeed({ name: "photo.png" });
  await until(() => model.sent.length > 0);
  assert.equal(state.textContent, "");
  early?.succeed({ name: "early.png" });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(
    sentOf(model, "uploaded").map(({ name }) => name),
    ["photo.png"],
  );
  assert.equal(state.textContent, "");
});

test("a file that is being uploaded when another workflow is chosen is not for its form", async () => {
  const { model, el } = showForm([PHOTO]);
  const listeners = model.listenerCount;
  const state = () => find(el, ".cd-picture [role=status]").textContent;
  for (const answer of [{ name: "late.png" }, { error: "disk full" }]) {
    for (const fields of [model.get("fields"), [PHOTO, field("b", "text", "")]]) {
      dropPicture(el, "late.png");
      await until(() => model.sent.some(({ kind }) => kind === "piece"));
      await new Promise((resolve) => setImmediate(resolve));
      const [piece] = sentOf(model, "piece");
      assert.equal(state(), "Sending late.png …");
      model.set("fields", fields);
      model.set("form_number", Number(model.get("form_number")) + 1);
      assert.equal(state(), "");
      model.receive({ kind: "stored", id: piece?.id, ...answer });
      await until(() => model.listenerCount === listeners);
      assert.deepEqual(sentOf(model, "uploaded"), []);
      assert.equal(find(el, ".cd-image .cd-problem").textContent, "");
      assert.equal(state(), "");
    }
  }
});

const REMOTE = "class_type=Talk&input=voice";
const VOICES = {
  options: [
    { value: "v1", label: "Ada", note: "calm" },
    { value: 7, label: "7", note: "" },
  ],
  left_out: 0,
  refresh: null,
};

/** Show a field with a remote list to a page that reaches its server; `answer` is the list. */
function showRemote(answer: () => unknown, more: object = {}) {
  const requests = answerRequests((url) =>
    url.includes("node-options") ? answer() : { instance: "remote" },
  );
  const server = { base: "/", instance: "remote" };
  const fields = [field("3.voice", "combo", "old", { remote: REMOTE, ...more })];
  const shown = showForm(fields, { server, machine: "studio" });
  const lists = () => requests.filter(({ url }) => url.includes("node-options"));
  return { ...shown, input: inputIn(shown.el), lists };
}

test("a remote list is loaded when it is opened, and takes any text before and after", async () => {
  let reply: object = VOICES;
  const { model, el, input, lists } = showRemote(() => reply);
  type(input, "typed");
  press(input, "Enter");
  assert.deepEqual(model.sent.at(-1)?.values, { "3.voice": "typed" }, "without the list");
  input.click();
  await until(() => el.querySelectorAll("[role=option]").length === 2);
  assert.deepEqual(
    lists().map(({ url }) => url),
    [`/comfyui-deploy/node-options?${REMOTE}&machine=studio`],
  );
  assert.equal(input.value, "typed", "a value that the list does not have stays");
  el.querySelector<HTMLElement>("[role=option]")?.click();
  assert.deepEqual(model.sent.at(-1)?.values, { "3.voice": "v1" });
  assert.equal(input.value, "Ada");
  assert.equal(lists().length, 1, "it is kept");
  reply = { ...VOICES, options: [], left_out: 3 };
  find(el, "[aria-label='3.voice: load the list again']").click();
  await until(() => find(el, ".cd-remote").textContent?.includes("3 more cannot be shown"));
  assert.equal(input.value, "v1");
});

test("a remote list that fails says so once, and is tried again", async () => {
  let fails = true;
  const { el, input, lists } = showRemote(() => {
    if (fails) throw new Error("it answered 404 to GET /voices.");
    return VOICES;
  });
  input.click();
  await until(() => find(el, ".cd-remote").textContent?.includes("404"));
  const said = "it answered 404 to GET /voices. Any value can be typed.";
  assert.equal(find(el, ".cd-remote").textContent, said);
  assert.equal(find(el, "[role=listbox]").textContent, said, "also in the open list");
  fails = false;
  press(input, "Escape");
  input.click();
  await until(() => el.querySelectorAll("[role=option]").length === 2);
  assert.equal(find(el, ".cd-remote").textContent, "");
  assert.equal(lists().length, 2);
});

test("a page without the server asks the kernel for a remote list", async () => {
  answerRequests(() => ({ instance: "another" }));
  const pictures = [field("3.image", "image", "", { remote: REMOTE, options: ["own.png"] })];
  const { model, el } = showForm(pictures);
  find(el, "[role=combobox]").click();
  await until(() => model.sent.some(({ kind }) => kind === "options"));
  const { id, key } = model.sent.find(({ kind }) => kind === "options") ?? {};
  assert.equal(key, "3.image");
  assert.equal(find(el, ".cd-remote").textContent, "Loading the list …");
  model.receive({ kind: "options", id, reply: VOICES });
  await until(() => el.querySelectorAll("[role=option]").length === 3);
  find(el, "[aria-label='3.image: load the list again']").click();
  await until(() => model.sent.filter(({ kind }) => kind === "options").length === 2);
  const again = model.sent.filter(({ kind }) => kind === "options")[1];
  model.receive({ kind: "options", id: again?.id, error: "ComfyUI does not answer" });
  await until(() => find(el, ".cd-remote").textContent?.startsWith("ComfyUI does not answer."));
  assert.equal(el.querySelectorAll("[role=option]").length, 3, "the list from before");
});
