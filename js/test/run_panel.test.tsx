/** A RunPanel as a whole, in the states of the stories. */

import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { render } from "preact";
import { find, scrollEverywhere, until } from "./page.ts";

const { panels } = await import("../stories/panels.tsx");

async function show(t: TestContext, story: string, isThere: (el: HTMLElement) => unknown) {
  const Story = panels[`run: ${story}`];
  assert.ok(Story);
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  render(<Story />, el);
  t.after(() => render(null, el));
  await until(() => {
    scrollEverywhere();
    return Boolean(isThere(el));
  });
  return el;
}

test("what says that ComfyUI is down is not contradicted", async (t) => {
  const el = await show(t, "ComfyUI is down", (panel) => panel.querySelector(".cd-down"));
  await until(() => el.querySelector(".cd-field") !== null);
  assert.doesNotMatch(find(el, ".cd-state").textContent, /Ready/);
});

test("new seeds are offered where it is said that the runs will be equal", async (t) => {
  const text = "the 3 runs will be equal";
  const el = await show(t, "three equal runs", (panel) => panel.textContent?.includes(text));
  const box = find(el, ".cd-bar-box");
  assert.match(box.textContent, new RegExp(text));
  const buttons = [...box.querySelectorAll<HTMLElement>("button")];
  buttons.find(({ textContent }) => textContent?.trim() === "New seeds for each run")?.click();
  await until(() => !el.textContent?.includes(text));
});

test("no result is announced of a workflow that has no form", async (t) => {
  const el = await show(t, "no form", (panel) => panel.textContent?.includes("no workflow w"));
  assert.equal(find(el, ".cd-work").hidden, true);
});

test("what went wrong in Python is said above the panel", async (t) => {
  const el = await show(t, "Python reports an error", (panel) => panel.querySelector(".cd-field"));
  const alert = find(el, "[role=alert]");
  assert.match(alert.textContent, /none is open/);
  assert.ok(alert.compareDocumentPosition(find(el, "fieldset")) & 4, "the panel follows");
});
