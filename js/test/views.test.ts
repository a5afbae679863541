import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { forgetPageServer } from "../src/server.ts";
import button from "../src/views/button.ts";
import fileButton from "../src/views/file_button.ts";
import gallery from "../src/views/gallery.ts";
import history from "../src/views/history.ts";
import kernelStatus from "../src/views/kernel_status.ts";
import keys from "../src/views/keys.ts";
import presets from "../src/views/presets.ts";
import preview from "../src/views/preview.ts";
import progress from "../src/views/progress.ts";
import runButton from "../src/views/run_button.ts";
import searchCombo from "../src/views/search_combo.ts";
import start from "../src/views/start.ts";
import {
  answerRequests,
  blobUrls,
  type FakeModel,
  find,
  named,
  press,
  scrollEverywhere,
  show,
  type,
  until,
} from "./page.ts";

const SERVER = { base: "/", instance: "one" };

beforeEach(() => {
  forgetPageServer();
  answerRequests(() => ({ instance: "one" }));
});

const BUTTON = {
  description: "Run",
  icon: "play",
  hint: "Run it",
  button_style: "",
  disabled: false,
};

test("a button shows its text, or has a name in its place", () => {
  const { model, el } = show(button, { ...BUTTON });
  const element = find<HTMLButtonElement>(el, "button");
  element.click();
  assert.deepEqual(model.sent, [{ kind: "click" }]);
  assert.equal(element.textContent, " Run");
  assert.equal(element.hasAttribute("aria-label"), false);
  model.set("description", "");
  assert.equal(element.getAttribute("aria-label"), "Run it");
  model.set("disabled", true);
  assert.equal(element.disabled, true);
});

test("the number of runs is sent with a click, and a wrong one is marked", () => {
  const { model, el } = show(runButton, { disabled: false, most: 100, problem: "" });
  const times = find<HTMLInputElement>(el, "input");
  times.value = "3";
  find(el, "button").click();
  assert.deepEqual(model.sent, [{ kind: "run", times: 3, typed: [] }]);
  model.set("problem", "must be 1 to 100");
  assert.equal(times.getAttribute("aria-invalid"), "true");
  assert.equal(document.activeElement, times);
});

test("a combo box takes options with values and notes", () => {
  const options = ["plain", ["Text", 7, "a note"]];
  const state = { description: "Workflow", options, value: 7, placeholder: "", free: false };
  const { el, model } = show(searchCombo, state);
  const input = find<HTMLInputElement>(el, "input");
  assert.equal(input.value, "Text");
  input.click();
  assert.equal(find(el, "small").textContent, "a note");
  el.querySelector("li")?.click();
  assert.equal(model.get("value"), "plain");
});

test("a file of the wrong kind is refused, another one is sent", async () => {
  const setUp = (el: HTMLElement) => el.classList.add("comfydeploy-panel");
  const state = { label: "Open", hint: "", accept: ".json" };
  const { model, el } = show(fileButton, state, setUp);
  const drop = (name: string) => {
    const event = new Event("drop", { bubbles: true, cancelable: true });
    const dataTransfer = { types: ["Files"], files: [new File([""], name)] };
    el.dispatchEvent(Object.assign(event, { dataTransfer }));
  };
  drop("a.txt");
  assert.deepEqual(model.takeSent(), [{ kind: "refused", name: "a.txt" }]);
  drop("a.json");
  await until(() => model.sent.length > 0);
  assert.equal(model.takeSent()[0]?.name, "a.json");
  el.classList.add("cd-dead");
  drop("b.txt");
  assert.deepEqual(model.sent, [], "the kernel is gone");
});

const STATE = {
  phase: "running",
  text: "KSampler 3/20",
  node: "KSampler",
  fraction: 0.254,
  step: 3,
  steps: 20,
  elapsed: 12.2,
  left: 75,
};

test("progress has a number and a time", () => {
  const { model, el } = show(progress, { state: STATE });
  assert.equal(find(el, ".cd-number").textContent, "25 % · 12 s · about 1 min 15 s left");
  const bars = [...el.querySelectorAll("[role=progressbar]")];
  assert.deepEqual(
    bars.map((bar) => bar.getAttribute("aria-valuenow")),
    ["25", "15"],
  );
  model.set("state", { phase: "" });
  assert.equal(el.hidden, true);
});

test("a preview is shown until the run ends", () => {
  const { model, el } = show(preview, { shown: false });
  assert.deepEqual(model.takeSent(), [{ kind: "hello" }]);
  const image = find<HTMLImageElement>(el, "img");
  const receive = () =>
    model.receive({ kind: "preview", mime: "image/jpeg" }, [new DataView(new ArrayBuffer(2))]);
  receive();
  assert.equal(el.hidden, true, "it belongs to a run that has ended");
  model.set("shown", true);
  receive();
  assert.equal(el.hidden, false);
  model.set("shown", false);
  assert.equal(el.hidden, true);
  assert.equal(image.hasAttribute("src"), false);
});

const RUN = {
  prompt_id: "p1",
  status: "success",
  title: "",
  created_at: "2020-01-02T03:04:05Z",
  seconds: 61,
  pictures: [{ name: "a.png", kind: "image", query: "filename=a.png" }],
  kind: "file",
  summary: "3.seed: 1",
  pinned: false,
  from_editor: false,
  labels: {},
  seeds: ["1"],
  problem: "",
};
const HISTORY = {
  runs: [RUN],
  more: false,
  chosen: "",
  opened: true,
  filter: {},
  labels: [],
  inputs: [],
  server: SERVER,
};

