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
