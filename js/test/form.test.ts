import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { viewQuery } from "../src/form/media_control.ts";
import { Straight } from "../src/transport.ts";
import { FakeRequest, find, press, scrollEverywhere, type, until } from "./page.ts";
import type { Answer } from "./recorded.ts";
import { field, settled, showForm } from "./shown_form.ts";

function inputIn(el: HTMLElement): HTMLInputElement {
  return find<HTMLInputElement>(el, ".cd-control input");
}

test("what is typed is the value, and can be taken back", async (t) => {
  const fields = [field("3.steps", "int", "20", { min: 1, max: 100 })];
  const { el, state } = await showForm(t, fields);
  const input = inputIn(el);
  assert.deepEqual([input.type, input.min, input.max, input.step], ["number", "1", "100", "any"]);
  const undo = find<HTMLButtonElement>(el, ".cd-back");
  assert.equal(undo.disabled, true);
  type(input, "30");
  assert.deepEqual(state.changed.value, { "3.steps": "30" });
  assert.equal(find(el, ".cd-field").classList.contains("cd-changed"), true);
  undo.click();
  assert.equal(input.value, "20");
  assert.deepEqual(state.changed.value, {});
  assert.equal(undo.disabled, true);
});

test("a form that arrives does not replace what was typed since it was asked for", async (t) => {
  const { el, state, remake } = await showForm(t, [
    field("a", "text", "1"),
    field("b", "text", "1"),
  ]);
  const inputs = () => [...el.querySelectorAll<HTMLInputElement>(".cd-control input")];
  const values = () => inputs().map((input) => input.value);
  const made = remake();
  type(inputs()[0] as HTMLInputElement, "two");
  await made;
  assert.deepEqual(values(), ["two", "1"]);
  await state.use({ b: "three" }, []);
  assert.deepEqual(values(), ["1", "three"]);
});

test("of a large form only the row of the field that is typed into is changed", async (t) => {
  const fields = Array.from({ length: 3000 }, (_, n) => field(`f${n}`, "text", ""));
  const { el, state, focus } = await showForm(t, fields);
  focus("f2999");
  const inputs = el.querySelectorAll<HTMLInputElement>(".cd-control input");
  assert.equal(inputs.length, 3000);
  const changed = new Set<string>();
  const observer = new MutationObserver((records) => {
    for (const { target } of records) {
      const element = target instanceof Element ? target : target.parentElement;
      changed.add(
        element?.closest(".cd-field, .cd-form-head")?.querySelector("label")?.title ?? "",
      );
    }
  });
  observer.observe(el, { attributes: true, childList: true, subtree: true, characterData: true });
  type(inputs[1500] as HTMLInputElement, "a");
  await settled();
  assert.deepEqual([...changed].sort(), ["", "f1500 (f1500)"], "and the number of changes");
  changed.clear();
  state.change("f7", "b");
  await settled();
  assert.equal(inputs[7]?.value, "b");
  assert.deepEqual([...changed].sort(), ["", "f7 (f7)"]);
  observer.disconnect();
});

test("a seed is kept or drawn", async (t) => {
  const fields = [field("3.seed", "seed", "18446744073709551615")];
  const { el, state } = await showForm(t, fields, { more: { unlocked: ["3.seed"] } });
  const [draw, lock] = el.querySelectorAll<HTMLButtonElement>(".cd-control .cd-line button");
  assert.equal(inputIn(el).value, "18446744073709551615", "a number would lose its last digits");
  draw?.click();
  assert.match(inputIn(el).value, /^\d+$/);
  assert.deepEqual(state.changed.value, { "3.seed": inputIn(el).value });
  assert.match(el.textContent ?? "", /new for each run/);
  lock?.click();
  assert.equal(lock?.getAttribute("aria-pressed"), "true");
  assert.match(el.textContent ?? "", /kept/);
  assert.deepEqual(state.locked.value, ["3.seed"]);
  lock?.click();
  assert.deepEqual(state.locked.value, []);
});

