import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { forgetPageServer } from "../src/server.ts";
import sheet from "../src/views/sheet.ts";
import { answerRequests, find, press, scrollEverywhere, show, until } from "./page.ts";

const TEXT = "<img src=x onerror=alert(1)>";
const HEADS = {
  row_title: "Seed",
  rows: ["1", "2"],
  column_title: TEXT,
  columns: ["a", TEXT],
  names: ["Seed", TEXT],
  values: [
    ["1", "a"],
    ["1", TEXT],
    ["2", "a"],
    ["2", TEXT],
  ],
  labels: ["Seed 1, a", "Seed 1, b", "Seed 2, a", "Seed 2, b"],
};
const PROGRESS = {
  phase: "ended",
  text: "Done after 3 s",
  activity: "",
  saved: "sweeps/x.json",
  spoken: "Done",
  fraction: 1,
  blocking: false,
};
const picture = (name: string) => ["success", 1.5, "", name, `filename=${name}`, "image"];
const POINTS = [
  picture("a.png"),
  ["failed", null, TEXT, "", "", ""],
  picture("c.png"),
  picture("d"),
];
const STATE = {
  heads: HEADS,
  points: POINTS,
  stars: [2],
  progress: PROGRESS,
  server: { base: "/", instance: "one" },
};

const open = (more: object = {}) => show(sheet, { ...STATE, ...more });
const mains = (el: HTMLElement) => [...el.querySelectorAll<HTMLElement>(".cd-picture-button")];
const starsOf = (el: HTMLElement) =>
  [...el.querySelectorAll(".cd-star")].map((star) => star.getAttribute("aria-pressed") === "true");
const buttonOf = (el: HTMLElement, text: string) =>
  [...el.querySelectorAll("button")].find((button) => button.textContent?.includes(text));

beforeEach(() => {
  forgetPageServer();
  answerRequests(() => ({ instance: "one" }));
});

test("the values are headings, and no text is read as HTML", () => {
  const { el } = open();
  const heads = [...el.querySelectorAll("th")].map(({ scope, textContent }) => [
    scope,
    textContent,
  ]);
  assert.deepEqual(heads, [
    ["colgroup", TEXT],
    ["col", "Seed"],
    ["col", "a"],
    ["col", TEXT],
    ["row", "1"],
    ["row", "2"],
  ]);
  assert.equal(mains(el)[1]?.textContent, TEXT);
  assert.equal(el.querySelectorAll("img").length, 3, "pictures only");
});

test("small pictures are requested when they become visible, and again only if they change", async () => {
  const { model, el } = open();
  const first = el.querySelector("img");
  assert.equal(first?.getAttribute("src"), null);
  scrollEverywhere();
  await until(() => Boolean(first?.getAttribute("src")));
  assert.match(first?.src ?? "", /filename=a\.png&thumbnail=192$/);
  model.set("points", [...POINTS.slice(0, 3), picture("new.png")]);
  assert.equal(el.querySelector("img"), first);
  assert.equal(el.querySelectorAll("img")[2]?.getAttribute("src"), null);
});

test("a star is shown at once, sent, and taken back where it was not saved", () => {
  const { model, el } = open();
  assert.deepEqual(starsOf(el), [false, false, true, false]);
  const [, second] = mains(el);
  assert.ok(second);
  press(second, "s");
  assert.deepEqual(model.takeSent(), [{ kind: "star", index: 1, starred: true }]);
  assert.deepEqual(starsOf(el), [false, true, true, false]);
  model.receive({ kind: "stars", failed: true });
  model.receive({ kind: "problem", problem: "No space is left" });
  assert.deepEqual(starsOf(el), [false, false, true, false]);
  assert.equal(find(el, ".comfydeploy-error").textContent, "No space is left");
  press(second, "s");
  model.set("stars", [1, 2]);
  model.receive({ kind: "stars", failed: false });
  model.set("stars", []); // code has removed them
  assert.deepEqual(starsOf(el), [false, false, false, false]);
});

