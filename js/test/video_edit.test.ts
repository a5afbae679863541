import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import {
  between,
  drawn,
  misfit,
  moved,
  partsOf,
  timeText,
  withParts,
} from "../src/viewers/video_edit.ts";
import { find, press, type, until } from "./page.ts";
import { field, showForm } from "./shown_form.ts";

const VIDEO = { width: 320, height: 180, duration: 8 };
const TRIM = '{"trim":{"start_time":1.5,"duration":2}}';
const CROP = { x: 40, y: 20, width: 160, height: 90 };

test("a value has the numbers that it lacks as 0, and keeps what is not known", () => {
  for (const wrong of [
    null,
    "",
    "[]",
    "5",
    "null",
    "{",
    '{"trim":5}',
    '{"trim":{"duration":"2"}}',
  ]) {
    assert.deepEqual(partsOf(wrong), partsOf("{}"), String(wrong));
  }
  const hostile = '{"trim":{"start_time":-1,"duration":1e999},"crop":{"x":true,"width":[1]}}';
  assert.deepEqual(partsOf(hostile), partsOf("{}"));
  const later = '{"speed":2,"trim":{"start_time":1,"ease":true}}';
  assert.equal(
    withParts(later, { trim: { start_time: 3, duration: 0 } }),
    '{"speed":2,"trim":{"start_time":3,"ease":true,"duration":0}}',
  );
  assert.equal(withParts("[1]", { crop: CROP }), `{"crop":${JSON.stringify(CROP)}}`);
});

test("the ends of a trim stay in the video and in their order", () => {
  const trim = { start_time: 1.5, duration: 2 };
  assert.deepEqual(moved(trim, "start", 2.004, 8), { start_time: 2, duration: 1.5 });
  assert.deepEqual(moved(trim, "start", -4, 8), { start_time: 0, duration: 3.5 });
  assert.deepEqual(moved(trim, "start", 7, 8), { start_time: 3.49, duration: 0.01 });
  assert.deepEqual(moved(trim, "end", 5.25, 8), { start_time: 1.5, duration: 3.75 });
  assert.deepEqual(moved(trim, "end", 0, 8), { start_time: 1.5, duration: 0.01 });
  assert.deepEqual(moved(trim, "end", 9, 8), { start_time: 1.5, duration: 0 }, "until the end");
  const open = { start_time: 0, duration: 0 };
  assert.deepEqual(moved(open, "start", 3, 8), { start_time: 3, duration: 0 });
});

test("a cut-out has whole pixels of the video, and all of it is no cut-out", () => {
  assert.deepEqual(between([200.4, 110.2], [40, 20], VIDEO), CROP);
  assert.deepEqual(between([-50, 100], [100, 900], VIDEO), {
    x: 0,
    y: 100,
    width: 100,
    height: 80,
  });
  assert.deepEqual(between([-5, -5], [999, 999], VIDEO), { x: 0, y: 0, width: 0, height: 0 });
  assert.deepEqual(drawn({ ...CROP, width: 0 }, VIDEO), { ...CROP, width: 280 });
});

test("a value that does not fit its video is told", () => {
  const at = (trim: object, crop: object = {}) =>
    misfit(partsOf(JSON.stringify({ trim, crop })), VIDEO);
  assert.equal(at({ start_time: 1, duration: 7 }, CROP), "");
  assert.match(at({ start_time: 8 }), /The video ends before, at 0:08.00/);
  assert.match(at({ start_time: 4, duration: 5 }), /ends before/);
  assert.match(at({}, { ...CROP, width: 300 }), /not inside the video \(320 × 180\)/);
  assert.match(at({}, { y: 180 }), /not inside the video/);
  assert.equal(misfit(partsOf(TRIM), { width: 0, height: 0, duration: 0 }), "", "none is known");
  assert.equal(timeText(61.239), "1:01.24");
});

