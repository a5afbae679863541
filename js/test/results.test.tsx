import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { crc32, inflateSync } from "node:zlib";
import { signal } from "@preact/signals";
import { type ComponentChildren, render } from "preact";
import type { Batch } from "../src/shown_runs.ts";
import type { Query } from "../src/transport.ts";
import { blobUrls, find, press, scrollEverywhere, type, unfold, until } from "./page.ts";
import { card, details, file, output, Recorded, serverOf } from "./recorded.ts";

const { Gallery } = await import("../src/components/gallery.tsx");
const { History } = await import("../src/components/history.tsx");
const { Viewer } = await import("../src/components/viewer.tsx");
const { mediaOf } = await import("../src/media.tsx");
const { encodePNG } = await import("../src/png.ts");
const { pictureSize } = await import("../src/picture_size.ts");

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Let effects and answers happen, and everything come into sight. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) {
    await wait(60);
    scrollEverywhere();
  }
  await wait(20);
}

async function show(t: TestContext, children: ComponentChildren) {
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const draw = async (next: ComponentChildren) => {
    render(next, el);
    await settle();
  };
  t.after(() => render(null, el));
  await draw(children);
  const press = async (text: string) => {
    const found = [...el.querySelectorAll("button")].find(
      (each) => each.textContent?.includes(text) || each.getAttribute("aria-label")?.includes(text),
    );
    assert.ok(found, `no button ${text}`);
    found.click();
    await settle();
  };
  return { el, draw, press };
}

test("outputs are grouped by their nodes, those that the author chose first", async (t) => {
  const transport = new Recorded(serverOf([]));
  const run = details({
    outputs: [
      output("2", { title: "Draft <i>", files: [file("a.png")] }),
      output("9", {
        title: "Final",
        files: [file("b.png", { width: 20, height: 10 }), file("c.png")],
      }),
      output("11", { title: "Words", class_type: "Show", texts: ["<script>alert(1)</script>"] }),
    ],
    times: [{ node: "9", title: "Final", class_type: null, seconds: 1 }],
  });
  const { el, draw } = await show(t, <Gallery transport={transport} run={run} />);
  const titles = () => [...el.querySelectorAll(".cd-output > .cd-node")].map((e) => e.textContent);
  assert.deepEqual(titles(), ["Draft <i>", "Final", "Words"]);
  assert.equal(el.querySelector("script, i:not(.fa)"), null);
  assert.match(el.textContent, /<script>/);
  assert.match(el.textContent, /seed 18446744073709551615/);
  const sized = el.querySelector<HTMLElement>(".cd-sized");
  assert.equal(sized?.style.getPropertyValue("--cd-ratio"), "2", "its place is reserved");
  const pictures = el.querySelectorAll<HTMLElement>(".cd-picture-button");
  pictures[0]?.focus();
  for (const place of [1, 2, 2]) {
    press(document.activeElement as HTMLElement, "ArrowRight");
    assert.equal(document.activeElement, pictures[place], "the keys go on to other nodes");
  }
  await draw(<Gallery transport={transport} run={run} chosen={["9", "2"]} />);
  assert.deepEqual(titles(), ["Final", "Draft <i>"]);
  assert.match(el.textContent, /Other outputs \(1\)/);
});

test("a failed run says why, with traceback and log, and one of before is grey", async (t) => {
  const transport = new Recorded({
    ...serverOf([]),
    "comfyui/log": () => ({ lines: ["one", "two"] }),
    free: () => ({ gpu: { freed: 1 << 20 }, ram: { freed: 0 }, pending: false }),
  });
  const run = details({ status: "failed", why: "node <b>", traceback: "Trace", no_memory: true });
  const { el, draw, press } = await show(t, <Gallery transport={transport} run={run} />);
  assert.equal(el.querySelector("[role=alert]")?.textContent, "node <b>");
  await press("Free ComfyUI's memory");
  assert.match(el.textContent, /1\.0 MiB of GPU memory/);
  for (const details of el.querySelectorAll("details")) unfold(details);
  await settle();
  assert.match(el.textContent, /one\ntwo/);
  assert.match(el.textContent, /Trace/);
  await draw(<Gallery transport={transport} run={run} isEarlier />);
  assert.equal(el.querySelector("[role=alert]"), null);
  assert.match(el.textContent, /Earlier run/);
});