test("choices keep their type; a long list can be searched", async (t) => {
  const { el, state } = await showForm(t, [field("a", "combo", 2, { options: [1, 2] })]);
  const select = find<HTMLSelectElement>(el, "select");
  assert.equal(select.selectedIndex, 1);
  select.selectedIndex = 0;
  select.dispatchEvent(new Event("change"));
  assert.deepEqual(state.changed.value, { a: 1 });
  const many = Array.from({ length: 11 }, (_, number) => `model ${number}`);
  const long = await showForm(t, [field("a", "combo", "model 1", { options: many })]);
  assert.ok(long.el.querySelector(".cd-combo-box"));
});

test("models are chosen by folder, with their sizes and pictures", async (t) => {
  const names = ["z.safetensors", "sdxl/a.safetensors", "flux/b.safetensors", "sdxl/<b>.ckpt"];
  const entry = (name: string, size: number | null, preview: boolean) => ({ name, size, preview });
  const pictures: unknown[] = [];
  const { el, state, server } = await showForm(
    t,
    [field("1.lora", "combo", "z.safetensors", { options: names, models: "loras" })],
    {
      machine: "two",
      answers: {
        models: () => [entry("sdxl/a.safetensors", 2048, true), entry("z.safetensors", 5, false)],
        "models/preview": ({ query }) => {
          pictures.push(query);
          return new Blob(["x"]);
        },
      },
    },
  );
  const input = find<HTMLInputElement>(el, "[role=combobox]");
  input.click();
  await settled();
  assert.deepEqual(server.take("models")[0]?.query, { folder: "loras", machine: "two" });
  const lines = () => [...el.querySelectorAll("[role=listbox] li")].map((row) => row.textContent);
  const all = [
    "z.safetensors5 B",
    "flux",
    "b.safetensors",
    "sdxl",
    "a.safetensors2.0 KiB",
    "<b>.ckpt",
  ];
  assert.deepEqual(lines(), all);
  scrollEverywhere();
  await settled();
  const filename = "sdxl/a.safetensors";
  assert.deepEqual(pictures, [{ folder: "loras", filename, machine: "two", thumbnail: 96 }]);
  assert.equal(el.querySelectorAll(".cd-thumb img").length, 1);
  press(input, "ArrowDown"); // headings are no choices
  press(input, "Enter");
  assert.equal(state.values.value["1.lora"], "flux/b.safetensors");
  assert.equal(input.value, "flux/b.safetensors");
  type(input, "sdxl a.");
  assert.deepEqual(lines(), ["sdxl", "a.safetensors2.0 KiB"]);
  press(input, "Enter");
  assert.equal(state.values.value["1.lora"], filename);
});

test("a model that came after the form is in the list when that is opened", async (t) => {
  const lora = (...options: string[]) =>
    field("1.lora", "combo", "a", { options, models: "loras" });
  const entries = ["a", "new", "not offered"].map((name) => ({ name, size: null, preview: false }));
  const { el, state, server, now } = await showForm(t, [lora("a", "b")], {
    answers: { models: () => entries },
  });
  const input = find<HTMLInputElement>(el, "[role=combobox]");
  state.change("1.lora", "b");
  server.take("workflow/form");
  now.fields = [lora("a", "new")];
  input.click();
  await settled();
  const forms = () => server.take("workflow/form").map(({ body }) => body);
  const inputs = { "1.lora": "b" };
  assert.deepEqual(forms(), [
    { workflow_id: "w", machine: null, inputs, brief: true, fresh: true },
  ]);
  const lines = () => [...el.querySelectorAll("[role=option]")].map((row) => row.textContent);
  assert.deepEqual(lines(), ["b", "a", "new"], "the present value stays");
  assert.ok(input.getAttribute("aria-expanded") === "true");
  input.click();
  input.click();
  await settled();
  assert.deepEqual(forms(), [], "once for each model that is new");
});

test("choices can be searched from eight on", async (t) => {
  const first = (count: number) => Array.from({ length: count }, (_, n) => `model ${n}`);
  const form = (options: string[]) => showForm(t, [field("a", "combo", "model 1", { options })]);
  assert.ok((await form(first(7))).el.querySelector("select"));
  const { el, state } = await form(first(8));
  assert.equal(el.querySelector("select"), null);
  const input = find<HTMLInputElement>(el, "input[role=combobox]");
  assert.equal(input.value, "model 1");
  type(input, "7");
  press(input, "Enter");
  assert.equal(input.value, "model 7");
  assert.deepEqual(state.changed.value, { a: "model 7" });
});