async function showEdit(t: TestContext, features: string[], original: string) {
  const fields = [
    field("1.file", "video", "a.webm", { label: "Film" }),
    field("1.edit", "video_edit", original, { label: "Edit", edit: { features, video: "1.file" } }),
  ];
  const shown = await showForm(t, fields, { base: "/" });
  await until(() => shown.el.querySelector(".cd-video-edit") !== null); // its script is loaded
  const root = find(shown.el, ".cd-video-edit");
  const number = (label: string) =>
    root.querySelector(`input[aria-label^="Edit: ${label}"]`) as HTMLInputElement;
  const value = () => shown.state.values.value["1.edit"];
  return { ...shown, root, number, value };
}

/** Let the video of a control be loaded. */
async function loaded(root: HTMLElement, facts: object = {}) {
  const film = find<HTMLVideoElement>(root, "video");
  await until(() => film.src.includes("a.webm"));
  const known = { videoWidth: 320, videoHeight: 180, duration: 8, currentTime: 0, ...facts };
  for (const [name, value] of Object.entries(known)) {
    Object.defineProperty(film, name, { value, writable: true });
  }
  film.dispatchEvent(new Event("loadedmetadata"));
  return film;
}

test("the numbers of an edit work without the video, and wrong ones are refused", async (t) => {
  const { el, root, number, value, state } = await showEdit(t, ["trim", "crop"], TRIM);
  assert.equal(find(root, ".cd-filming").hidden, true);
  assert.equal(number("start").value, "1.5");
  type(number("start"), "2.25");
  const crop = { x: 0, y: 0, width: 0, height: 0 };
  assert.equal(value(), JSON.stringify({ trim: { start_time: 2.25, duration: 2 }, crop }));
  const before = value();
  for (const wrong of ["-1", "", "1e999"]) type(number("duration"), wrong);
  type(number("width"), "10.5");
  assert.equal(value(), before);
  assert.match(el.textContent ?? "", /width must be a whole number of pixels, from 0/);
  number("width").dispatchEvent(new Event("change"));
  assert.equal(number("width").value, "0");
  find(root, "button.cd-button").click();
  assert.equal(value(), JSON.stringify({ trim: { start_time: 0, duration: 0 }, crop }));
  state.change("1.edit", '{"trim":{"start_time":4}}');
  assert.equal(number("start").value, "4");
});

test("an edit shows its video, and its ends are moved by keys", async (t) => {
  const { root, number, value } = await showEdit(t, ["trim"], TRIM);
  assert.equal(number("width"), null, "only what the input has");
  const film = await loaded(root);
  assert.equal(find(root, ".cd-filming").hidden, false);
  const start = find(root, "[role=slider][aria-label='Edit: start']");
  const end = find(root, "[role=slider][aria-label='Edit: end']");
  assert.equal(start.getAttribute("aria-valuetext"), "1.50 seconds");
  press(start, "ArrowRight");
  press(end, "ArrowLeft", { shiftKey: true });
  assert.equal(value(), '{"trim":{"start_time":1.6,"duration":0.9}}');
  assert.equal(film.currentTime, 2.5, "the picture of the end that was moved");
  press(end, "End");
  assert.equal(value(), '{"trim":{"start_time":1.6,"duration":0}}');
  assert.equal(end.getAttribute("aria-valuenow"), "8.00");
  type(number("start"), "9");
  assert.match(find(root, "[role=status]").textContent ?? "", /The video ends before/);
});

test("a video that the browser cannot show leaves the numbers", async (t) => {
  const { root, state } = await showEdit(t, ["trim", "crop"], TRIM);
  const film = await loaded(root, { videoWidth: 0 });
  assert.equal(find(root, ".cd-filming").hidden, true);
  assert.match(find(root, "[role=status]").textContent ?? "", /the numbers work without it/);
  film.onerror?.(new Event("error"));
  assert.match(find(root, "[role=status]").textContent ?? "", /cannot show the video/);
  state.change("1.file", "");
  assert.equal(find(root, "[role=status]").textContent, "");
  assert.equal(film.getAttribute("src"), null);
});
