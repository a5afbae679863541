import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { signal } from "@preact/signals";
import { render } from "preact";
import { blobUrls, find, press, until } from "./page.ts";
import { Recorded } from "./recorded.ts";

const { Preview } = await import("../src/components/preview.tsx");
const { RunBar } = await import("../src/components/run_bar.tsx");
const { RunQueue } = await import("../src/state/runs.ts");

const tick = () => new Promise((resolve) => setTimeout(resolve, 30));

async function show(t: TestContext, more: object = {}) {
  const panel = document.createElement("div");
  panel.className = "comfydeploy-panel";
  panel.innerHTML = "<input><button></button><div></div>";
  document.body.replaceChildren(panel);
  const [input, other, el] = panel.children as unknown as [HTMLElement, HTMLElement, HTMLElement];
  const transport = new Recorded({
    "check-status": () => ({ prompt_id: "p1", status: "queued", queue_position: 1 }),
    interrupt: () => ({}),
  });
  const runs = new RunQueue(transport, { accepted() {}, refused() {}, ended() {} });
  let clicks = 0;
  const onRun = () => {
    clicks += 1;
  };
  const facts = {
    isReady: true,
    lost: "",
    state: "Ready",
    error: "",
    problem: "",
    note: "",
    onDownload: null,
    actions: [],
  };
  render(<RunBar runs={runs} times={signal("1")} {...facts} {...more} onRun={onRun} />, el);
  t.after(() => {
    runs.end();
    render(null, el);
  });
  await until(() => panel.style.getPropertyValue("--cd-bar") !== ""); // effects come after a frame
  return { panel, input, other, el, runs, transport, clicks: () => clicks };
}

test("Ctrl+Enter runs, and ? shows the keys unless it is typed", async (t) => {
  const { panel, input, other, clicks } = await show(t);
  press(input, "Enter");
  assert.equal(clicks(), 0);
  press(input, "Enter", { ctrlKey: true });
  press(other, "Enter", { metaKey: true });
  assert.equal(clicks(), 2);
  const help = find<HTMLDialogElement>(panel, "dialog.cd-help");
  press(input, "?");
  assert.equal(help.open, false);
  press(other, "?");
  assert.equal(help.open, true);
});

test("Escape asks before it cancels", async (t) => {
  const { panel, input, runs, transport } = await show(t);
  const question = () => panel.querySelector<HTMLElement>(".cd-ask");
  const sent = () => transport.take("interrupt").map(({ body }) => body);
  const stop = () => find<HTMLButtonElement>(question() ?? panel, ".cd-primary");
  press(input, "Escape");
  await tick();
  assert.equal(question(), null, "there is nothing to cancel");
  runs.follow("p1");
  await tick();
  input.focus();
  press(input, "Escape");
  await tick();
  assert.equal(document.activeElement, stop());
  press(stop(), "Escape");
  await tick();
  assert.equal(question(), null);
  assert.equal(document.activeElement, input);
  assert.deepEqual(sent(), []);
  press(input, "Escape");
  await tick();
  stop().click();
  await tick();
  assert.deepEqual(sent(), [{ prompt_id: "p1" }]);
  press(input, "Escape");
  await tick();
  assert.ok(question());
  runs.followed.value = [];
  await tick();
  assert.equal(question(), null, "the run has ended");
});

test("a wrong number of runs is marked at its field", async (t) => {
  const { el, clicks } = await show(t);
  const field = find<HTMLInputElement>(el, "input[type=number]");
  field.value = "101";
  field.dispatchEvent(new Event("input", { bubbles: true }));
  find<HTMLButtonElement>(el, ".comfydeploy-run button").click();
  await until(() => el.querySelector("[aria-invalid=true]") !== null);
  assert.equal(clicks(), 0);
  assert.deepEqual(
    [field.getAttribute("aria-invalid"), field.title, field.max],
    ["true", "must be 1 to 100", "100"],
  );
  assert.doesNotMatch(find(el, ".cd-state").textContent, /Ready/);
});

test("progress has a number and a time, for the run and for the node", async (t) => {
  const { el, runs } = await show(t);
  const now = Date.now();
  runs.followed.value = ["p1", "p2"];
  runs.progress.value = {
    prompt_id: "p1",
    status: "running",
    text: "KSampler",
    fraction: 0.254,
    step: 3,
    steps: 20,
    node: "3",
    nodes: {},
    since: now - 12_200,
    left: 75,
    leftAt: now,
  };
  await tick();
  assert.equal(find(el, ".cd-node").textContent, "KSampler 3/20 — 1 more waiting");
  assert.equal(find(el, ".cd-number").textContent, "25 % · 12 s · about 1 min 15 s left");
  const bars = [...el.querySelectorAll("[role=progressbar]")];
  assert.deepEqual(
    bars.map((bar) => bar.getAttribute("aria-valuenow")),
    ["25", "15"],
  );
  runs.progress.value = null;
  await tick();
  assert.equal(el.querySelector("[role=progressbar]"), null);
});

test("a preview is a picture, never another type of file, and gone with the run", async (t) => {
  const urls = blobUrls(t);
  const el = document.createElement("div");
  const draw = async (preview: { mime: string; image: string } | null) => {
    render(<Preview preview={preview} />, el);
    await new Promise((resolve) => setTimeout(resolve, 150)); // effects come after a frame
    return el.querySelector("img")?.getAttribute("src") ?? null;
  };
  t.after(() => render(null, el));
  assert.equal(await draw({ mime: "image/jpeg", image: btoa("x") }), "blob:1");
  assert.equal(await draw({ mime: "text/html", image: btoa("<b>") }), null);
  assert.equal(urls.size, 1, "only the first one was made");
  assert.equal(await draw(null), null);
});
