import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { mountAlone } from "../src/panels/index.tsx";
import { press, scrollEverywhere, until } from "./page.ts";
import { type Answer, batchServer, HOSTILE, Recorded } from "./recorded.ts";

/** Show a batch of four points, of which two have a star. */
async function open(t: TestContext, more: Record<string, Answer> = {}, asked: object = {}) {
  const server = new Recorded({ ...batchServer(asked), ...more });
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const { traits, end } = mountAlone("BatchPanel", el, server, {
    batch: "b",
    summary: "",
    status: "",
  });
  t.after(end);
  const tick = (isDone: () => boolean) =>
    until(() => {
      scrollEverywhere(); // what is watched then: effects come after a frame
      return isDone();
    });
  await tick(() => el.querySelectorAll(".cd-point").length > 0);
  return { server, el, traits, tick };
}

const all = (el: Element, query: string) => [...el.querySelectorAll<HTMLElement>(query)];
const textsOf = (el: Element, query: string) => all(el, query).map((each) => each.textContent);
const pressed = (el: Element) =>
  all(el, ".cd-star").map((star) => star.getAttribute("aria-pressed") === "true");
const button = (el: Element, text: string) =>
  all(el, "button").find((each) => each.textContent?.includes(text)) as
    | HTMLButtonElement
    | undefined;

test("the values are headings, texts are no HTML, and Python gets the state", async (t) => {
  const { el, traits } = await open(t);
  const heads = textsOf(el, "th");
  assert.deepEqual(heads, [HOSTILE, "Seed", "a", HOSTILE, "1", "2"]);
  const mains = all(el, ".cd-picture-button");
  assert.equal(mains[1]?.textContent, HOSTILE);
  assert.equal(el.querySelectorAll("img").length, 3, "pictures only");
  assert.match(traits.summary?.value as string, /^Running: 4 of 5 points · 1 failed · 12 s left/);
});

test("a star is shown at once, sent with the run of its point, and taken back if refused", async (t) => {
  const refusal = { status: 507, code: "no_space", message: "No space is left" };
  let answer: (reply: unknown) => void = () => {};
  const { el, server, tick } = await open(
    t,
    {
      "runs/update": () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    },
    { state: "done", finished_at: "2026-01-01" }, // whose table is asked for again and again
  );
  assert.deepEqual(pressed(el), [true, false, true, false]);
  const [first] = all(el, ".cd-picture-button");
  first?.focus();
  press(first as HTMLElement, "s");
  await tick(() => !pressed(el)[0]);
  server.take("batch/b/table");
  dispatchEvent(new Event("online")); // the table comes before the star is stored
  await tick(() => server.take("batch/b/table").length > 0);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(pressed(el), [false, false, true, false]);
  answer(refusal);
  await tick(() => Boolean(el.querySelector(".comfydeploy-error")));
  assert.equal(el.querySelector(".comfydeploy-error")?.textContent, "No space is left");
  assert.deepEqual(pressed(el), [true, false, true, false]);
  all(el, ".cd-star")[3]?.click();
  await tick(() => server.take("runs/update").some(({ body }) => "starred" in (body as object)));
  assert.equal(el.querySelector(".comfydeploy-error"), null);
  assert.deepEqual(pressed(el), [true, false, true, true]);
  answer({ success: true });
});

test("only points with a star are shown, and one whose star is removed stays", async (t) => {
  const { el, server, tick } = await open(t);
  button(el, "Starred only (2)")?.click();
  await tick(() => all(el, ".cd-caption").length === 2);
  assert.deepEqual(textsOf(el, ".cd-caption"), ["Seed 1, a", "Seed 2, a"]);
  const [first] = all(el, ".cd-picture-button");
  first?.click();
  await tick(() => Boolean(el.querySelector("dialog")));
  const dialog = el.querySelector("dialog") as HTMLElement;
  assert.deepEqual(textsOf(dialog, "dd"), ["1", "a", "0", "success", "1.5 s"]);
  press(dialog, "s");
  await tick(() => dialog.textContent?.includes("Give it a star") === true);
  press(dialog, "ArrowRight");
  await tick(() => dialog.textContent?.includes("(2 of 2)") === true);
  assert.equal(all(el, ".cd-caption").length, 2);
  server.take("batch/b/table");
  button(el, "CSV")?.click();
  await tick(() => server.take("batch/b/table").some(({ query }) => query.starred === true));
});

test("a point without a picture says what it has, also in full size", async (t) => {
  const { el, tick } = await open(t);
  all(el, ".cd-picture-button")[1]?.click();
  await tick(() => Boolean(el.querySelector("dialog pre")));
  assert.equal(el.querySelector("dialog pre")?.textContent, HOSTILE);
  assert.equal(el.querySelector("dialog [title='Larger (+)']"), null);
});

test("a batch is paused, stopped, continued, and its failed points run again", async (t) => {
  const { el, server, tick } = await open(t);
  const does = async (text: string, action: string) => {
    await tick(() => button(el, text)?.disabled === false);
    button(el, text)?.click();
    await tick(() => server.take(`batch/b/${action}`).length > 0);
  };
  await does("Pause", "pause");
  await tick(() => Boolean(button(el, "Continue")));
  assert.equal(button(el, "Pause"), undefined);
  await does("Continue", "resume");
  await tick(() => Boolean(button(el, "Stop")));
  await does("Stop", "cancel");
  await does("Retry failed (1)", "retry");
});

test("a batch that has ended goes on with what was cancelled, and says why it ended", async (t) => {
  const ended = { finished_at: "2026-01-01" };
  const none = { total: 0, counts: {}, why: "Its points cannot be made: the run was cancelled" };
  const cases: [object, boolean][] = [
    [{ ...ended, state: "done", counts: { success: 4, cancelled: 1 } }, true],
    [{ ...ended, state: "done", counts: { success: 5 } }, false],
    [{ ...ended, state: "cancelled", ...none }, true],
    [{ finished_at: null, state: "cancelled", counts: { success: 4, cancelled: 1 } }, false],
  ];
  for (const [asked, goesOn] of cases) {
    const { el, server, tick } = await open(t, {}, asked);
    await tick(() => el.textContent?.includes("why" in asked ? none.why : "of") === true);
    assert.equal(Boolean(button(el, "Continue")), goesOn, JSON.stringify(asked));
    if (goesOn) {
      button(el, "Continue")?.click();
      await tick(() => server.take("batch/b/resume").length > 0);
    }
  }
});

test("a batch that is not there is told, with the way on", async (t) => {
  const server = new Recorded({
    "batch/b": () => ({ status: 404, code: "not_found", message: "There is no batch b" }),
  });
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  t.after(mountAlone("BatchPanel", el, server, { batch: "b", summary: "", status: "" }).end);
  await until(() => {
    scrollEverywhere();
    return Boolean(el.querySelector(".comfydeploy-error"));
  });
  assert.match(el.textContent ?? "", /There is no batch b/);
});
