import assert from "node:assert/strict";
import { test } from "node:test";
import { fileButton, h, iconButton, isAccepted, newId, setAttribute } from "../src/dom.ts";
import { find } from "./page.ts";

test("elements get properties, attributes, listeners and children", () => {
  let clicks = 0;
  const onclick = () => {
    clicks += 1;
  };
  const button = h(
    "button",
    { type: "button", title: undefined, "aria-label": "Run", onclick },
    "a",
    null,
    ["b", undefined, h("i")],
  );
  button.click();
  assert.equal(button.outerHTML, '<button type="button" aria-label="Run">ab<i></i></button>');
  assert.equal(clicks, 1);
});

test("ids are unique", () => {
  assert.equal(new Set(Array.from({ length: 1000 }, newId)).size, 1000);
});

test("an icon button has a name, and its icon is no text", () => {
  const button = iconButton("refresh", "Look again", () => {});
  assert.equal(button.getAttribute("aria-label"), "Look again");
  assert.equal(find(button, "i").getAttribute("aria-hidden"), "true");
});

test("files are accepted by media type, its first half, or the ending of the name", () => {
  const cases: [string, string, string, boolean][] = [
    ["a.png", "image/png", "image/*", true],
    ["a.png", "image/png", "image/png,.json", true],
    ["a.txt", "text/plain", "image/*,.json", false],
    ["A.JSON", "", ".json", true],
    ["json", "", ".json", false],
    ["a.exr", "", "image/*,.exr", true],
  ];
  for (const [name, type, accept, expected] of cases) {
    assert.equal(isAccepted(new File([""], name, { type }), accept), expected, `${name} ${accept}`);
  }
});

test("a file button takes the same file twice", () => {
  const taken: string[] = [];
  const [button, input] = fileButton("Open", ".json", (files) =>
    taken.push(...files.map(({ name }) => name)),
  );
  document.body.replaceChildren(button, input);
  for (const _ of [1, 2]) {
    const files = [new File([""], "a.json")];
    Object.defineProperty(input, "files", { value: files, configurable: true });
    input.dispatchEvent(new Event("change"));
    assert.equal(input.value, "");
  }
  assert.deepEqual(taken, ["a.json", "a.json"]);
});

test("an attribute is removed with null", () => {
  const element = h("div", { "aria-invalid": "true" });
  setAttribute(element, "aria-invalid", null);
  assert.equal(element.hasAttribute("aria-invalid"), false);
});
