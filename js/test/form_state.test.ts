import assert from "node:assert/strict";
import { test } from "node:test";
import { FormState } from "../src/state/form.ts";
import type { Transport } from "../src/transport.ts";

test("a value that the workflow does not have is not sent unless it is set", async () => {
  const plain = { node: "1", more: false, hint: "", choices: null, required: false };
  const row = (input: string, kind: string, original: unknown, more: object = {}) => {
    const key = `1.${input}`;
    return { ...plain, key, keys: [key], input, kind, label: input, original, ...more };
  };
  const rows = [
    row("voice", "combo", "", { remote: "class_type=Talk&input=voice" }),
    row("edit", "video_edit", "", { edit: { features: ["trim"], video: "" } }),
    row("text", "text", ""),
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
  const reply = { ...empty, rows, values, title: "", structure: "", unknown: {}, defined: true };
  const state = new FormState({ post: async () => reply } as unknown as Transport);
  await state.open({});
  assert.deepEqual(state.inputs(), { "1.text": "" });
  const edit = '{"trim":{"start_time":1,"duration":0}}';
  state.change("1.voice", 7);
  state.change("1.edit", edit);
  assert.deepEqual(state.inputs(), { "1.voice": 7, "1.edit": edit, "1.text": "" });
  state.change("1.voice", "");
  assert.deepEqual(state.inputs(), { "1.edit": edit, "1.text": "" });
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