test("only points with a star are shown, walked through and exported, with all their values", () => {
  const { model, el } = open({ stars: [0, 2] });
  buttonOf(el, "Starred only (2)")?.click();
  const captions = [...el.querySelectorAll(".cd-caption")].map((each) => each.textContent);
  assert.deepEqual(captions, ["Seed 1, a", "Seed 2, a"]);
  buttonOf(el, "CSV")?.click();
  assert.deepEqual(model.takeSent(), [{ kind: "export", format: "csv", starred: true }]);
  assert.equal(buttonOf(el, "CSV")?.disabled, true);
  model.receive({ kind: "export", format: "csv", problem: "the server is gone" });
  assert.equal(buttonOf(el, "CSV")?.disabled, false);
  assert.equal(find(el, ".comfydeploy-error").textContent, "the server is gone");
  mains(el)[0]?.click();
  const box = find(el, "dialog");
  press(box, "ArrowRight");
  assert.match(box.textContent ?? "", /c\.png {2}\(2 of 2\)/);
});

test("a point whose star is removed stays in the list, and opens its own picture", () => {
  const { el } = open({ stars: [0, 2] });
  buttonOf(el, "Starred only (2)")?.click();
  const [first, second] = mains(el);
  assert.ok(first && second);
  const box = find<HTMLDialogElement>(el, "dialog");
  const opened = (card: HTMLElement) => {
    card.click();
    const said = box.querySelector(".cd-grow")?.textContent;
    assert.ok(find(box, "[title=Close]"));
    box.close();
    return said;
  };
  press(first, "s");
  assert.equal(opened(first), "a.png  (1 of 2)");
  assert.equal(opened(second), "c.png  (2 of 2)");
  press(second, "s");
  assert.equal(opened(second), "c.png  (2 of 2)");
});

test("the values of a point are beside its picture, and its error is in the place of a picture", () => {
  const { model, el } = open();
  mains(el)[0]?.click();
  const box = find(el, "dialog");
  const facts = () => [...box.querySelectorAll("dd")].map((each) => each.textContent);
  assert.deepEqual(facts(), ["1", "a", "0", "success", "1.5 s"]);
  press(box, "s");
  assert.deepEqual(model.takeSent(), [{ kind: "star", index: 0, starred: true }]);
  assert.ok(buttonOf(box, "Remove the star"));
  press(box, "ArrowRight");
  assert.deepEqual(facts(), ["1", TEXT, "1", "failed"]);
  assert.equal(find(box, "pre").textContent, TEXT);
  assert.equal(box.querySelector("img"), null);
  assert.ok(buttonOf(box, "Give it a star"));
});

test("one point is reached by Tab, the others by arrows", () => {
  const { el } = open();
  const reached = () => mains(el).filter((main) => main.tabIndex === 0);
  assert.deepEqual(reached(), [mains(el)[0]]);
  mains(el)[0]?.focus();
  press(mains(el)[0] as HTMLElement, "End");
  assert.deepEqual(reached(), [mains(el)[3]]);
  assert.equal(document.activeElement, mains(el)[3]);
});

test("while the kernel waits for the sweep, the panel says what is only possible after the end", () => {
  const progress = { ...PROGRESS, phase: "running", blocking: true, text: "1 of 4 points" };
  const { model, el } = open({ progress });
  const waits = [...el.querySelectorAll<HTMLElement>(".cd-faint")].find((each) =>
    each.textContent?.startsWith("Stars are saved"),
  );
  assert.equal(waits?.hidden, true);
  press(mains(el)[0] as HTMLElement, "s");
  assert.equal(waits?.hidden, false);
  assert.equal(buttonOf(el, "PNG")?.disabled, true);
  assert.equal(buttonOf(el, "Stop")?.hidden, true);
  assert.match(el.textContent ?? "", /1 of 4 points · interrupt the kernel to stop it/);
  model.set("stars", [0, 2]);
  model.receive({ kind: "stars", failed: false });
  model.set("progress", PROGRESS);
  assert.equal(waits?.hidden, true);
  assert.equal(buttonOf(el, "PNG")?.disabled, false);
  assert.match(el.textContent ?? "", /saved in sweeps\/x\.json/);
});

test("a sweep that does not block the kernel can be stopped", () => {
  const { model, el } = open({ progress: { ...PROGRESS, phase: "running" } });
  buttonOf(el, "Stop")?.click();
  assert.deepEqual(model.takeSent(), [{ kind: "stop" }]);
  assert.equal(buttonOf(el, "Stopping")?.disabled, true);
});

test("no event listener remains after the view is closed", () => {
  const { model, end } = open();
  assert.ok(model.listenerCount > 0);
  end();
  assert.equal(model.listenerCount, 0);
});