test("earlier runs are shown with a small picture, and a click shows one", async () => {
  const runs = [RUN, { ...RUN, prompt_id: "p2", pictures: [], kind: "text" }];
  const { model, el } = show(history, { ...HISTORY, runs, more: true, chosen: "p2" });
  assert.equal(find(el, "summary").textContent, "History (2+)");
  scrollEverywhere();
  const image = find<HTMLImageElement>(el, "img");
  await until(() => image.src.includes("thumbnail") ?? false);
  assert.match(image.src, /view\?filename=a.png&thumbnail=192$/);
  assert.deepEqual(model.takeSent(), [{ kind: "more" }]);
  const [first, second] = el.querySelectorAll<HTMLButtonElement>(".cd-run");
  assert.equal(second?.getAttribute("aria-pressed"), "true");
  first?.focus();
  first?.click();
  assert.deepEqual(model.takeSent(), [{ kind: "show", prompt_id: "p1" }]);
  model.set("chosen", "p1");
  assert.equal(document.activeElement, el.querySelector(".cd-run"), "the focus stays");
  model.set("runs", []);
  assert.equal(el.hidden, true);
});

test("only the cards in or near the visible area are in the page", () => {
  const runs = Array.from({ length: 1000 }, (_, n) => ({ ...RUN, prompt_id: `p${n}` }));
  const { el } = show(history, { ...HISTORY, runs });
  const cards = el.querySelectorAll(".cd-run");
  assert.ok(cards.length > 0 && cards.length < 50, `${cards.length} cards`);
  press(cards[0] as HTMLElement, "End");
  const last = document.activeElement?.closest("li");
  assert.equal(last?.getAttribute("aria-posinset"), "1000");
  assert.ok(el.querySelectorAll(".cd-run").length < 50);
});

test("the focus stays with its run while others come and go, and Delete means that run", () => {
  const runs = ["p1", "p2", "p3", "p4"].map((prompt_id, day) => {
    return { ...RUN, prompt_id, created_at: `2020-01-0${5 - day}T03:04:05Z` };
  });
  const { model, el } = show(history, { ...HISTORY, runs: runs.slice(1) });
  const cards = () => [...el.querySelectorAll<HTMLElement>(".cd-run")];
  const places = () =>
    [...el.querySelectorAll("li")].map((item) => item.getAttribute("aria-posinset"));
  const before = cards();
  press(before[0] as HTMLElement, "ArrowRight");
  const focused = document.activeElement;
  assert.ok(focused === before[1], "p3");
  model.set("runs", runs);
  assert.ok(document.activeElement === focused);
  assert.ok(
    before.every((card, place) => card === cards()[place + 1]),
    "the other cards were not made again",
  );
  assert.deepEqual(places(), ["1", "2", "3", "4"]);
  assert.deepEqual(
    cards().map(({ tabIndex }) => tabIndex),
    [-1, -1, 0, -1],
  );
  press(focused as HTMLElement, "Delete");
  const dialog = find<HTMLDialogElement>(el, "dialog[open]");
  const time = new Date("2020-01-03T03:04:05Z").toLocaleString();
  assert.equal(find(dialog, ".cd-question").textContent, `Delete the run of ${time}?`);
  named(dialog, "Delete").click();
  assert.deepEqual(model.takeSent(), [{ kind: "delete", prompt_ids: ["p3"], files: false }]);
  assert.ok(document.activeElement === focused);
  model.set("runs", [runs[0], runs[1], runs[3]]);
  assert.ok(document.activeElement === cards()[2], "the one in its place");
  press(cards()[2] as HTMLElement, "Delete");
  named(dialog, "Delete").click();
  assert.deepEqual(model.takeSent()[0]?.prompt_ids, ["p4"]);
});

test("a card with the focus keeps its place far away from the visible ones", () => {
  const runs = Array.from({ length: 1000 }, (_, n) => ({ ...RUN, prompt_id: `p${n}` }));
  const { model, el } = show(history, { ...HISTORY, runs });
  press(find(el, ".cd-wall"), "End");
  const focused = document.activeElement;
  find(el, ".cd-wall").scrollTop = 0;
  model.set("runs", [{ ...RUN, prompt_id: "new" }, ...runs]);
  assert.ok(document.activeElement === focused);
  const items = [...el.querySelectorAll("li")];
  assert.ok(items.at(-1) === focused?.closest("li"));
  assert.equal(items.at(-1)?.getAttribute("aria-posinset"), "1001");
  assert.equal(items[0]?.getAttribute("aria-posinset"), "1");
});

test("runs are deleted after a confirmation", () => {
  const failed = { ...RUN, prompt_id: "p2", status: "failed", title: "Failed" };
  const { model, el } = show(history, { ...HISTORY, runs: [RUN, failed] });
  named(el, "Delete all failed …").click();
  const dialog = [...el.querySelectorAll("dialog")].find((each) => each.open);
  assert.ok(dialog);
  named(dialog, "Cancel").click();
  assert.deepEqual(model.takeSent(), []);
  named(el, "Delete all failed …").click();
  named(dialog, "Delete").click();
  assert.deepEqual(model.takeSent(), [{ kind: "delete", prompt_ids: null, files: false }]);
  for (const box of el.querySelectorAll<HTMLInputElement>(".cd-select")) box.click();
  named(el, "Delete …").click();
  find<HTMLInputElement>(dialog, "input").click();
  named(dialog, "Delete").click();
  assert.deepEqual(model.takeSent(), [{ kind: "delete", prompt_ids: ["p1", "p2"], files: true }]);
  model.receive({ kind: "notice", text: "2 runs deleted", problem: true });
  assert.equal(find(el, ".cd-message").textContent, "2 runs deleted");
  assert.ok(find(el, ".cd-message").classList.contains("cd-problem-text"));
});

