import assert from "node:assert/strict";
import test from "node:test";
import { toJson } from "../src/exact.ts";
import { range } from "../src/form/vary.ts";
import { asCurl, asPython, wantedOf } from "../src/state/snippets.ts";
import { RouteError } from "../src/transport.ts";
import { find, named, press, until } from "./page.ts";
import type { Answer } from "./recorded.ts";
import { field, settled, showForm } from "./shown_form.ts";

const FIELDS = [
  field("1.steps", "int", "20", { least: "1", most: "100", keys: ["1.steps", "2.steps"] }),
  field("1.sampler", "combo", "euler", { options: ["euler", "ddim", 7] }),
  field("1.on", "bool", false),
  field("1.text", "multiline", "a\nb"),
  field("1.seed", "seed", "5"),
  field("1.photo", "image", "a.png", { options: ["a.png", "b.png"] }),
  field("1.tint", "color", "#000001"),
];

test("numbers from one to another are exact", () => {
  for (const [isWhole, from, to, step, count, values] of [
    [true, "4", "12", "4", "", "4 8 12"],
    [true, "1", "3", "", "", "1 2 3"],
    [true, "3", "1", "1", "", "3 2 1"],
    [false, "0", "0.3", "0.1", "", "0 0.1 0.2 0.3"],
    [false, "-0.5", ".5", "0.5", "", "-0.5 0 0.5"],
    [false, "0", "1", "", "5", "0 0.25 0.5 0.75 1"],
    [true, "1", "4", "9", "3", "1 3 4"],
    [
      true,
      "18446744073709551613",
      "18446744073709551615",
      "2",
      "",
      "18446744073709551613 18446744073709551615",
    ],
  ] as const) {
    assert.equal([range(isWhole, from, to, step, count)].flat().join(" "), values);
  }
  for (const [isWhole, from, to, step, count, problem] of [
    [true, "", "3", "", "", "from must be a whole number"],
    [true, "1", "2.5", "", "", "to must be a whole number"],
    [false, "1", "2", "x", "", "step must be a number"],
    [false, "1", "2", "0.0", "", "step must not be 0"],
    [false, "1", "2", "", "1", "count must be a whole number above 1"],
    [false, "1", "2", "", "1e9", "these are more than 10,000 values"],
    [true, "0", "1000000000", "1", "", "these are more than 10,000 values"],
  ] as const) {
    assert.equal(range(isWhole, from, to, step, count), problem);
  }
});

