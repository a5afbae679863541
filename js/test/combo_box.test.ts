import assert from "node:assert/strict";
import { test } from "node:test";
import { comboBox } from "../src/combo_box.ts";
import { press, type } from "./page.ts";

const OPTIONS = ["euler", "euler ancestral", "dpm 2", "dpm 2 ancestral"].map((text, value) => ({
  text,
  value,
}));

function make(more: { free?: boolean; options?: typeof OPTIONS } = {}) {
  const chosen: unknown[] = [];
  const taken: unknown[] = [];
  const listeners = {
    choose: (value: unknown) => chosen.push(value),
    picked: (value: unknown) => taken.push(value),
  };
  const settings = { id: "x", label: "Sampler", value: 0, options: OPTIONS, ...listeners };
  const box = comboBox({ ...settings, ...more });
  document.body.replaceChildren(box.root);
  const texts = () => [...box.root.querySelectorAll("li")].map((row) => row.textContent);
  return { ...box, chosen, taken, texts };
}

test("it shows the text of its value, and all choices on a click", () => {
  const { input, texts } = make();
  assert.equal(input.value, "euler");
  input.click();
  assert.equal(input.getAttribute("aria-expanded"), "true");
  assert.deepEqual(
    texts(),
    OPTIONS.map(({ text }) => text),
  );
});

test("typed words filter the choices; arrows and Enter choose", () => {
  const { input, texts, chosen } = make();
  type(input, "ancestral d");
  assert.deepEqual(texts(), ["dpm 2 ancestral"]);
  type(input, "ancestral");
  press(input, "ArrowDown");
  assert.equal(input.getAttribute("aria-activedescendant")?.endsWith("-0"), true);
  press(input, "PageDown");
  press(input, "Enter");
  assert.deepEqual(chosen, [3]);
  assert.equal(input.value, "dpm 2 ancestral");
  assert.equal(input.getAttribute("aria-expanded"), "false");
});

test("Enter takes the only choice that was found", () => {
  const { input, chosen } = make();
  type(input, "2 anc");
  press(input, "Enter");
  assert.deepEqual(chosen, [3]);
});

test("Escape brings the value back, and nothing is chosen", () => {
  const { input, chosen } = make();
  type(input, "dpm");
  press(input, "Escape");
  assert.equal(input.value, "euler");
  assert.deepEqual(chosen, []);
});

test("leaving the field takes another text only where any text may be typed", () => {
  for (const free of [false, true]) {
    const { input, chosen } = make({ free });
    type(input, "my own");
    input.dispatchEvent(new Event("blur"));
    assert.equal(input.value, free ? "my own" : "euler");
    assert.deepEqual(chosen, free ? ["my own"] : []);
  }
});

test("a typed text that is a choice gives the value of the choice", () => {
  const { input, chosen } = make({ free: true });
  type(input, "dpm 2");
  input.dispatchEvent(new Event("blur"));
  assert.deepEqual(chosen, [2]);
});

test("a long list says how many more there are", () => {
  const options = Array.from({ length: 250 }, (_, value) => ({ text: `model ${value}`, value }));
  const { input, texts } = make({ options });
  input.click();
  assert.equal(texts().length, 201);
  assert.equal(texts().at(-1), "50 more: type to search");
  type(input, "no such");
  assert.deepEqual(texts(), ["Nothing found"]);
});

test("setting a value or other choices does not call the listener", () => {
  const { input, set, setOptions, chosen } = make();
  set(2);
  assert.equal(input.value, "dpm 2");
  setOptions([{ text: "new", value: 9 }], 9);
  assert.equal(input.value, "new");
  assert.deepEqual(chosen, []);
});

test("the present value can be picked again; leaving, scrolling and resizing pick nothing", () => {
  const { root, input, chosen, taken } = make({ free: true });
  for (const leave of [
    () => input.dispatchEvent(new Event("blur")),
    () => window.dispatchEvent(new Event("scroll")),
    () => window.dispatchEvent(new Event("resize")),
  ]) {
    type(input, "dpm 2");
    leave();
    assert.equal(input.getAttribute("aria-expanded"), "false");
  }
  assert.deepEqual([chosen, taken], [[2], []]);
  for (const row of [2, 2, 1]) {
    input.click();
    root.querySelectorAll("li")[row]?.click();
  }
  press(input, "Enter");
  type(input, "another");
  press(input, "Enter");
  assert.deepEqual(chosen, [2, 1, "another"]);
  assert.deepEqual(taken, [2, 2, 1, 1, "another"]);
});

test("choices that arrive while somebody types keep what was typed", () => {
  const { input, setOptions, texts } = make();
  type(input, "anc");
  setOptions([...OPTIONS, { text: "ancient", value: 9 }], 0);
  assert.equal(input.value, "anc");
  assert.deepEqual(texts(), ["euler ancestral", "dpm 2 ancestral", "ancient"]);
  press(input, "Escape");
  assert.equal(input.value, "euler");
});
