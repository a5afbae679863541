import assert from "node:assert/strict";
import { test } from "node:test";
import { Subscriptions } from "../src/model.ts";
import { type FormReply, FormState, keepForm } from "../src/state/form.ts";
import { modelTraits } from "../src/state/traits.ts";
import type { Transport } from "../src/transport.ts";
import { asModel, FakeModel } from "./page.ts";

test("a value that the workflow does not have is not sent unless it is set", async () => {
  const alike = [
    { input: "voice", kind: "combo", remote: "class_type=Talk&input=voice" },
    { input: "edit", kind: "video_edit", edit: { features: ["trim"], video: "" } },
    { input: "text", kind: "text", hint: "any" },
  ];
  const rows = [
    { node: "1", alike: 0, parts: ["Talk: ", "voice", ""], section: 0 },
    { node: "1", alike: 1, parts: ["Talk: ", "edit", ""], section: 0 },
    { node: "1", alike: 2, label: "text" },
  ];
  const values = { "1.voice": "", "1.edit": "", "1.text": "" };
  const empty = {
    given: {},
    choices: [],
    unlocked: [],
    outputs: [],
    notes: [],
    problems: {},
    others: {},
  };
  const reply = {
    ...empty,
    rows,
    alike,
    sections: ["Talk"],
    values,
    title: "",
    structure: "",
    unknown: {},
    defined: true,
  };
  const state = new FormState({ post: async () => reply } as unknown as Transport);
  await state.open({});
  const [voice, , text] = state.rows.value;
  assert.deepEqual(
    [voice?.key, voice?.label, voice?.section, voice?.original, text?.hint, text?.may_be_empty],
    ["1.voice", "Talk: voice", { id: 0, title: "Talk" }, "", "any", true],
  );
  assert.deepEqual(state.inputs(), { "1.text": "" });
  const edit = '{"trim":{"start_time":1,"duration":0}}';
  state.change("1.voice", 7);
  state.change("1.edit", edit);
  assert.deepEqual(state.inputs(), { "1.voice": 7, "1.edit": edit, "1.text": "" });
  state.change("1.voice", "");
  assert.deepEqual(state.inputs(), { "1.edit": edit, "1.text": "" });
});

test("a form that came with its workflow is shown once, without values and a machine", async () => {
  const lists = { choices: [], unlocked: [], outputs: [], notes: [], rows: [] };
  const facts = { given: {}, problems: {}, others: {}, unknown: {}, values: {}, structure: "" };
  const form = (title: string) => ({ ...lists, ...facts, title }) as unknown as FormReply;
  const state = new FormState({ post: async () => form("asked") } as unknown as Transport);
  const opened = async (source: object, inputs = {}) => {
    await state.open(source, inputs);
    return state.title.value;
  };
  const came = () => {
    const source = { workflow_api: "{}" };
    keepForm(source, form("came"));
    return source;
  };
  const source = came();
  assert.deepEqual([await opened(source), await opened(source)], ["came", "asked"]);
  assert.equal(await opened(came(), { "1.seed": "5" }), "asked");
  state.machine = "other";
  assert.equal(await opened(came()), "asked");
});

test("a value that the workflow lacks is asked for, also that of an external input", async () => {
  const missing = { more: false, hint: "", choices: null, required: true, may_be_empty: false };
  const row = (key: string, more: object) => {
    const place = { key, keys: [key], node: "1", input: key.split(".").at(-1), label: key };
    return { ...missing, ...place, kind: "image", original: null, ...more };
  };
  const rows = [
    row("photo", {}),
    row("1.image", {}),
    row("face", { required: false, may_be_empty: true }),
    row("1.voice", { kind: "combo", original: "", remote: "class_type=Talk&input=voice" }),
    row("size", { kind: "text", original: "large" }),
  ];
  const values = { photo: null, "1.image": null, face: null, "1.voice": "", size: "large" };
  const lists = { choices: [], unlocked: [], outputs: [], notes: [] };
  const facts = { given: {}, problems: {}, others: {}, unknown: {}, title: "", structure: "" };
  const reply = { ...lists, ...facts, rows, values, defined: true };
  const state = new FormState({ post: async () => reply } as unknown as Transport);
  await state.open({});
  assert.equal(state.inputs(), null);
  const problem = "must have a value, because the workflow has none";
  assert.deepEqual(state.problems.value, { photo: problem, "1.image": problem });
  state.change("photo", "me.png");
  state.change("1.image", "you.png");
  assert.deepEqual(state.inputs(), { photo: "me.png", "1.image": "you.png" });
});

test("what a page has set is no news when Python sends it back, also as a copy", (t) => {
  const model = new FakeModel({ values: { "3.seed": "7" } });
  const events = new Subscriptions(asModel(model));
  t.after(() => events.end());
  type Values = { values: Record<string, string> };
  const { values, set } = modelTraits<Values>(asModel(model), events, () => true);
  const seen: unknown[] = [];
  t.after(values.subscribe((value) => seen.push(value)));
  set({ values: { "3.seed": "8" } });
  model.set("values", { "3.seed": "8" });
  assert.equal(seen.length, 2);
  set({ values: { "3.seed": "10" } });
  model.set("values", { "3.seed": "8" }); // late
  assert.equal(seen.length, 3);
  model.set("values", { "3.seed": "9" });
  assert.deepEqual(seen.at(-1), { "3.seed": "9" });
  for (const seed of ["1", "2", "1"]) {
    model.set("values", { "3.seed": seed }); // by Python
    assert.deepEqual(seen.at(-1), { "3.seed": seed });
    set({ values: { "3.seed": seed } }); // by the form that shows it now
  }
});