test("several selected runs are deleted together, and those that were kept stay selected", () => {
  const runs = ["p1", "p2", "p3", "p4"].map((prompt_id) => ({ ...RUN, prompt_id }));
  const { model, el } = show(history, { ...HISTORY, runs });
  const boxes = [...el.querySelectorAll<HTMLInputElement>(".cd-select")];
  for (const box of [boxes[0], boxes[2], boxes[3]]) box?.click();
  assert.match(find(el, ".cd-selection").textContent ?? "", /^3 runs selected/);
  named(el, "Delete …").click();
  const dialog = find<HTMLDialogElement>(el, "dialog[open]");
  assert.match(dialog.textContent ?? "", /Delete 3 runs\?/);
  named(dialog, "Delete").click();
  const deleted = { kind: "delete", prompt_ids: ["p1", "p3", "p4"], files: false };
  assert.deepEqual(model.takeSent(), [deleted]);
  model.set("runs", [runs[1], runs[3]]);
  assert.match(find(el, ".cd-selection").textContent ?? "", /^1 run selected/);
  const left = [...el.querySelectorAll<HTMLInputElement>(".cd-select")];
  assert.deepEqual(
    left.map((box) => box.checked),
    [false, true],
  );
});

test("runs without a picture say why, and a comparison tells runs of the same minute apart", () => {
  const problem = "node 3 failed: out of memory";
  const without = { ...RUN, pictures: [], kind: "no output" };
  const runs = [
    { ...without, status: "failed", problem },
    { ...without, prompt_id: "p2", status: "cancelled", created_at: "2020-01-02T03:04:59Z" },
    { ...without, prompt_id: "p3", kind: "text" },
  ];
  const { model, el } = show(history, { ...HISTORY, runs });
  const frames = [...el.querySelectorAll(".cd-run > .cd-frame")];
  assert.deepEqual(
    frames.map((frame) => frame.textContent),
    [problem, "", "text"],
  );
  assert.ok(frames[1]?.querySelector(".fa-ban"));
  const boxes = [...el.querySelectorAll<HTMLInputElement>(".cd-select")];
  for (const box of boxes.slice(0, 2)) box.click();
  named(el, "Compare").click();
  model.receive({ kind: "differences", prompt_ids: ["p2", "p1"], lines: [["a", "1", "2"]] });
  const heads = [...el.querySelectorAll(".cd-differences thead th")];
  const [, before = "", after = ""] = heads.map((head) => head.textContent ?? "");
  assert.match(before, /^before: run of .*:04:59/);
  assert.match(after, /^after: run of .*:04:05/);
  assert.match(find(el, "dialog[open] b").textContent ?? "", /:04:59.*before.*:04:05.*after/);
});

test("a run is pinned, its values are used again, and two are compared", () => {
  const older = { ...RUN, prompt_id: "p2" };
  const { model, el } = show(history, { ...HISTORY, runs: [RUN, older] });
  el.querySelector<HTMLButtonElement>(".cd-pin")?.click();
  assert.deepEqual(model.takeSent(), [{ kind: "pin", prompt_ids: ["p1"], pinned: true }]);
  const [first, second] = el.querySelectorAll<HTMLInputElement>(".cd-select");
  first?.click();
  named(el, "Use these values").click();
  assert.deepEqual(model.takeSent(), [{ kind: "reuse", prompt_id: "p1" }]);
  second?.click();
  named(el, "Select none").click();
  assert.equal(el.querySelectorAll(".cd-select:checked").length, 0);
  for (const box of el.querySelectorAll<HTMLInputElement>(".cd-select")) box.click();
  named(el, "Compare").click();
  assert.deepEqual(model.takeSent(), [{ kind: "compare", prompt_ids: ["p2", "p1"] }]);
  const lines = [
    ["KSampler › steps", "4", "<b>8</b>"],
    ["removed Note", "", ""],
  ];
  model.receive({ kind: "differences", prompt_ids: ["p2", "p1"], lines });
  const cells = [...el.querySelectorAll(".cd-differences tbody :is(th, td)")];
  assert.deepEqual(
    cells.map((cell) => cell.textContent),
    ["KSampler › steps", "4", "<b>8</b>", "removed Note"],
  );
});

test("a comparison goes through the pictures of both runs, with buttons and keys", () => {
  const pictures = (...names: string[]) =>
    names.map((name) => ({ name, kind: "image", query: `filename=${name}` }));
  const older = { ...RUN, prompt_id: "p2", pictures: pictures("a.png", "b.png") };
  const newer = { ...RUN, pictures: pictures("c.png", "d.png", "e.png") };
  const { el } = show(history, { ...HISTORY, runs: [newer, older] });
  for (const box of el.querySelectorAll<HTMLInputElement>(".cd-select")) box.click();
  named(el, "Compare").click();
  const dialog = find<HTMLDialogElement>(el, "dialog[open]");
  const shown = () => {
    const images = [...dialog.querySelectorAll<HTMLImageElement>(".cd-stack img")];
    const names = images.map(({ alt }) => alt).reverse();
    return [...names, find(dialog, "[role=status]").textContent];
  };
  const place = (before: number, after: number) =>
    `Before: picture ${before} of 2, after: picture ${after} of 3`;
  assert.deepEqual(shown(), ["a.png", "c.png", place(1, 1)]);
  const next = named(dialog, "Next pictures (right arrow key)");
  next.focus();
  next.click();
  assert.deepEqual(shown(), ["b.png", "d.png", place(2, 2)]);
  assert.ok(document.activeElement === next);
  press(next, "ArrowRight");
  assert.deepEqual(shown(), ["b.png", "e.png", place(2, 3)]);
  press(next, "ArrowRight");
  assert.deepEqual(shown(), ["a.png", "c.png", place(1, 1)]);
  press(find(dialog, "input[type=range]"), "ArrowLeft");
  assert.deepEqual(shown(), ["a.png", "c.png", place(1, 1)], "the key moves the slider");
  press(next, "ArrowLeft");
  assert.deepEqual(shown(), ["b.png", "e.png", place(2, 3)]);
  for (const modifier of ["altKey", "ctrlKey", "metaKey"]) {
    press(next, "ArrowLeft", { [modifier]: true });
    assert.deepEqual(shown(), ["b.png", "e.png", place(2, 3)], "the key is the browser's");
  }
  const link = dialog.querySelector<HTMLElement>(".cd-compare a");
  link?.focus();
  assert.ok(link && document.activeElement === link);
  press(link, "ArrowRight");
  assert.deepEqual(shown(), ["a.png", "c.png", place(1, 1)]);
  assert.ok(document.activeElement === next, "the link is gone");
});