test("an input takes a value of each line, checked by the rules of its field", async (t) => {
  const { state } = await showForm(t, FIELDS);
  state.locked.value = [];
  state.vary("1.steps", "10\n\n 20 ");
  state.vary("1.sampler", "7\nddim");
  state.vary("1.on", "true\nfalse");
  state.vary("1.text", "a fox\na hare");
  state.vary("1.photo", "new.png");
  state.vary("1.tint", "#000001\n#0000ff");
  assert.deepEqual(
    state.axes.value.map(({ count }) => count),
    [2, 2, 2, 2, 1, 2],
  );
  const { "1.seed": _, ...inputs } = JSON.parse(toJson(state.inputs()));
  assert.deepEqual(inputs, {
    "1.steps": { $vary: [10, 20] },
    "2.steps": { $vary: [10, 20], $with: "1.steps" },
    "1.sampler": { $vary: [7, "ddim"] },
    "1.on": { $vary: [true, false] },
    "1.text": { $vary: ["a fox", "a hare"] },
    "1.photo": { $vary: ["new.png"] },
    "1.tint": { $vary: [1, 255] },
  });
  const once = JSON.parse(toJson(state.inputsOfAll(1)));
  assert.equal(typeof once["1.seed"], "number");
  const thrice = state.inputsOfAll(3) ?? {};
  assert.equal(Object.keys(thrice)[0], "1.seed", "the lines of a point do not depend on it");
  assert.equal(new Set(JSON.parse(toJson(thrice["1.seed"])).$vary).size, 3);

  state.vary("1.seed", "7");
  const workflow = { title: "W", source: { workflow_id: "w" }, warnings: [] };
  const wanted = wantedOf(state, workflow, null, 1);
  assert.deepEqual(wanted?.inputs["1.seed"], { $vary: [7] });
  assert.match(wanted ? asCurl(wanted, "http://a/") : "", /comfyui-deploy\/batch'/);
  state.vary("1.seed", null);

  state.vary("1.steps", "10\n\n101");
  state.vary("1.sampler", "ddim\nheun");
  state.vary("1.text", " \n");
  assert.equal(state.inputs(), null);
  assert.deepEqual(state.problems.value, {
    "1.steps": "line 3: must be at most 100",
    "1.sampler": "line 2: is not one of the choices",
    "1.text": "must have at least one value",
  });
  state.vary("1.steps", null);
  assert.equal(state.problems.value["1.steps"], undefined);
  state.reset();
  assert.deepEqual(state.axes.value, []);
});

test("a value that the server refuses is named with its line", async (t) => {
  const { state } = await showForm(t, FIELDS);
  state.vary("1.photo", "a.png\n\nb.png\ngone.png");
  state.vary("1.steps", "1\n2");
  const points = [2, 5].map((point) => ({
    point,
    field: "inputs.1.photo",
    problem: "inputs.Photo: there is no such file",
  }));
  const error = new RouteError(400, "wrong", "invalid", { points });
  assert.equal(state.mark(error), true);
  assert.deepEqual(state.problems.value, { "1.photo": "line 4: there is no such file" });
  assert.equal(state.mark(new RouteError(400, "wrong", "invalid", { points: [{}] })), false);
});

test("several values are written by keyboard, and those of lists added", async (t) => {
  const { el, state } = await showForm(t, FIELDS);
  const several = (key: string) => named(el, `${key}: several values, each of which runs`);
  several("1.steps").click();
  const row = find(el, ".cd-int");
  const text = find<HTMLTextAreaElement>(row, "textarea");
  assert.equal(document.activeElement, text);
  assert.equal(text.value, "20");
  assert.equal(row.querySelector("label")?.htmlFor, text.id);
  for (const [name, value] of [
    ["from", "5"],
    ["to", "15"],
    ["step", "5"],
  ] as const) {
    const input = find<HTMLInputElement>(row, `[aria-label="1.steps: ${name}"]`);
    input.value = value;
    press(input, "Enter");
  }
  assert.equal(text.value, "5\n10\n15");
  assert.match(row.textContent ?? "", /3 values/);
  state.vary("1.steps", "x");
  assert.equal(text.value, "x");
  assert.equal(state.inputs(), null);
  assert.equal(text.getAttribute("aria-invalid"), "true");
  named(el, "1.steps: only one value").click();
  assert.equal(row.classList.contains("cd-varied"), false);
  assert.deepEqual(state.varied.value, {});

  several("1.sampler").click();
  named(el, "1.sampler: add all choices").click();
  assert.equal(state.varied.value["1.sampler"]?.text, "euler\neuler\nddim\n7");
  several("1.text").click();
  assert.equal(state.varied.value["1.text"]?.text, "a b");
  several("1.on").click();
  assert.equal(state.varied.value["1.on"]?.text, "true\nfalse");
});

test("several files are sent one after the other", async (t) => {
  let sent = 0;
  const names: string[] = [];
  const upload: Answer = ({ body }) => {
    sent += 1;
    names.push((body as File).name);
    return { name: `sent ${sent}.png` };
  };
  const shown = await showForm(t, FIELDS, { answers: { "upload-file": upload } });
  const { el, state } = shown;
  named(el, "1.steps: several values, each of which runs").click();
  const from = find<HTMLInputElement>(el, '[aria-label="1.steps: from"]');
  from.value = "5";
  named(el, "1.photo: several values, each of which runs").click();
  const [input] = el.querySelectorAll<HTMLInputElement>(".cd-several input[type=file]");
  assert.ok(input);
  const files = ["x.png", "y.png", "notes.txt"].map(
    (name) => new File(["1"], name, { type: name.endsWith("png") ? "image/png" : "text/plain" }),
  );
  Object.defineProperty(input, "files", { value: files });
  input.dispatchEvent(new Event("change"));
  // the form is made again meanwhile, with the new file in the list and another field
  const options = ["a.png", "b.png", "sent 1.png"];
  const now = FIELDS.map((each) => (each.key === "1.photo" ? { ...each, options } : each));
  await shown.remake([...now, field("2.new", "image", "a.png", { options })]);
  assert.ok(el.contains(from), "what was typed beside a field stays");
  assert.equal(state.row("2.new")?.options, state.row("1.photo")?.options, "one list of files");
  await until(() => sent === 2);
  await settled();
  assert.equal(state.varied.value["1.photo"]?.text, "a.png\nsent 1.png\nsent 2.png");
  assert.match(el.textContent ?? "", /notes.txt was not uploaded: it is not a picture/);

  // a folder that is dropped: in the order of names, without what is no picture
  const drop = new Event("drop", { cancelable: true, bubbles: true });
  const dropped = ["p10.png", "p9.png", ".DS_Store", "b.md"].map((name) => ({
    kind: "file",
    getAsFile: () => new File(["1"], name, { type: name.endsWith("png") ? "image/png" : "" }),
  }));
  Object.assign(drop, { dataTransfer: { types: ["Files"], items: dropped } });
  names.length = 0;
  find(el, ".cd-image .cd-several").dispatchEvent(drop);
  await until(() => names.length === 2 && /no pictures/.test(el.textContent ?? ""));
  assert.deepEqual(names, ["p9.png", "p10.png"]);
  assert.match(
    el.textContent ?? "",
    /.DS_Store and 1 more were not uploaded: they are no pictures/,
  );
});

test("inputs change line by line with another one", async (t) => {
  const { el, state } = await showForm(t, FIELDS);
  state.locked.value = ["1.seed"];
  state.vary("1.text", "a\nb\nc");
  state.vary("1.on", "true\nfalse");
  const choice = () =>
    find<HTMLSelectElement>(el, '[aria-label="1.sampler: how its values are combined"]');
  named(el, "1.sampler: several values, each of which runs").click();
  assert.deepEqual(
    [...choice().options].map(({ text }) => text),
    ["with every other value", "line by line with 1.on", "line by line with 1.text"],
  );
  choice().value = "1.text";
  choice().dispatchEvent(new Event("change"));
  assert.equal(state.inputs(), null);
  assert.deepEqual(state.problems.value, {
    "1.sampler": "has 1 value, but “1.text”, with which it changes, has 3",
  });
  state.vary("1.sampler", "euler\nddim\n7");
  assert.deepEqual(state.problems.value, {});
  // who changes with one that changes with another one changes with that one, too
  state.vary("1.steps", "1\n2\n3");
  state.varyAlong("1.text", "1.steps");
  assert.deepEqual(
    state.axes.value.map(({ leader, members, count }) => [
      leader,
      members.map(({ key }) => key).join(),
      count,
    ]),
    [
      ["1.steps", "1.steps,1.sampler,1.text", 3],
      ["1.on", "1.on", 2],
    ],
  );
  const inputs = JSON.parse(toJson(state.inputs()));
  assert.deepEqual(inputs["1.sampler"], { $vary: ["euler", "ddim", 7], $with: "1.steps" });
  assert.deepEqual(inputs["2.steps"], { $vary: [1, 2, 3], $with: "1.steps" });
  // the line of a value at a point
  const wrong = { point: 3, field: "inputs.1.sampler", problem: "inputs.x: is not there" };
  assert.equal(state.mark(new RouteError(400, "", "invalid", { points: [wrong] })), true);
  assert.deepEqual(state.problems.value, { "1.sampler": "line 2: is not there" });
  const workflow = { title: "W", source: { workflow_id: "w", version: 2 }, warnings: [] };
  const wanted = wantedOf(state, workflow, null, 1);
  assert.ok(wanted);
  assert.equal(
    asPython(wanted, "http://h/").split("\n\n")[1],
    `comfy = connect()  # elsewhere: connect("http://h/", token)
sweep = comfy.sweep(
  comfy.workflows.version("w", 2).load(),
  {
    ("1.steps", "2.steps", "1.sampler", "1.text"): [
      (1, 1, "euler", "a"),
      (2, 2, "ddim", "b"),
      (3, 3, 7, "c"),
    ],
    "1.on": [
      True,
      False,
    ],
  },
)
sweep
`,
  );
  // the leader takes only one value now: the others are combined with each other
  state.vary("1.steps", null);
  assert.equal(state.axes.value.length, 3);
});
