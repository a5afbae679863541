import assert from "node:assert/strict";
import { test } from "node:test";
import {
  containsWords,
  formatBytes,
  formatDuration,
  messageOf,
  parseJson,
  searchWords,
} from "../src/format.ts";

test("durations", () => {
  const cases: [number, string][] = [
    [0, "0.0 s"],
    [9.94, "9.9 s"],
    [9.96, "10 s"],
    [59.4, "59 s"],
    [59.6, "1 min 00 s"],
    [125, "2 min 05 s"],
    [3599.6, "1 h 00 min"],
    [7384, "2 h 03 min"],
  ];
  for (const [seconds, text] of cases) assert.equal(formatDuration(seconds), text);
});

test("sizes", () => {
  const cases: [number, string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1536, "1.5 KiB"],
    [5 * 2 ** 20, "5.0 MiB"],
    [3.5 * 2 ** 40, "3584.0 GiB"],
  ];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
});

test("a search finds words in any order and case", () => {
  assert.ok(containsWords("Stable Diffusion XL", searchWords("  xl STABLE ")));
  assert.ok(!containsWords("Stable Diffusion", searchWords("stable xl")));
  assert.ok(containsWords("anything", searchWords("")));
});

test("text that is not JSON gives null", () => {
  assert.deepEqual(parseJson('{"a": 1}'), { a: 1 });
  for (const text of ["{", "", null, undefined]) assert.equal(parseJson(text), null);
});

test("the message of a thrown value", () => {
  assert.equal(messageOf(new Error("broken")), "broken");
  assert.equal(messageOf("broken"), "broken");
});