test("the arrow keys leave a comparison of one picture each as it is", () => {
  const { el } = show(history, { ...HISTORY, runs: [RUN, { ...RUN, prompt_id: "p2" }] });
  for (const box of el.querySelectorAll<HTMLInputElement>(".cd-select")) box.click();
  named(el, "Compare").click();
  const dialog = find<HTMLDialogElement>(el, "dialog[open]");
  const slider = find(dialog, "input[type=range]");
  press(named(dialog, "Close"), "ArrowRight");
  assert.ok(find(dialog, "input[type=range]") === slider);
});

type Dates = { after?: string; before?: string };

/** Show the fields of the dates; return their group and both fields. */
function showDates(el: HTMLElement): [HTMLElement, HTMLInputElement, HTMLInputElement] {
  const group = find(el, "[aria-label=Dates]");
  const [from, to] = group.querySelectorAll("input");
  assert.ok(from && to && group.hidden);
  const time = find<HTMLSelectElement>(el, "[aria-label=Time]");
  time.value = "dates";
  time.dispatchEvent(new Event("change", { bubbles: true }));
  assert.ok(!group.hidden);
  return [group, from, to];
}

test("runs are filtered by dates in the time zone of the browser", async () => {
  const { model, el } = show(history, { ...HISTORY });
  const [group, from, to] = showDates(el);
  type(from, "2030-01-02");
  type(to, "2030-01-31");
  await until(() => Boolean((model.get("filter") as Dates).before));
  const days = { after: new Date(2030, 0, 2), before: new Date(2030, 1, 1) };
  const { after, before } = model.get("filter") as Dates;
  assert.deepEqual([after, before], [days.after.toISOString(), days.before.toISOString()]);
  assert.deepEqual([from.value, to.value], ["2030-01-02", "2030-01-31"]);
  const again = show(history, { ...HISTORY, filter: { after, before } });
  const kept = [...again.el.querySelectorAll<HTMLInputElement>("[aria-label=Dates] input")];
  assert.deepEqual(
    kept.map(({ value }) => value),
    ["2030-01-02", "2030-01-31"],
  );
  named(el, "Show all runs again").click();
  assert.ok(group.hidden);
  assert.equal((model.get("filter") as Dates).after, undefined);
});

test("the fields of the dates stay while there are no runs, and can be removed", () => {
  const { model, el } = show(history, { ...HISTORY });
  const [group] = showDates(el);
  assert.equal(model.get("filter"), HISTORY.filter, "nothing was sent");
  model.set("runs", []);
  assert.equal(el.hidden, false);
  named(el, "Show all runs again").click();
  assert.ok(group.hidden);
});

test("a date that is typed stays, and filters the runs when it is complete", async () => {
  const { model, el } = show(history, { ...HISTORY });
  const [group, from, to] = showDates(el);
  const problem = find(group, "[role=alert]");
  from.focus();
  for (const year of ["0002", "0020", "0202"]) type(from, `${year}-01-31`);
  await until(() => !problem.hidden);
  assert.equal(problem.textContent, "A year has four digits");
  assert.equal(model.get("filter"), HISTORY.filter, "nothing was sent");
  type(from, "2026-01-31");
  await until(() => Boolean((model.get("filter") as Dates).after));
  assert.deepEqual([from.value, problem.hidden], ["2026-01-31", true]);
  type(to, "2026-01-30");
  await until(() => !problem.hidden);
  assert.equal(problem.textContent, "The first date is after the second");
  assert.deepEqual(
    [from, to].map((input) => input.getAttribute("aria-invalid")),
    ["true", "true"],
  );
  assert.equal((model.get("filter") as Dates).before, "");
});

test("a picture in full size has its facts, and the arrows show the pictures of all runs", () => {
  const other = { name: "b.png", kind: "image", query: "filename=b.png" };
  const runs = [RUN, { ...RUN, prompt_id: "p2", pictures: [other], seeds: ["7"] }];
  const inputs = [["4.image", "Load Image: image"]];
  const { model, el } = show(history, { ...HISTORY, runs, inputs });
  el.querySelector<HTMLButtonElement>(".cd-larger")?.click();
  const facts = { kind: "facts", prompt_id: "p1", query: "filename=a.png" };
  assert.deepEqual(model.takeSent(), [facts]);
  model.receive({ ...facts, prompts: [["Positive: text", "<i>a cat</i>"]], folder: "/out" });
  assert.deepEqual(
    [...el.querySelectorAll(".cd-prompt")].map((each) => each.textContent),
    ["<i>a cat</i>", "/out"],
  );
  press(find(el, ".cd-lightbox"), "ArrowRight");
  assert.match(find(el, ".cd-lightbox .cd-cut").textContent ?? "", /^b.png {2}\(2 of 2\)/);
  assert.match(find(el, ".cd-about dl").textContent ?? "", /Seed7/);
  model.takeSent();
  named(el, "Use as Load Image: image").click();
  const use = { kind: "use", prompt_id: "p2", query: "filename=b.png", key: "4.image" };
  assert.deepEqual(model.takeSent(), [use]);
  assert.equal(find<HTMLDialogElement>(el, ".cd-lightbox").open, false);
});