test("a picture that could not be loaded while signed out appears after the login", async (t) => {
  let isOut = true;
  const out = { status: 401, details: { reason: "login" }, message: "sign in" };
  const { view = () => {}, ...answers } = serverOf([]);
  const transport = new Recorded({
    ...answers,
    view: (asked) => (isOut ? out : view(asked)),
    "check-status": () => (isOut ? out : {}),
  });
  const run = details({ outputs: [output("2", { files: [file("a.png"), file("gone.png")] })] });
  const { el } = await show(t, <Gallery transport={transport} run={run} />);
  assert.equal(el.querySelectorAll(".cd-picture-button img").length, 2, "it is waited for");
  assert.equal(transport.take("check-status").length, 1, "once for all pictures");
  transport.answers.view = (asked) =>
    asked.query.filename === "gone.png" ? { status: 404, code: "not_found" } : view(asked);
  isOut = false;
  dispatchEvent(new Event("online"));
  await until(() => Boolean(el.querySelector<HTMLImageElement>("img")?.src.startsWith("blob:")));
  await until(() => Boolean(el.querySelector(".cd-tile")));
  assert.equal(el.querySelectorAll("img").length, 1);
});

test("pictures through the kernel are blobs: small ones are kept, whole ones freed", async (t) => {
  const urls = blobUrls(t);
  const transport = new Recorded(serverOf([]));
  const run = details({ outputs: [output("2", { files: [file("a.png"), file("b.png")] })] });
  const { el, press, draw } = await show(t, <Gallery transport={transport} run={run} />);
  assert.equal(transport.take("view").filter(({ query }) => query.thumbnail).length, 2);
  assert.equal(urls.size, 2);
  await press("a.png: show in full size");
  assert.equal(urls.size, 3);
  const dialog = el.querySelector("dialog");
  assert.ok(dialog);
  assert.match(dialog.textContent ?? "", /a\.png \(1 of 2\)/);
  const key = async (name: string) => {
    dialog.dispatchEvent(Object.assign(new Event("keydown", { bubbles: true }), { key: name }));
    await settle();
  };
  await key("ArrowRight");
  assert.match(dialog.textContent ?? "", /b\.png \(2 of 2\)/);
  assert.equal(urls.size, 3, "the one before is freed");
  await key("c");
  assert.ok(dialog.querySelector(".cd-compare"));
  await press("Close");
  assert.equal(el.querySelector("dialog"), null);
  assert.equal(urls.size, 2);
  await draw(null);
  assert.equal(urls.size, 2);
});

test("a picture that is gone is a tile that says why", async (t) => {
  const answers = {
    ...serverOf([]),
    view: () => ({ status: 404, code: "x", message: "not here" }),
  };
  const run = details({ outputs: [output("2", { files: [file("a.png")] })] });
  const { el } = await show(t, <Gallery transport={new Recorded(answers)} run={run} />);
  const tile = () => el.querySelector(".cd-tile")?.textContent ?? "";
  await until(() => /a\.png.*gone.*not here/.test(tile()));
  assert.equal(el.querySelector(".cd-tile a"), null, "there is nothing to download");
});

test("a picture with very many pixels is shown as a copy until all are wanted", async (t) => {
  const transport = new Recorded(serverOf([]));
  const huge = file("huge.png", { width: 12_000, height: 9000 });
  const media = mediaOf(transport);
  const { el, press } = await show(
    t,
    <Viewer media={media} pictures={[huge]} start={0} onClose={() => {}} />,
  );
  assert.deepEqual(
    transport.take("view").map(({ query }) => query.thumbnail),
    ["1024"],
  );
  assert.match(el.textContent, /108 million pixels/);
  const whole = [...el.querySelectorAll("button")].find((each) =>
    /Show all/.test(each.textContent),
  );
  whole?.focus();
  await press("Show all pixels");
  assert.equal(document.activeElement?.tagName, "DIALOG", "its keys go on without that button");
  assert.deepEqual(
    transport.take("view").map(({ query }) => query.thumbnail),
    [undefined],
  );
});