test("the placeholder of an empty number is its range and unit", async (t) => {
  const range = { min: 16, max: 4096, range: "16 to 4096 pixels" };
  const { el } = await showForm(t, [
    field("5.width", "int", "64", { ...range, hint: range.range }),
  ]);
  const input = inputIn(el);
  assert.equal(input.placeholder, "16 to 4096 pixels");
  const hint = document.getElementById(input.getAttribute("aria-describedby") ?? "");
  assert.equal(hint?.textContent, "16 to 4096 pixels");
  assert.equal(hint?.hidden, false);
});

test("a value that is not a choice is shown nevertheless", async (t) => {
  const { el } = await showForm(t, [field("a", "combo", "gone", { options: ["here"] })]);
  const texts = [...find<HTMLSelectElement>(el, "select").children].map((each) => each.textContent);
  assert.deepEqual(texts, ["gone", "here"]);
});

test("an input that needs a value is marked, and nothing is chosen for it", async (t) => {
  const required = { required: true };
  const { el } = await showForm(t, [
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

test("a colour is picked or typed", async (t) => {
  const { el, state } = await showForm(t, [field("a", "color", "#102030")]);
  const [picker, text] = el.querySelectorAll<HTMLInputElement>(".cd-control input");
  assert.ok(picker && text);
  type(text, "#zz");
  assert.equal(picker.value, "#102030");
  assert.deepEqual(state.changed.value, { a: "#zz" });
  type(text, "#aabbcc");
  assert.equal(picker.value, "#aabbcc");
  type(picker, "#000000");
  assert.equal(text.value, "#000000");
  assert.deepEqual(state.changed.value, { a: "#000000" });
});

test("a problem is shown at its field, and goes away", async (t) => {
  const { el, state } = await showForm(t, [field("a", "int", "1")]);
  state.problems.value = { a: "must be at least 1" };
  const problem = find(el, ".cd-problem");
  assert.equal(problem.textContent, "must be at least 1");
  assert.equal(inputIn(el).getAttribute("aria-invalid"), "true");
  assert.ok(inputIn(el).getAttribute("aria-describedby")?.includes(problem.id));
  type(inputIn(el), "2");
  assert.equal(problem.hidden, true);
  assert.equal(inputIn(el).hasAttribute("aria-invalid"), false);
});

test("more inputs are made when they are opened, and the focus can go to one", async (t) => {
  const more = Array.from({ length: 9 }, (_, number) =>
    field(`f${number}`, "text", "", { more: true }),
  );
  const { el, focus } = await showForm(t, [field("a", "text", ""), ...more]);
  assert.equal(el.querySelectorAll(".cd-field").length, 1);
  focus("f3");
  assert.equal(el.querySelectorAll(".cd-field").length, 10);
  assert.equal(document.activeElement, el.querySelectorAll(".cd-control input")[4]);
  type(find<HTMLInputElement>(el, ".cd-search input"), "f3");
  const shown = [...el.querySelectorAll<HTMLElement>(".cd-others .cd-field")].filter(
    (row) => !row.hidden,
  );
  assert.equal(shown.length, 1);
});

test("the field with the focus keeps it when the fields change", async (t) => {
  const fields = [field("a", "text", ""), field("b", "text", "")];
  const { el, remake } = await showForm(t, fields);
  el.querySelectorAll<HTMLInputElement>(".cd-control input")[1]?.focus();
  await remake([field("new", "text", ""), ...fields]);
  assert.equal(document.activeElement, el.querySelectorAll(".cd-control input")[2]);
  const many = Array.from({ length: 200 }, (_, n) => field(`f${n}`, "text", ""));
  await remake([...many, ...fields]);
  assert.equal(document.activeElement, el.querySelectorAll(".cd-control input")[201], "far away");
});

test("a small range has a slider, which never shows the error of binary fractions", async (t) => {
  const range = { min: 0, max: 1, step: 0.01, slider: true, range: "0 to 1" };
  const { el, state } = await showForm(t, [field("a", "float", "0.5", range)]);
  const number = find<HTMLInputElement>(el, "input[type=number]");
  const slider = find<HTMLInputElement>(el, "input[type=range]");
  assert.equal(number.placeholder, "0 to 1");
  type(slider, "0.30000000000000004");
  assert.equal(number.value, "0.3");
  assert.deepEqual(state.changed.value, { a: "0.3" });
  type(number, "0.75");
  assert.equal(slider.value, "0.75");
  state.change("a", "0.1");
  assert.equal(slider.value, "0.1");
});

test("a width and a height have aspect ratios and a swap", async (t) => {
  const size = { min: 16, max: 4096, step: 8 };
  const { el, state } = await showForm(t, [
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
  assert.deepEqual(state.changed.value, { "5.width": "480", "5.height": "856" });
  const [width, height] = el.querySelectorAll<HTMLInputElement>("input");
  for (const side of [width, height]) type(side as HTMLInputElement, "512");
  assert.equal(ratio.selectedOptions[0]?.textContent, "1:1", "the tools follow what is typed");
});

test("rows of a group are moved, removed and added, and the focus goes with them", async (t) => {
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
  const { el, now, server, remake } = await showForm(t, rowFields(2));
  /** Click a button, after which the form has so many rows; return the rows that were asked for. */
  const click = async (button: HTMLElement, count: number) => {
    now.fields = rowFields(count);
    server.take("workflow/form");
    button.click();
    await settled();
    const [asked] = server.take("workflow/form");
    const inputs = Reflect.get(Object(asked?.body), "inputs");
    return Reflect.get(inputs, "7.loras").map(({ name }: { name?: string }) => name);
  };
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
  assert.deepEqual(await click(button(1, "move up"), 2), ["b", "a"]);
  const up = button(0, "move up");
  assert.equal(document.activeElement, up, "the next key press does not move it back");
  assert.equal(up.getAttribute("aria-disabled"), "true");
  up.click();
  assert.deepEqual(server.take("workflow/form"), []);
  button(0, "move down").focus();
  assert.equal(up.disabled, true);
  assert.deepEqual(await click(button(0, "move down"), 2), ["a", "a"], "as the server says");
  assert.equal(document.activeElement, button(1, "move down"));
  const add = () => find<HTMLButtonElement>(el, '[aria-label="7.loras: add a row"]');
  assert.deepEqual(await click(add(), 3), ["a", "a", undefined]);
  assert.equal(add().disabled, true);
  assert.deepEqual(await click(button(2, "remove"), 2), ["a", "a"]);
  assert.equal(document.activeElement, button(1, "remove"));
  await click(add(), 3);
  const first = button(0, "move down");
  first.focus();
  first.click();
  assert.equal(document.activeElement, first);
  assert.deepEqual(await click(first, 3), ["a", "a", "a"]);
  assert.equal(document.activeElement, button(2, "move down"), "two places further");
  await remake(rowFields(1));
  assert.equal(button(0, "remove").disabled, true);
});

test("the width of a height may be an input of another node", async (t) => {
  const of = (key: string, label: string) => field(key, "int", "640", { label });
  const { el, state } = await showForm(t, [
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
  const { "1.value": wide, "2.value": high } = state.values.value;
  assert.deepEqual([wide, high], ["640", "320"]);
});

test("a text begins at the right if its first letters do", async (t) => {
  const { el } = await showForm(t, [
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

test("changed values are counted, and all are taken back with one click", async (t) => {
  const { el, remake } = await showForm(t, [field("a", "text", "x"), field("b", "text", "y")]);
  const reset = find<HTMLButtonElement>(el, ".cd-form-head button");
  assert.equal(reset.disabled, true);
  const [a] = el.querySelectorAll<HTMLInputElement>(".cd-control input");
  assert.ok(a);
  type(a, "z");
  assert.match(find(el, ".cd-form-head").textContent ?? "", /1 changed/);
  await remake(undefined, { others: { "3.x": "[1]" } });
  assert.match(find(el, ".cd-form-head").textContent ?? "", /2 changed/);
  reset.click();
  await settled();
  assert.equal(inputIn(el.querySelectorAll<HTMLElement>(".cd-field")[0] as HTMLElement).value, "x");
});

test("fields of one node are below its name, and labels stay whole for screen readers", async (t) => {
  const section = { id: 0, title: "Sampler" };
  const { el } = await showForm(t, [
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

test("of many inputs only those near the screen are made", async (t) => {
  const fields = Array.from({ length: 700 }, (_, n) => field(`f${n}`, "text", "", { more: true }));
  const { el, focus } = await showForm(t, fields);
  const more = find<HTMLDetailsElement>(el, "details");
  more.open = true;
  await settled();
  const made = () => el.querySelectorAll(".cd-field").length;
  assert.equal(made(), 100);
  scrollEverywhere();
  assert.equal(made(), 200);
  type(find<HTMLInputElement>(el, "input[type=search]"), "f69");
  assert.equal(made(), 11);
  focus("f555");
  assert.equal(made(), 600);
  assert.equal(document.activeElement?.closest(".cd-field")?.textContent?.includes("f555"), true);
});

test("groups grow and shrink", async (t) => {
  const next = { "g.1": "x" };
  const group = field("g", "group", null, { can_grow: true, can_shrink: false, next });
  const { el, server } = await showForm(t, [group]);
  const [add, remove] = el.querySelectorAll<HTMLButtonElement>(".cd-group button");
  assert.equal(remove?.disabled, true);
  add?.click();
  assert.deepEqual(Reflect.get(Object(server.asked.at(-1)?.body), "inputs"), next);
});

test("inputs without a field are listed", async (t) => {
  const { el, remake } = await showForm(t, []);
  const others = find(el, ".cd-unshown");
  assert.equal(others.hidden, true);
  await remake(undefined, { others: { "3.x": "[1]" } });
  assert.equal(others.textContent, "Also set: 3.x = [1]");
});

test("a file of the wrong kind is refused with a reason", async (t) => {
  const { el, server } = await showForm(t, [field("1.image", "image", "", { options: ["a.png"] })]);
  const drop = (name: string) => {
    const event = new Event("drop", { bubbles: true, cancelable: true });
    const dataTransfer = { files: [new File([""], name)] };
    find(el, ".cd-picture").dispatchEvent(Object.assign(event, { dataTransfer }));
    return find(el, ".cd-problem").textContent;
  };
  assert.equal(drop("notes.txt"), "notes.txt is not a picture");
  assert.match(drop("mine.json") ?? "", /^mine.json is not a picture; to open it as a workflow, /);
  assert.deepEqual(server.take("upload-file"), []);
});

test("names of files as ComfyUI writes them", () => {
  assert.equal(viewQuery("a.png", null), "filename=a.png&subfolder=&type=input");
  assert.equal(
    viewQuery("x/y/a b.png [output]", "gpu"),
    "filename=a+b.png&subfolder=x%2Fy&type=output&machine=gpu",
  );
});

test("a form that is closed does not change any more", async (t) => {
  const { el, state, end, remake } = await showForm(t, [field("3.seed", "seed", "1")]);
  const before = el.innerHTML;
  end();
  state.change("3.seed", "2");
  state.lock("3.seed", false);
  await remake([]);
  assert.equal(el.innerHTML, before);
  assert.equal(inputIn(el).value, "1");
});

/** Drop a picture on the field of a form. */
function dropPicture(el: HTMLElement, name: string): void {
  const event = new Event("drop", { bubbles: true, cancelable: true });
  const dataTransfer = { files: [new File(["picture"], name, { type: "image/png" })] };
  find(el, ".cd-picture").dispatchEvent(Object.assign(event, { dataTransfer }));
}

const PHOTO = field("1.image", "image", "photo.png", { options: ["photo.png"] });

/** Show a form whose server stores files when the test says so: `stored[place]` are the uploads. */
async function showUploads(t: TestContext, fields = [PHOTO]) {
  type Stored = { name: string; resolve: (name: string) => void; fail: (text: string) => void };
  const stored: Stored[] = [];
  const store: Answer = ({ body }) =>
    new Promise((resolve, reject) => {
      stored.push({
        name: (body as File).name,
        resolve: (name) => resolve({ name }),
        fail: (text) => reject(new Error(text)),
      });
    });
  const view = () => new Blob(["x"], { type: "image/png" });
  const shown = await showForm(t, fields, {
    answers: { "upload-file": store, view },
    machine: "studio",
  });
  const told = () => find(shown.el, ".cd-picture [role=status]").textContent;
  const problem = () => find(shown.el, ".cd-image .cd-problem").textContent;
  const value = () => shown.state.values.value["1.image"];
  const drop = (name: string) => {
    dropPicture(shown.el, name);
    assert.equal(told(), `Sending ${name} …`);
    const sent = stored.at(-1);
    assert.equal(sent?.name, name);
    return sent as Stored;
  };
  return { ...shown, told, problem, value, drop };
}

test("a picture is uploaded, also under the name that the field has", async (t) => {
  const { el, server, told, problem, value, drop } = await showUploads(t);
  await settled();
  server.take("view");
  drop("photo.png").resolve("photo.png");
  await settled();
  const [sent] = server.take("upload-file");
  assert.deepEqual(sent?.query, { machine: "studio" });
  const fields = { type: "input", subfolder: "", overwrite: "false" };
  assert.deepEqual(Reflect.get(Object(sent?.body), "fields"), fields);
  assert.deepEqual([value(), told()], ["photo.png", ""]);
  drop("b.png").fail("disk full");
  await settled();
  assert.deepEqual([value(), told(), problem()], ["photo.png", "", "Not uploaded: disk full"]);
  drop("c.png");
  assert.equal(problem(), "");

  // Only the last of several counts, and none after another value was entered.
  const early = drop("early.png");
  const late = drop("late.png");
  early.resolve("early.png");
  await settled();
  assert.equal(told(), "Sending late.png …");
  late.resolve("late.png");
  await settled();
  assert.deepEqual([value(), told()], ["late.png", ""]);
  const input = find<HTMLInputElement>(el, "[role=combobox]");
  assert.equal(input.value, "late.png");
  const replaced = drop("replaced.png");
  type(input, "typed.png");
  input.dispatchEvent(new Event("blur"));
  assert.equal(told(), "");
  replaced.resolve("replaced.png");
  await settled();
  assert.equal(value(), "typed.png");
  input.click();
  const options = [...el.querySelectorAll("[role=option]")].map((each) => each.textContent);
  assert.deepEqual(options, ["photo.png", "late.png"], "what was uploaded can be chosen again");
});

test("a picture that was missing is shown once it is uploaded under its name", async (t) => {
  let isThere = false;
  const view: Answer = () =>
    isThere ? new Blob(["x"], { type: "image/png" }) : { status: 404, code: "x", message: "gone" };
  const answers = { view, "upload-file": () => ({ name: "photo.png" }) };
  const { el } = await showForm(t, [PHOTO], { answers });
  await settled();
  const picture = find<HTMLImageElement>(el, ".cd-frame img");
  assert.equal(find(el, ".cd-problem").textContent, "gone");
  assert.equal(picture.hasAttribute("src"), false);
  isThere = true;
  dropPicture(el, "photo.png");
  await settled();
  assert.match(picture.src, /^blob:/);
  assert.equal(find(el, ".cd-problem").textContent, "");
});

test("a picture that is there can be painted on", async (t) => {
  const { el, painted, state } = await showUploads(t);
  const paint = find<HTMLButtonElement>(el, "[aria-label='1.image: paint a mask, or crop it']");
  assert.equal(paint.hidden, true, "it is not loaded yet");
  find(el, ".cd-frame img").dispatchEvent(new Event("load"));
  assert.equal(paint.hidden, false);
  paint.click();
  assert.deepEqual(painted, [["1.image", "photo.png"]]);
  state.change("1.image", "other.png");
  assert.equal(paint.hidden, true);
});

test("the page uploads pictures itself, and gives one up for a later one", async (t) => {
  globalThis.XMLHttpRequest = FakeRequest as unknown as typeof XMLHttpRequest;
  FakeRequest.made = [];
  const { el, state } = await showForm(t, [PHOTO], { transport: new Straight("/") });
  const told = () => find(el, ".cd-picture [role=status]").textContent;
  dropPicture(el, "early.png");
  dropPicture(el, "photo.png");
  const [early, late] = FakeRequest.made;
  assert.equal(early?.isAborted, true);
  assert.equal(late?.url, "/comfyui-deploy/upload-file");
  late?.upload.onprogress({ loaded: 1, total: 3 });
  assert.equal(told(), "Sending photo.png: 33 %");
  late?.upload.onload();
  assert.equal(told(), "Sending photo.png: storing …");
  late?.succeed({ name: "stored.png" });
  await settled();
  assert.deepEqual([state.values.value["1.image"], told()], ["stored.png", ""]);
});

test("a file that is being uploaded when another workflow is chosen is not for its form", async (t) => {
  const { state, now, told, problem, drop } = await showUploads(t);
  for (const fields of [[PHOTO], [PHOTO, field("b", "text", "")]]) {
    for (const end of ["resolve", "fail"] as const) {
      const upload = drop("late.png");
      now.fields = fields;
      const opened = state.open({ workflow_id: "other" });
      assert.equal(told(), "");
      await opened;
      upload[end]("late.png");
      await settled();
      assert.deepEqual([told(), problem(), state.values.value["1.image"]], ["", "", "photo.png"]);
      assert.deepEqual(state.changed.value, {});
    }
  }
});

test("an upload goes on, and is shown, while a value changes which fields there are", async (t) => {
  const { el, remake, told, value, drop } = await showUploads(t);
  const upload = drop("new.png");
  await remake([PHOTO, field("b", "text", "")]);
  assert.equal(told(), "Sending new.png …");
  upload.resolve("new.png");
  await settled();
  assert.deepEqual([told(), value()], ["", "new.png"]);
  assert.equal(find<HTMLInputElement>(el, "[role=combobox]").value, "new.png");
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

/** Show a field with a remote list; `answer` is the list. */
async function showRemote(t: TestContext, answer: () => unknown) {
  const fields = [field("3.voice", "combo", "old", { remote: REMOTE })];
  const answers = { "node-options": answer };
  const shown = await showForm(t, fields, { answers, machine: "studio" });
  const lists = () => shown.server.asked.filter(({ path }) => path === "node-options");
  return { ...shown, input: inputIn(shown.el), lists };
}

test("a remote list is loaded when it is opened, and takes any text before and after", async (t) => {
  let reply: object = VOICES;
  const { state, el, input, lists } = await showRemote(t, () => reply);
  type(input, "typed");
  press(input, "Enter");
  assert.deepEqual(state.changed.value, { "3.voice": "typed" }, "without the list");
  input.click();
  assert.equal(find(el, ".cd-remote").textContent, "Loading the list …");
  await until(() => el.querySelectorAll("[role=option]").length === 2);
  assert.deepEqual(
    lists().map(({ query }) => query),
    [{ class_type: "Talk", input: "voice", machine: "studio" }],
  );
  assert.equal(input.value, "typed", "a value that the list does not have stays");
  el.querySelector<HTMLElement>("[role=option]")?.click();
  assert.deepEqual(state.changed.value, { "3.voice": "v1" });
  assert.equal(input.value, "Ada");
  assert.equal(lists().length, 1, "it is kept");
  reply = { ...VOICES, options: [], left_out: 3 };
  find(el, "[aria-label='3.voice: load the list again']").click();
  await until(
    () => find(el, ".cd-remote").textContent?.includes("3 more cannot be shown") ?? false,
  );
  assert.equal(input.value, "v1");
});

test("a remote list that fails says so once, and is tried again", async (t) => {
  let fails = true;
  const { el, input, lists } = await showRemote(t, () => {
    const message = "it answered 404 to GET /voices.";
    return fails ? { status: 502, code: "x", message } : VOICES;
  });
  input.click();
  await until(() => find(el, ".cd-remote").textContent?.includes("404") ?? false);
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

test("a picture has the files of its list and those of a route, which stay if it fails", async (t) => {
  let reply: object = VOICES;
  const pictures = [field("3.image", "image", "", { remote: REMOTE, options: ["own.png"] })];
  const { el } = await showForm(t, pictures, { answers: { "node-options": () => reply } });
  find(el, "[role=combobox]").click();
  await until(() => el.querySelectorAll("[role=option]").length === 3);
  reply = { status: 502, code: "x", message: "ComfyUI does not answer" };
  find(el, "[aria-label='3.image: load the list again']").click();
  await until(
    () => find(el, ".cd-remote").textContent?.startsWith("ComfyUI does not answer.") ?? false,
  );
  assert.equal(el.querySelectorAll("[role=option]").length, 3, "the list from before");
});

test("a label is broken after an underscore, not within a word", async (t) => {
  const { el } = await showForm(t, [field("a", "text", "", { label: "Save: file_name" })]);
  const label = find(el, "label");
  assert.equal(label.textContent, "Save: file_name");
  assert.equal(label.querySelector("wbr")?.previousSibling?.textContent, "Save: file_");
});