/** Answer requests for files until so many were answered; return whether there were no others. */
async function answerFiles(model: FakeModel, number: number): Promise<boolean> {
  const requests = () => model.sent.filter(({ kind, only_size }) => kind === "file" && !only_size);
  await until(() => requests().length >= number);
  await new Promise((resolve) => setImmediate(resolve));
  const asked = requests();
  model.takeSent();
  for (const { id } of asked) model.receive({ kind: "file", id, mime: "image/png" });
  await new Promise((resolve) => setImmediate(resolve));
  return asked.length === number;
}

test("without the server of the page, pictures of runs are requested once and freed", async (t) => {
  answerRequests(() => ({ instance: "another" }));
  const urls = blobUrls(t);
  const runs = Array.from({ length: 1000 }, (_, n) => {
    const picture = { name: `${n}.png`, kind: "image", query: `filename=${n}.png` };
    return { ...RUN, prompt_id: `p${n}`, pictures: [picture] };
  });
  const { model, el, end } = show(history, { ...HISTORY, runs: runs.slice(5) });
  const near = el.querySelectorAll(".cd-run").length;
  scrollEverywhere();
  assert.ok(await answerFiles(model, near));
  for (let first = 4; first >= 0; first -= 1) {
    model.set("runs", runs.slice(first));
    scrollEverywhere();
    assert.ok(await answerFiles(model, 1), "only that of the new run");
  }
  model.set("runs", runs.slice(5));
  scrollEverywhere();
  assert.ok(await answerFiles(model, 0));
  const small = near + 5;
  assert.equal(urls.size, small);
  el.querySelector<HTMLButtonElement>(".cd-larger")?.click();
  assert.ok(await answerFiles(model, 1));
  press(find(el, ".cd-lightbox"), "ArrowRight");
  assert.ok(await answerFiles(model, 1));
  assert.equal(urls.size, small + 1);
  find<HTMLDialogElement>(el, ".cd-lightbox").close();
  assert.equal(urls.size, small);
  for (const box of [...el.querySelectorAll<HTMLInputElement>(".cd-select")].slice(0, 2))
    box.click();
  named(el, "Compare").click();
  scrollEverywhere();
  assert.ok(await answerFiles(model, 2));
  assert.equal(urls.size, small + 2);
  find<HTMLDialogElement>(el, "dialog[open]").close();
  assert.equal(urls.size, small);
  end();
  assert.equal(urls.size, 0);
});

test("the history is filtered", async () => {
  const labels = [["client", "acme"]];
  const { model, el } = show(history, { ...HISTORY, labels });
  const selects = el.querySelectorAll<HTMLSelectElement>(".cd-filters select");
  const [status, , label] = selects;
  assert.ok(status && label);
  status.value = "failed";
  status.dispatchEvent(new Event("change"));
  label.value = "client: acme";
  label.dispatchEvent(new Event("change"));
  type(find<HTMLInputElement>(el, "input[type=search]"), " cat ");
  const wanted = { search: "cat", status: "failed", days: 0, label: labels[0], pinned: false };
  await until(() => (model.get("filter") as { search?: string }).search === "cat");
  assert.deepEqual(model.get("filter"), wanted);
  model.set("runs", []);
  assert.equal(el.hidden, false, "so that the filter can be removed");
  named(el, "Show all runs again").click();
  assert.equal((model.get("filter") as { status?: string }).status, "");
});

const ITEM = { name: "a.png", kind: "image", query: "filename=a.png", small: true, waits: false };
const RESULT = {
  prompt_id: "p1",
  status: "success",
  title: "Success",
  facts: ["1.00 s"],
  problems: [],
  seeds: ["5"],
  items: [ITEM],
  pairs: [],
  texts: [],
  times: [],
  reusable: true,
};

const showResult = (more: object) =>
  show(gallery, { result: { ...RESULT, ...more }, server: SERVER });

test("without the server of the page, the files of a result are freed with the next one", async (t) => {
  answerRequests(() => ({ instance: "another" }));
  const urls = blobUrls(t);
  const film = { ...ITEM, name: "a.mp4", kind: "video", query: "filename=a.mp4" };
  const { model } = showResult({ items: [{ ...ITEM, small: false }, film] });
  for (const prompt_id of ["p2", "p3"]) {
    scrollEverywhere();
    assert.ok(await answerFiles(model, 2));
    assert.equal(urls.size, 2);
    model.set("result", { ...RESULT, prompt_id, items: [{ ...ITEM, small: false }, film] });
    assert.equal(urls.size, 0);
  }
});

test("the result of the last run is marked while another one goes on", () => {
  const { model, el } = show(gallery, { result: RESULT, server: SERVER, busy: true });
  const isBusy = () => [el.classList.contains("cd-busy"), el.getAttribute("aria-busy")];
  assert.deepEqual(isBusy(), [true, "true"]);
  assert.match(el.textContent ?? "", /Success/);
  model.set("result", { ...RESULT, prompt_id: "p2" });
  model.set("busy", false);
  assert.deepEqual(isBusy(), [false, "false"]);
});