/** Return the requests for whole pages; others only look for changes. */
function loadedPages(asked: { query: Query }[]): Query[] {
  return asked.map(({ query }) => query).filter(({ limit }) => Number(limit) > 10);
}

test("of 100,000 runs only those that are visible are loaded and in the page", async (t) => {
  const runs = Array.from({ length: 100_000 }, (_, number) => card(100_000 - number));
  const transport = new Recorded(serverOf(runs), "/");
  const { el } = await show(t, <History transport={transport} structure="s" />);
  assert.match(el.textContent, /History \(100,000\)/);
  assert.ok(el.querySelectorAll(".cd-run").length < 40);
  const [first, ...others] = loadedPages(transport.take("runs/cards"));
  assert.deepEqual([first?.offset, first?.cursor, others.length], [0, undefined, 0]);
  const wall = el.querySelector<HTMLElement>(".cd-wall");
  assert.ok(wall);
  const scrollTo = async (top: number) => {
    wall.scrollTop = top;
    wall.dispatchEvent(new Event("scroll"));
    await settle();
  };
  const places = () =>
    [...el.querySelectorAll<HTMLElement>("li")].map((item) => {
      const picture = item.querySelector("img")?.getAttribute("src") ?? "";
      return [Number(item.dataset.place), Number(/picture(?:%20|\+| )(\d+)/.exec(picture)?.[1])];
    });
  // The list is taller than an element can be, so a pixel is several of the list.
  const height = Number.parseInt(find<HTMLElement>(wall, "ul").style.height, 10);
  assert.ok(height < 16_000_000 && height > 10_000_000);
  await scrollTo(height / 2);
  const [jump] = loadedPages(transport.take("runs/cards"));
  assert.ok(Number(jump?.offset) > 40_000 && jump?.cursor, "from where the list begins");
  runs.unshift(card(100_001), card(100_002)); // others run something
  await scrollTo(height / 2 + 6000);
  const further = loadedPages(transport.take("runs/cards"));
  assert.ok(further.length > 0 && further.every(({ cursor }) => cursor));
  const shown = places().filter(([place]) => Number(place) > 0);
  assert.ok(shown.length > 3);
  for (const [place, number] of shown) assert.equal(number, 100_000 - Number(place));
  assert.ok(el.querySelectorAll(".cd-run").length < 40);
  await scrollTo(height);
  assert.equal(places().at(-1)?.[0], 99_999, "the last one is reached");
});

