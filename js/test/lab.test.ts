import assert from "node:assert/strict";
import test from "node:test";
import { EMPTY, formatOf, isEmpty, relative, standard } from "../lab/workflow_file.ts";

const NODE = { class_type: "SaveImage", inputs: { images: ["1", 0] } };
const DRAWN = { id: 1, type: "SaveImage", pos: [0, 0] };

const CASES: [string, unknown, "ui" | "api" | null][] = [
  ["API format", { 1: NODE, "2:3": { ...NODE, _meta: { title: "a" } } }, "api"],
  ["the editor's format", { nodes: [DRAWN], links: [], version: 0.4 }, "ui"],
  ["the editor's newer format", { nodes: [DRAWN], links: [{ id: 1 }], version: 1 }, "ui"],
  ["a new workflow", JSON.parse(EMPTY), "ui"],
  ["a package.json", { name: "a", version: "1", dependencies: { b: "1" } }, null],
  ["a notebook", { cells: [], metadata: {}, nbformat: 4 }, null],
  ["another graph", { nodes: [{ name: "a" }], links: [{ source: 0, target: 1 }] }, null],
  ["nodes only", { nodes: [DRAWN] }, null],
  ["one entry that is no node", { 1: NODE, 2: "x" }, null],
  ["inputs that are a list", { 1: { class_type: "A", inputs: [] } }, null],
  ["nothing", {}, null],
  ["a list", [NODE], null],
  ["a null", { 1: null }, null],
];

for (const [what, value, format] of CASES) {
  test(`${what} is ${format ?? "no workflow"}`, () => {
    assert.equal(formatOf(JSON.stringify(value)), format);
    assert.equal(formatOf(` \n${JSON.stringify(value, null, 2)}`), format);
  });
}

test("a text that is not JSON is no workflow", () => {
  for (const text of ["", "{", "{nodes: []}", "null", "3"]) assert.equal(formatOf(text), null);
});

test("a mark before the text, and numbers that JSON does not have, are read", () => {
  const text = `\uFEFF{"1": {"class_type": "A", "inputs": {"a": "x \\"NaN, Infinity", "b": NaN},
    "is_changed": [NaN, -Infinity]}}`;
  assert.equal(formatOf(text), "api");
  assert.deepEqual(JSON.parse(standard(text)), {
    1: {
      class_type: "A",
      inputs: { a: 'x "NaN, Infinity', b: null },
      is_changed: [null, null],
    },
  });
  const drawn = `\uFEFF${JSON.stringify({ nodes: [DRAWN], links: [] })}`;
  assert.equal(formatOf(drawn), "ui");
  assert.ok(!isEmpty(drawn));
  const long = JSON.stringify({ nodes: [DRAWN], links: [], a: `NaN ${"x".repeat(5_000_000)}` });
  assert.equal(standard(long), long);
});

test("a workflow is empty without nodes", () => {
  assert.ok(isEmpty(EMPTY));
  assert.ok(!isEmpty(JSON.stringify({ nodes: [DRAWN], links: [] })));
});

test("code in a notebook names a file relative to it", () => {
  assert.equal(relative("n.ipynb", "a.png"), "a.png");
  assert.equal(relative("n.ipynb", "b/a.png"), "b/a.png");
  assert.equal(relative("b/n.ipynb", "b/a.png"), "a.png");
  assert.equal(relative("b/c/n.ipynb", "b/d/a.png"), "../d/a.png");
  assert.equal(relative("b/n.ipynb", "bb/a.png"), "../bb/a.png");
  assert.equal(relative("a/n.ipynb", "a"), "../a");
});