test("few pictures and films share one grid, more are below each other", () => {
  const film = { ...ITEM, name: "film.mp4", kind: "video" };
  const counts = (pictures: number, films: number) => {
    const items = [...Array(pictures).fill(ITEM), ...Array(films).fill(film)];
    const { el } = showResult({ items });
    const own = [...el.querySelectorAll(".cd-pictures, .cd-players")];
    return own.map((part) => [part.className, part.children.length]);
  };
  assert.deepEqual(counts(1, 0), [["cd-pictures cd-single", 1]]);
  assert.deepEqual(counts(0, 1), [["cd-players", 1]]);
  assert.deepEqual(counts(0, 3), [["cd-pictures cd-few", 3]]);
  assert.deepEqual(counts(3, 1), [["cd-pictures cd-few", 4]]);
  assert.deepEqual(counts(4, 1), [
    ["cd-pictures cd-few", 4],
    ["cd-players", 1],
  ]);
  assert.deepEqual(counts(5, 0), [["cd-pictures", 5]]);
});

test("the size of a file is shown before the file is loaded", () => {
  const size: [number, number] = [1536, 1024];
  const film = { ...ITEM, name: "film.mp4", kind: "video", size };
  const { el } = showResult({ items: [{ ...ITEM, size }] });
  const button = find(el, ".cd-picture-button");
  assert.equal(button.title, "a.png · 1536 × 1024");
  assert.equal(find(button, ".cd-tag").textContent, "1536 × 1024");
  assert.equal(button.style.getPropertyValue("--cd-ratio"), "1.5");
  assert.equal(button.style.getPropertyValue("--cd-width"), "768px", "that of the small copy");
  const players = showResult({ items: [film] }).el;
  assert.match(find(players, "figcaption").textContent ?? "", /1536 × 1024/);
  const unknown = showResult({ items: [ITEM, film] }).el;
  assert.equal(find(unknown, ".cd-picture-button").classList.contains("cd-sized"), false);
});

test("control characters in the name of a file are replaced", () => {
  const items = [{ ...ITEM, name: "gpj.\u202eevil\u0000.png", kind: "file" }];
  const { el } = showResult({ items });
  assert.equal(find(el, ".cd-tile").title, "gpj.\ufffdevil\ufffd.png");
});

test("an option in an error message is not broken into two lines", () => {
  const problems = ["start it with --lowvram (launch_args), <b>"];
  const { el } = showResult({ problems });
  assert.equal(find(el, "[role=alert]").textContent, problems[0]);
  assert.equal(find(el, ".cd-unbroken").textContent, "--lowvram");
});

test("a failed run has its traceback and the log below it, and what to do for memory", () => {
  const failed = { status: "failed", failed: true, problems: ["out of memory"], no_memory: true };
  const { model, el } = showResult({ ...failed, traceback: "line 1\nline <b>2</b>" });
  const titles = [...el.querySelectorAll("details > summary")].map((each) => each.textContent);
  assert.deepEqual(titles.slice(0, 2), ["Traceback", "The last lines of ComfyUI's log"]);
  assert.match(el.textContent ?? "", /line <b>2<\/b>/);
  const log = el.querySelectorAll("details")[1];
  assert.ok(log);
  log.open = true; // the page of the tests sends the event by itself
  assert.deepEqual(model.takeSent(), [{ kind: "log" }]);
  model.receive({ kind: "log", text: "Killed" });
  assert.match(log.textContent ?? "", /Killed/);
  const free = [...el.querySelectorAll("button")].find((b) => b.textContent?.includes("Free"));
  free?.click();
  assert.deepEqual(model.takeSent(), [{ kind: "free" }]);
});

test("names and texts are not read as HTML", () => {
  const text = "<img src=x onerror=alert(1)>";
  const texts = [{ node: text, text, beginning: text, waits: false }];
  const { el } = showResult({
    items: [{ ...ITEM, name: text, kind: "3d" }],
    texts,
    problems: [text],
  });
  assert.equal(el.querySelector("[onerror]"), null);
  assert.equal(find(el, "pre").textContent, text);
});

test("a picture is loaded when it is near the screen; one that is gone is a file", async () => {
  const { el } = showResult({});
  const image = find<HTMLImageElement>(el, ".cd-picture-button img");
  assert.equal(image.hasAttribute("src"), false);
  scrollEverywhere();
  await until(() => image.hasAttribute("src"));
  assert.match(image.src, /thumbnail=768$/);
  image.dispatchEvent(new Event("error"));
  assert.equal(find(el, ".cd-tile").title, "a.png");
});

test("pairs are compared, and their pictures are not shown twice", () => {
  const items = [ITEM, { ...ITEM, name: "b.png" }, { ...ITEM, name: "c.png" }];
  const { el } = showResult({ items, pairs: [[0, 1]] });
  const slider = find<HTMLInputElement>(el, ".cd-compare input");
  assert.equal(slider.getAttribute("aria-label"), "Compare a.png with b.png");
  assert.equal(el.querySelectorAll(".cd-picture-button").length, 1);
});

test("outputs that the author did not choose are made when they are opened", () => {
  const { el } = showResult({
    items: [ITEM, { ...ITEM, name: "b.bin", kind: "file", waits: true }],
  });
  const rest = find<HTMLDetailsElement>(el, ".cd-rest");
  assert.equal(find(rest, "summary").textContent, "Other outputs (1)");
  assert.equal(rest.querySelector(".cd-tile"), null);
  rest.open = true;
  rest.dispatchEvent(new Event("toggle"));
  assert.ok(rest.querySelector(".cd-tile"));
});