test("runs are searched, selected, compared, pinned and deleted", async (t) => {
  const runs = [3, 2, 1].map((number) => card(number));
  const transport = new Recorded(serverOf(runs));
  const shown: string[] = [];
  const edits = signal(0);
  const { el, press: pressButton } = await show(
    t,
    <History
      transport={transport}
      structure="s"
      onShow={(id) => shown.push(id)}
      onReuse={(id) => `Values of ${id}`}
      edits={edits}
    />,
  );
  const boxes = () => [...el.querySelectorAll<HTMLInputElement>(".cd-select")];
  const select = async (place: number) => {
    boxes()[place]?.click();
    await settle();
  };
  el.querySelector<HTMLElement>(".cd-run")?.click();
  assert.deepEqual(shown, ["p3"]);
  await select(0);
  await pressButton("Use these values");
  assert.match(el.textContent, /Values of p3/);
  edits.value += 1;
  await settle();
  assert.doesNotMatch(el.textContent, /Values of p3/, "the form has others now");
  await select(1);
  await select(2);
  assert.match(el.textContent, /Two runs can be compared/);
  await select(2);
  await pressButton("Compare");
  assert.match(el.querySelector("table")?.textContent ?? "", /#f06fa0#0000ff/);
  assert.deepEqual(transport.take("runs/differences")[0]?.query, { first: "p2", second: "p3" });
  await pressButton("Close");
  await pressButton("Pin");
  assert.equal(el.querySelectorAll(".cd-pin[aria-pressed=true]").length, 1 + 1);
  await pressButton("Delete …");
  assert.match(el.querySelector("dialog")?.textContent ?? "", /Delete 2 runs\?/);
  const confirm = el.querySelector<HTMLElement>("dialog .cd-danger");
  confirm?.click();
  await settle();
  assert.match(el.textContent, /2 runs and 0 files deleted/);
  assert.match(el.textContent, /History \(1\)/);
  const search = el.querySelector<HTMLInputElement>("input[type=search]");
  assert.ok(search);
  type(search, "nothing like it");
  await wait(350);
  await settle();
  assert.match(el.textContent, /No runs match/);
});

test("runs get stars and notes, by keys, buttons and in the viewer", async (t) => {
  const runs = [3, 2, 1].map((number) => card(number));
  const transport = new Recorded(serverOf(runs));
  const { el, press: pressButton } = await show(
    t,
    <History transport={transport} structure="s" onShow={() => {}} />,
  );
  const stars = () => runs.filter(({ starred }) => starred).map((run) => run.prompt_id);
  const key = async (target: Element, name: string, more = {}) => {
    const event = { key: name, bubbles: true, cancelable: true, ...more };
    target.dispatchEvent(new KeyboardEvent("keydown", event));
    await settle();
  };
  const first = el.querySelector(".cd-run") as HTMLElement;
  await key(first, "s", { ctrlKey: true }); // the browser's
  assert.deepEqual(stars(), []);
  await key(first, "S");
  assert.deepEqual(stars(), ["p3"]);
  assert.equal(el.querySelectorAll(".cd-star[aria-pressed=true]").length, 1);
  el.querySelector<HTMLElement>(".cd-larger")?.click();
  await settle();
  const viewer = find<HTMLElement>(el, "dialog");
  const note = find<HTMLTextAreaElement>(viewer, "textarea");
  note.value = "<b>the best s";
  note.dispatchEvent(new Event("input", { bubbles: true }));
  await key(note, "s"); // it is typed
  assert.deepEqual(stars(), ["p3"]);
  await key(viewer, "s");
  assert.deepEqual(stars(), []);
  await key(viewer, "ArrowRight"); // what was typed is kept
  assert.equal(runs[0]?.note, "<b>the best s");
  await key(viewer, "s");
  assert.deepEqual(stars(), ["p2"]);
  await pressButton("Close");
  find<HTMLElement>(el, "[aria-label='Only runs with a star']").click();
  await settle();
  await until(() => el.querySelectorAll(".cd-run").length === 1);
  assert.match(find(el, "summary").textContent ?? "", /History \(1\)/);
});

test("a gallery shows the results of all workflows, and finds them", async (t) => {
  const runs = [
    card(4, { workflow_id: "w", workflow: "Fox" }),
    card(3, { pictures: ["a", "b", "c", "d", "e", "f"].map((name) => file(`${name}.png`)) }),
    card(2, { pictures: [], medium: "text" }),
    card(1, { status: "failed" }),
  ];
  const transport = new Recorded({
    ...serverOf(runs),
    workflows: () => [{ id: "w", name: "<b>Fox" }],
    "runs/details": () => details({ outputs: [output("9", { texts: ["a poem"] })] }),
  });
  const { el, press: pressButton } = await show(t, <History transport={transport} isGallery />);
  assert.match(find(el, "summary").textContent ?? "", /Gallery \(3\)/);
  const asked = () => transport.take("runs/cards").at(-1)?.query ?? {};
  assert.equal(asked().status, "success");
  const [fox, tiles, poem] = el.querySelectorAll<HTMLElement>(".cd-run");
  assert.match(fox?.textContent ?? "", /Fox/);
  assert.equal(tiles?.querySelectorAll("img").length, 4);
  assert.match(tiles?.textContent ?? "", /\+2/);
  fox?.click(); // a click shows the picture
  await settle();
  assert.match(find(el, "dialog").textContent ?? "", /picture 4.png \(1 of 7\)/);
  await pressButton("Close");
  poem?.click();
  await settle();
  assert.match(find(el, "dialog").textContent ?? "", /a poem/);
  await pressButton("Close");
  const chosen = find<HTMLSelectElement>(el, "select[aria-label=Workflow]");
  assert.equal(chosen.textContent, "Any workflow<b>Fox");
  chosen.value = "w";
  chosen.dispatchEvent(new Event("change", { bubbles: true }));
  await settle();
  const { workflow_id, status } = asked();
  assert.deepEqual([workflow_id, status], ["w", "success"]);
  find<HTMLElement>(el, "[aria-label='Show all runs again']").click();
  await settle();
  const all = asked();
  assert.deepEqual([all.workflow_id, all.status], [undefined, "success"]);
});

test("what is typed into one filter soon after another is used, too", async (t) => {
  const transport = new Recorded(serverOf([card(1)]));
  const { el } = await show(t, <History transport={transport} structure="s" />);
  const search = find<HTMLInputElement>(el, "input[type=search]");
  const time = find<HTMLSelectElement>(el, "select[aria-label=Time]");
  type(search, "red ");
  await wait(350);
  assert.equal(search.value, "red ", "a word may follow");
  time.value = "dates";
  time.dispatchEvent(new Event("change", { bubbles: true }));
  await settle();
  transport.take("runs/cards");
  const [from, to] = el.querySelectorAll<HTMLInputElement>("input[type=date]");
  assert.ok(from && to);
  type(from, "2020-01-31");
  type(search, "red harbour");
  type(to, "2020-01-30");
  await wait(350);
  assert.match(el.textContent, /The first date is after the second/);
  assert.deepEqual([from.value, to.value], ["2020-01-31", "2020-01-30"]);
  const [asked] = transport.take("runs/cards");
  assert.equal(asked?.query?.search, "red harbour");
  assert.equal(asked?.query?.after, undefined, "dates that contradict each other are not used");
});

test("a batch stands among the runs by its time, opens to its sheet and can be deleted", async (t) => {
  const batch = (number: number, more: object = {}): Batch => ({
    batch_id: `b${number}`,
    state: "done",
    why: "",
    title: "<i>Fox</i>",
    created_at: card(number).created_at.replace(":00.", ":30."), // after the run of this number
    finished_at: "2026-01-02T01:00:00Z",
    total: 6,
    counts: { success: 5, failed: 1 },
    fraction: 1,
    ...more,
  });
  const running = { state: "running", finished_at: null, counts: { success: 1, waiting: 5 } };
  const all = [batch(2, running), batch(1)];
  const heads = { row_title: "", rows: [], column_title: "", columns: [] };
  const deleted = { runs: 6, files: 6, bytes: 9, kept: [], kept_count: 0 };
  const remove = () => {
    all.pop();
    return deleted;
  };
  const transport = new Recorded({
    ...serverOf([card(3), card(2), card(1)], all),
    "batch/b1": ({ method }) => (method === "DELETE" ? remove() : { ...batch(1), notes: [] }),
    "batch/b1/table": () => ({ labels: [], heads, points: [] }),
    "batch/b2": () => ({ ...all[0], counts: { success: 2, waiting: 4 } }),
  });
  const { el, press } = await show(t, <History transport={transport} structure="s" />);
  assert.match(find(el, "summary").textContent ?? "", /History \(5\)/);
  const kinds = () =>
    [...el.querySelectorAll(".cd-main")].map((each) => each.classList.contains("cd-batch"));
  assert.deepEqual(kinds(), [false, true, false, true, false]);
  const [first, second] = el.querySelectorAll<HTMLElement>(".cd-batch");
  assert.match(first?.textContent ?? "", /Running: 2 of 6 points/, "it is followed");
  assert.ok(first && second);
  assert.match(second.title, /<i>Fox<\/i>/);
  second.click();
  await settle();
  assert.match(find(el, ".cd-opened .comfydeploy-sheet").textContent ?? "", /Done: 6 of 6/);
  assert.equal(second.getAttribute("aria-expanded"), "true");
  await press("Delete the batch …");
  const [runs, files] = el.querySelectorAll<HTMLInputElement>("dialog input[type=checkbox]");
  assert.deepEqual([runs?.checked, files?.checked], [true, false]);
  files?.click();
  await settle();
  find(el, "dialog .cd-danger").click();
  await until(() => /6 runs and 6 files/.test(el.textContent ?? ""));
  const [asked] = transport.take("batch/b1").filter(({ method }) => method === "DELETE");
  assert.deepEqual(asked?.query, { runs: true, files: true });
  await until(() => kinds().length === 4);
  assert.equal(el.querySelector(".cd-opened"), null);
  type(find<HTMLInputElement>(el, "input[type=search]"), "p");
  await until(() => kinds().length === 3); // a search finds points one by one
});

test("keys move in the list, and a new run of others appears", async (t) => {
  const runs = [3, 2, 1].map((number) => card(number));
  const transport = new Recorded(serverOf(runs));
  const { el, draw } = await show(t, <History transport={transport} revision={1} />);
  const entries = () => [...el.querySelectorAll<HTMLElement>(".cd-run")];
  const tabs = () => entries().map(({ tabIndex }) => tabIndex);
  assert.deepEqual(tabs(), [0, -1, -1]);
  entries()[0]?.focus();
  runs.unshift(card(4));
  await draw(<History transport={transport} revision={2} />);
  assert.deepEqual(tabs(), [-1, 0, -1, -1], "it stays with its run");
  const second = entries()[1];
  assert.ok(second);
  press(second, "ArrowRight");
  await settle();
  assert.deepEqual(tabs(), [-1, -1, 0, -1]);
  assert.match(document.activeElement?.textContent ?? "", /run of/);
  runs.unshift(card(5)); // the list has been scrolled, so what is seen keeps its place
  await until(() => el.querySelector(".cd-newer") !== null);
  assert.deepEqual(tabs(), [-1, -1, 0, -1]);
  find<HTMLElement>(el, ".cd-newer button").click();
  await until(() => entries().length === 5);
});

test("the size of a picture is read from the beginning of its file", async () => {
  const bytes = (...parts: (string | number[])[]) =>
    new Blob(parts.map((part) => (typeof part === "string" ? part : new Uint8Array(part))));
  const png = bytes(
    [0x89],
    "PNG\r\n",
    [26, 10, 0, 0, 0, 13],
    "IHDR",
    [0, 0, 46, 224, 0, 0, 35, 40],
  );
  assert.deepEqual(await pictureSize(png), [12_000, 9000]);
  const frame = [0xff, 0xc2, 0, 17, 8, 0, 100, 1, 0];
  const jpeg = bytes([0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc4, 0, 2], frame);
  assert.deepEqual(await pictureSize(jpeg), [256, 100]);
  const webp = bytes(
    "RIFF",
    [0, 0, 0, 0],
    "WEBPVP8X",
    [10, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 49, 0, 0],
  );
  assert.deepEqual(await pictureSize(webp), [100, 50]);
  for (const other of [
    bytes("GIF89a"),
    bytes("plain text"),
    bytes([0xff, 0xd8, 0xff, 0xe0, 0, 0]),
  ]) {
    assert.equal(await pictureSize(other), null);
  }
});

test("a picture of unknown size is not decoded if it has too many pixels", async (t) => {
  const head = [0x89, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82];
  const large = new Uint8Array([...head, 0, 0, 46, 224, 0, 0, 35, 40]);
  const view = ({ query }: { query: Query }) => new Blob(query.thumbnail ? ["small"] : [large]);
  const transport = new Recorded({ ...serverOf([]), view });
  const media = mediaOf(transport);
  const { el } = await show(
    t,
    <Viewer media={media} pictures={[file("a.png")]} start={0} onClose={() => {}} />,
  );
  assert.match(el.textContent, /108 million pixels/);
  const asked = transport.take("view").map(({ query }) => query.thumbnail);
  assert.deepEqual(asked, [undefined, "1024"]);
});

test("a PNG keeps the colours of pixels that are transparent", async () => {
  const pixels = Uint8ClampedArray.from({ length: 3 * 2 * 4 }, (_, place) =>
    place % 4 === 3 ? 0 : place * 7,
  );
  const content = new Uint8Array(await (await encodePNG(pixels, 3, 2)).arrayBuffer());
  const view = new DataView(content.buffer);
  const length = view.getUint32(33);
  assert.equal(crc32(content.subarray(37, 41 + length)), view.getUint32(41 + length));
  const rows = inflateSync(content.subarray(41, 41 + length));
  const found: number[] = [];
  for (let row = 0; row < 2; row += 1) {
    assert.equal(rows[row * 13], 1);
    for (let at = 0; at < 12; at += 1) {
      const left = at < 4 ? 0 : (found[row * 12 + at - 4] ?? 0);
      found.push(((rows[row * 13 + 1 + at] ?? 0) + left) & 255);
    }
  }
  assert.deepEqual(found, [...pixels]);
});
