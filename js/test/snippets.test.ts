import assert from "node:assert/strict";
import test from "node:test";
import { FormState, type Inputs } from "../src/state/form.ts";
import { asCurl, asPython, wantedOf } from "../src/state/snippets.ts";
import type { Transport } from "../src/transport.ts";

const row = (key: string, kind: string, original: unknown, more: object = {}) => {
  const [node, input] = key.split(".");
  const facts = { key, keys: [key], names: [key], label: key, node, input, kind, original };
  return { ...facts, choices: null, dynamic: false, hint: "", least: null, most: null, ...more };
};
const ROWS = [
  row("1.width", "int", "64", { keys: ["1.width", "2.width"] }),
  row("1.text", "multiline", "a"),
  row("1.on", "bool", false),
  row("3.seed", "seed", "5"),
  row("4.seed", "seed", "18446744073709551615"),
  row("1.denoise", "float", "0.5"),
];

async function form(changed: Inputs, locked: string[], unlocked: string[] = []) {
  const values = Object.fromEntries(ROWS.map(({ key, original }) => [key, original]));
  const lists = { choices: [], outputs: [], notes: [], unlocked };
  const facts = { problems: {}, others: {}, unknown: {}, title: "", structure: "", price: "" };
  const reply = { ...lists, ...facts, rows: ROWS, defined: true };
  const post = async (_: string, { inputs }: { inputs: Inputs }) => ({
    ...reply,
    given: inputs,
    values: Object.fromEntries(Object.keys(values).map((key) => [key, inputs[key] ?? values[key]])),
  });
  const state = new FormState({ post } as unknown as Transport);
  await state.open({}, changed, locked);
  return state;
}

const STORED = { title: "W", source: { workflow_id: "w", version: 3 }, warnings: [] };

test("only what differs is given, and the seeds as the form draws or keeps them", async () => {
  const both = ["3.seed", "4.seed"];
  for (const [changed, locked, unlocked, inputs, seedMode] of [
    [{ "1.width": "128" }, both, [], { "1.width": 128, "2.width": 128 }, null],
    // the editor would draw it, the user keeps it
    [{}, both, ["3.seed"], { "3.seed": 5 }, null],
    // the editor and the form draw it; what was drawn last is not given
    [{ "3.seed": "77" }, ["4.seed"], ["3.seed"], {}, null],
    // only the form draws it, and must keep the other
    [{ "3.seed": "77" }, ["4.seed"], [], { "4.seed": "18446744073709551615" }, "random"],
    [{ "9.images": ["8", 0] }, both, [], { "9.images": ["8", 0] }, null],
  ] as [Inputs, string[], string[], Inputs, string | null][]) {
    const state = await form(changed, locked, unlocked);
    const wanted = wantedOf(state, STORED, null, 1);
    const shown = Object.entries(wanted?.inputs ?? {}).map(([key, value]) => [
      key,
      typeof value === "object" && value !== null && !Array.isArray(value) ? String(value) : value,
    ]);
    assert.deepEqual(Object.fromEntries(shown), inputs);
    assert.equal(wanted?.seedMode, seedMode);
  }
  const wrong = await form({ "1.width": "wide" }, both);
  assert.equal(wantedOf(wrong, STORED, null, 1), null);
  assert.deepEqual(wrong.problems.value, { "1.width": "must be a whole number" });
});

test("the code of a stored workflow", async () => {
  const text = `it's "so" 😀 \\ \n$HOME`;
  const state = await form({ "1.text": text, "1.on": true, "1.denoise": "1" }, ["4.seed"]);
  const wanted = wantedOf(state, STORED, "gpu 2", 3);
  assert.ok(wanted);
  const url = "http://host:8888/user/me/";
  assert.equal(
    asPython(wanted, url),
    `from comfydeploy_jupyter import connect

comfy = connect()  # elsewhere: connect("http://host:8888/user/me/", token)
runs = [comfy.submit(
  workflow_id="w",
  version=3,
  inputs={
    "1.text": "it's \\"so\\" 😀 \\\\ \\n$HOME",
    "1.on": True,
    "4.seed": 18446744073709551615,
    "1.denoise": 1
  },
  seed_mode="random",
  machine="gpu 2",
) for _ in range(3)]
results = [run.wait() for run in runs]
results[-1]
`,
  );
  assert.equal(
    asCurl(wanted, url),
    `for run in $(seq 3); do
curl -sS 'http://host:8888/user/me/comfyui-deploy/run' \\
  -H "Authorization: token $JUPYTER_TOKEN" \\
  -H 'Content-Type: application/json' \\
  --data-binary @- <<'JSON'
{
  "workflow_id": "w",
  "version": 3,
  "inputs": {
    "1.text": "it's \\"so\\" 😀 \\\\ \\n$HOME",
    "1.on": true,
    "4.seed": 18446744073709551615,
    "1.denoise": 1
  },
  "seed_mode": "random",
  "machine": "gpu 2"
}
JSON
echo
done
`,
  );
});

test("the code of a graph has it as Python has it, and a file only its path", async () => {
  const graph = '{"1": {"on": true, "no": null, "text": "true \\/ \\ud83d\\ude00", "big": 1e400}}';
  const state = await form({}, ["3.seed", "4.seed"]);
  const given = { title: "", source: { workflow_api: `${graph}\n` }, warnings: [] };
  const wanted = wantedOf(state, given, null, 1);
  assert.ok(wanted);
  assert.match(
    asPython(wanted, "http://h/"),
    /run\(\n {2}\{"1": \{"on": True, "no": None, "text": "true \/ 😀", "big": 1e400\}\},\n\)/,
  );
  assert.ok(asCurl(wanted, "http://h/").includes(`{\n  "workflow_api": ${graph}\n}`));
  const file = { ...given, key: "file:/home/me/it's.json" };
  assert.match(
    asPython({ ...wanted, workflow: file }, "x"),
    /run\(\n {2}"\/home\/me\/it's.json",\n\)/,
  );
});