test("a model is shown in 3D on a click; errors are shown in its tile", async () => {
  const items = [
    { ...ITEM, name: "a.glb", kind: "3d" },
    { ...ITEM, name: "b.spz", kind: "3d" },
  ];
  const { el } = showResult({ items });
  const buttons = () => [...el.querySelectorAll<HTMLButtonElement>(".cd-tile > .cd-button")];
  assert.equal(buttons().length, 1, "a splat in a format of its own has none");
  const [button] = buttons();
  assert.ok(button);
  const message = () => find(el, ".cd-error-text").textContent;
  for (const [length, said] of [
    [String(65 << 20), "It has 65.0 MiB, but at most 64.0 MiB are allowed"],
    ["10", "It is not available any more"],
  ] as const) {
    globalThis.fetch = async (url, options) => {
      if (String(url).includes("check-status")) return Response.json({ instance: "one" });
      const status = options?.method === "HEAD" ? 200 : 404;
      return new Response(null, { status, headers: { "Content-Length": length } });
    };
    button.click();
    await until(() => !button.disabled);
    assert.equal(message(), `It cannot be shown in 3D. ${said}.`);
  }
});

test("a long text is added to the page only while it is open", () => {
  const long = "word ".repeat(1000);
  const texts = [{ node: "Text", text: long, beginning: "word", waits: false }];
  const { el } = showResult({ items: [], texts });
  const details = find<HTMLDetailsElement>(el, "figure details");
  const whole = find(details, "pre");
  assert.equal(whole.textContent, "");
  details.open = true;
  details.dispatchEvent(new Event("toggle"));
  assert.equal(whole.textContent, long);
});

test("the values of a run can be used again", () => {
  const { el, model } = showResult({ items: [] });
  find(el, ".cd-head button").click();
  assert.deepEqual(model.sent, [{ kind: "reuse", prompt_id: "p1" }]);
  const text = "The values and seeds of this run are in the form now.";
  model.receive({ kind: "reused", text });
  const told = () => find(el, ".cd-head [role=status]").textContent;
  assert.equal(told(), text);
  model.set("result", { ...RESULT, prompt_id: "p2" });
  assert.equal(told(), "");
});

test("a panel without a kernel says so and is disabled, also parts that are added later", async () => {
  const kernel = { id: "k", status: "idle" };
  const slots: (() => void)[] = [];
  const signal = { connect: (slot: () => void) => slots.push(slot), disconnect: () => {} };
  const sessionContext = { session: { kernel }, statusChanged: signal, kernelChanged: signal };
  const setUp = (el: HTMLElement) => el.classList.add("panel");
  const state = { around: "panel", text: "The kernel is gone" };
  const { el } = show(
    {
      render({ model, el: root }) {
        model.widget_manager = { context: { sessionContext } };
        return kernelStatus.render({ model, el: root });
      },
    },
    state,
    setUp,
  );
  const input = document.createElement("input");
  const picture = Object.assign(document.createElement("button"), {
    className: "cd-picture-button",
  });
  el.append(input, picture);
  for (const slot of slots) slot();
  assert.equal(el.hidden, true);
  kernel.status = "dead";
  for (const slot of slots) slot();
  assert.equal(find(el, ".comfydeploy-error").textContent, "The kernel is gone");
  const later = document.createElement("button");
  el.append(later);
  await until(() => later.disabled);
  assert.equal(picture.disabled, false);
});

test("no event listener of a view remains after it is closed", () => {
  const states: [Parameters<typeof show>[0], Record<string, unknown>][] = [
    [button, { ...BUTTON }],
    [gallery, { result: RESULT, server: SERVER }],
    [history, { ...HISTORY }],
    [keys, { running: false }],
    [kernelStatus, { around: "x", text: "" }],
    [presets, PRESETS],
    [preview, { shown: false }],
    [progress, { state: STATE }],
    [runButton, { disabled: true, most: 1, problem: "" }],
    [searchCombo, { description: "", options: [], value: "", placeholder: "", free: true }],
    [start, { files: [], stored: [], examples: [], shown: true }],
  ];
  for (const [view, state] of states) {
    const { model, end } = show(view, state);
    assert.ok(model.listenerCount > 0);
    end();
    assert.equal(model.listenerCount, 0);
  }
});

const PRESETS = { names: ["Soft"], chosen: "", shown: true, stored: true, message: {} };

test("presets are chosen, saved under a new name, and deleted", () => {
  const { model, el } = show(presets, PRESETS);
  const input = find<HTMLInputElement>(el, "input");
  const [save, remove] = el.querySelectorAll<HTMLButtonElement>(":scope > .cd-line > button");
  assert.deepEqual([save?.disabled, remove?.disabled], [true, true]);
  type(input, "Hard");
  assert.deepEqual([save?.disabled, remove?.disabled], [false, true]);
  save?.click();
  assert.deepEqual(model.takeSent(), [{ kind: "save", name: "Hard", typed: [] }]);
  type(input, "Soft");
  press(input, "Enter");
  assert.deepEqual(model.takeSent(), [{ kind: "use", name: "Soft" }]);
  model.set("chosen", "Soft");
  remove?.click();
  assert.deepEqual(model.takeSent(), [{ kind: "delete", name: "Soft" }]);
  model.set("chosen", "");
  assert.equal(remove?.disabled, true);
});

test("values are saved under the name of another preset without loading that one before", () => {
  const { model, el } = show(presets, { ...PRESETS, names: ["Soft", "Hard"], chosen: "Hard" });
  const input = find<HTMLInputElement>(el, "input");
  type(input, "Soft");
  window.dispatchEvent(new Event("resize"));
  input.dispatchEvent(new Event("blur"));
  named(el, "Save").click();
  assert.deepEqual(model.takeSent(), [{ kind: "save", name: "Soft", typed: [] }]);
});

test("a preset can be chosen again, which brings its values back", () => {
  const { model, el } = show(presets, { ...PRESETS, chosen: "Soft" });
  const input = find<HTMLInputElement>(el, "input");
  for (const text of ["Soft", "So"]) {
    type(input, text);
    find(el, "li").click();
    assert.equal(input.value, "Soft");
    assert.deepEqual(model.takeSent(), [{ kind: "use", name: "Soft" }]);
  }
  named(el, "Save").click();
  assert.deepEqual(model.takeSent(), [{ kind: "save", name: "Soft", typed: [] }]);
});

test("a preset that another panel has changed offers both values", () => {
  const { model, el } = show(presets, { ...PRESETS, chosen: "Soft" });
  const message = find(el, ".cd-message");
  const [theirs, mine] = message.querySelectorAll<HTMLButtonElement>("button");
  assert.equal(theirs?.hidden, true);
  model.set("message", { text: "Another panel has changed it", kind: "conflict" });
  assert.match(message.textContent ?? "", /Another panel/);
  theirs?.click();
  mine?.click();
  assert.deepEqual(model.takeSent(), [
    { kind: "use", name: "Soft" },
    { kind: "save", name: "Soft", typed: [] },
  ]);
});

test("what is typed stays when the names of presets arrive", () => {
  const { model, el } = show(presets, PRESETS);
  const input = find<HTMLInputElement>(el, "input");
  input.focus();
  type(input, "Half a na");
  model.set("names", ["Soft", "Hard"]);
  assert.equal(input.value, "Half a na");
});

function showKeys(running: boolean) {
  const shown = show(keys, { running }, (el) => {
    const panel = document.createElement("div");
    panel.className = "comfydeploy-panel";
    panel.innerHTML =
      '<div class="comfydeploy-run"><button class="cd-primary"></button></div><input>' +
      '<div class="cd-bar-box"></div>';
    document.body.replaceChildren(panel);
    panel.querySelector(".cd-bar-box")?.append(el);
  });
  const panel = find(document.body, ".comfydeploy-panel");
  return { ...shown, panel, input: find<HTMLInputElement>(panel, "input") };
}

function keydown(element: HTMLElement, key: string, more: object = {}): void {
  const event = new Event("keydown", { bubbles: true, cancelable: true });
  element.dispatchEvent(Object.assign(event, { key, ...more }));
}

test("Ctrl+Enter runs, and ? shows the keys unless it is typed", async () => {
  const { panel, el, input } = showKeys(false);
  await until(() => panel.style.getPropertyValue("--cd-bar") !== "");
  let runs = 0;
  const run = find<HTMLButtonElement>(panel, ".comfydeploy-run .cd-primary");
  run.addEventListener("click", () => {
    runs += 1;
  });
  keydown(input, "Enter");
  assert.equal(runs, 0);
  keydown(input, "Enter", { ctrlKey: true });
  keydown(run, "Enter", { metaKey: true });
  assert.equal(runs, 2);
  const help = find<HTMLDialogElement>(el, "dialog");
  keydown(input, "?");
  assert.equal(help.open, false);
  keydown(run, "?");
  assert.equal(help.open, true);
});

test("JupyterLab's shortcuts stay out of each panel, and of what has the focus in it", async () => {
  show(kernelStatus, { around: "comfydeploy-panel", text: "" }, (el) => {
    document.body.innerHTML = '<div class="comfydeploy-panel"><button></button></div>';
    find(document.body, ".comfydeploy-panel").append(el);
  });
  const panel = find(document.body, ".comfydeploy-panel");
  await until(() => panel.hasAttribute("data-lm-suppress-shortcuts"));
  const button = find(panel, "button");
  assert.equal(button.hasAttribute("data-lm-suppress-shortcuts"), false);
  button.dispatchEvent(new Event("focusin", { bubbles: true }));
  assert.equal(button.hasAttribute("data-lm-suppress-shortcuts"), true);
});

test("Escape asks before it cancels", async () => {
  const { panel, model, el, input } = showKeys(false);
  await until(() => panel.style.getPropertyValue("--cd-bar") !== "");
  const question = find(el, ".cd-ask");
  keydown(input, "Escape");
  assert.equal(question.hidden, true, "there is nothing to cancel");
  model.set("running", true);
  input.focus();
  keydown(input, "Escape");
  assert.equal(question.hidden, false);
  const stop = find<HTMLButtonElement>(question, ".cd-primary");
  assert.equal(document.activeElement, stop);
  keydown(stop, "Escape");
  assert.equal(question.hidden, true);
  assert.equal(document.activeElement, input);
  assert.deepEqual(model.sent, []);
  keydown(input, "Escape");
  stop.click();
  assert.deepEqual(model.takeSent(), [{ kind: "cancel" }]);
  keydown(input, "Escape");
  model.set("running", false);
  assert.equal(question.hidden, true, "the run has ended");
});

test("a panel without a workflow offers three ways to begin", () => {
  const state = { files: ["a.json"], stored: ["<b>Kept</b>"], examples: ["Clouds"], shown: true };
  const { model, el } = show(start, state);
  const texts = [...el.querySelectorAll("button")].map((each) => each.textContent);
  assert.deepEqual(texts, ["a.json", "Open a file of this computer …", "<b>Kept</b>", "Clouds"]);
  for (const button of el.querySelectorAll("button")) button.click();
  assert.deepEqual(model.takeSent(), [
    { kind: "pick", title: "a.json" },
    { kind: "pick", title: "<b>Kept</b>" },
    { kind: "example", title: "Clouds" },
  ]);
  model.set("shown", false);
  assert.equal(el.hidden, true);
});
