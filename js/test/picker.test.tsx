import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { render } from "preact";
import type { Transport, Upload } from "../src/transport.ts";
import { useChoices, WorkflowPicker, WorkflowStart } from "../src/workflows/picker.tsx";
import type { Opened } from "../src/workflows/source.ts";
import { find, press, scrollEverywhere, type, until } from "./page.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 30));
const SEED = "18446744073709551615";
const TEXT = `{"1":{"class_type":"KSampler","inputs":{"seed":${SEED}}}}`;
const STORED = { id: "w1", name: "<img src=x>", latest_version: 3, updated_at: "2026-01-01" };

/** A server with one workflow of each kind; `asked` are the requests. */
function server(replies: Record<string, unknown> = {}) {
  const asked: { path: string; given: unknown }[] = [];
  const known: Record<string, unknown> = {
    workflows: [STORED],
    "workflow/files": [{ filename: "/home/me/deep/sky.png", title: "deep/sky.png" }],
    "editor/workflows": [{ path: "draft.json", updated_at: "2026-02-03T00:00:00Z" }],
    "workflow/templates": [
      { type: "example", filename: "Clouds", title: "Clouds", group: "Examples" },
      { type: "template", filename: "templates/flux.json", title: "Flux", group: "Image" },
    ],
    "workflow/convert": { title: "sky", workflow_api: TEXT, warnings: [] },
    ...replies,
  };
  const answer = async (path: string, given: unknown) => {
    asked.push({ path, given });
    const reply = { ...known, ...replies }[path];
    if (reply instanceof Error) throw reply;
    return reply;
  };
  const transport = {
    base: null,
    get: answer,
    post: answer,
    send: (path: string, { file, fields }: Upload) => answer(path, { name: file.name, fields }),
  } as unknown as Transport;
  return { transport, asked };
}

async function show(t: TestContext, replies?: Record<string, unknown>) {
  localStorage.clear();
  const { transport, asked } = server(replies);
  const opened: Opened[] = [];
  const root = document.createElement("div");
  root.className = "comfydeploy-panel";
  document.body.replaceChildren(root);
  function Page({ shown }: { shown: Opened | null }) {
    const choices = useChoices(transport, "/home/me", true);
    const onOpen = (one: Opened) => {
      opened.push(one);
      draw();
    };
    return (
      <>
        <WorkflowPicker transport={transport} choices={choices} shown={shown} onOpen={onOpen} />
        {!shown && <WorkflowStart transport={transport} choices={choices} onOpen={onOpen} />}
      </>
    );
  }
  const draw = () => render(<Page shown={opened.at(-1) ?? null} />, root);
  draw();
  t.after(() => render(null, root));
  await until(() => asked.length === 4); // effects come after a frame
  await tick();
  return {
    root,
    asked,
    opened,
    input: () => find<HTMLInputElement>(root, ".cd-picker input[role]"),
  };
}

test("stored workflows, files and those of the editor are chosen by their names", async (t) => {
  const { root, asked, opened, input } = await show(t);
  input().click();
  await tick();
  const options = [...root.querySelectorAll(".cd-picker [role=option]")];
  assert.deepEqual(
    options.map((each) => each.textContent),
    ["<img src=x>stored", "deep/sky.pngfile", "draftComfyUI's editor"],
  );
  type(input(), "img");
  await tick();
  press(input(), "Enter");
  await tick();
  assert.deepEqual(opened.at(-1)?.source, { workflow_id: "w1", version: 3 });
  const version = find<HTMLSelectElement>(root, "select");
  version.value = "1";
  version.dispatchEvent(new Event("change", { bubbles: true }));
  await tick();
  assert.deepEqual(opened.at(-1)?.source, { workflow_id: "w1", version: 1 });
  type(input(), "sky");
  await tick();
  press(input(), "Enter");
  await tick();
  assert.deepEqual(asked.at(-1), {
    path: "workflow/convert",
    given: { filename: "/home/me/deep/sky.png", type: "file", to: "api", text: true, form: true },
  });
  assert.deepEqual(opened.at(-1)?.source, { workflow_api: TEXT }, "exact, as text");
  assert.equal(input().value, "deep/sky.png");
  assert.equal(root.querySelector("img"), null);
});

test("what was stored elsewhere meanwhile is there when the list is opened", async (t) => {
  const replies: Record<string, unknown> = { workflows: [] };
  const { root, asked, input } = await show(t, replies);
  const card = () => root.querySelector('[aria-label="A stored workflow"]')?.textContent ?? "";
  assert.match(card(), /There is none yet/);
  replies.workflows = [STORED];
  input().click();
  await until(() => root.querySelectorAll(".cd-picker [role=option]").length === 3);
  assert.doesNotMatch(card(), /There is none yet/);
  const before = asked.length;
  type(input(), "img");
  await until(() => asked.length === before + 1);
  assert.deepEqual(asked.at(-1)?.given, { search: "img", limit: 100, target: null });
});

test("a panel without a workflow lists what another one has stored, while it is seen", async (t) => {
  const replies: Record<string, unknown> = { workflows: [] };
  const { root, asked } = await show(t, replies);
  const card = () => root.querySelector('[aria-label="A stored workflow"]')?.textContent ?? "";
  const before = asked.length;
  replies.workflows = [STORED];
  scrollEverywhere();
  await until(() => card().includes("<img src=x>"));
  assert.deepEqual(
    asked.slice(before).map(({ path }) => path),
    ["workflows"],
  );
});

test("a panel without a workflow offers ways to begin, and remembers the last ones", async (t) => {
  const { root, opened } = await show(t);
  const example = [...root.querySelectorAll("button")].find(
    (each) => each.textContent === " Clouds",
  );
  example?.click();
  await tick();
  assert.equal(opened.at(-1)?.key, "example:Clouds");
  assert.match(localStorage.getItem("comfydeploy-workflows") ?? "", /Clouds/);
  assert.equal(root.querySelector(".comfydeploy-start"), null);
});

test("files and texts are dropped and pasted; what is no workflow is refused in words", async (t) => {
  const { root, asked, opened } = await show(t);
  const drop = async (...files: File[]) => {
    const event = new Event("drop", { bubbles: true, cancelable: true });
    root.dispatchEvent(Object.assign(event, { dataTransfer: { files, types: ["Files"] } }));
    await tick();
  };
  await drop(new File([TEXT], "mine.json"));
  assert.deepEqual(asked.at(-1), {
    path: "workflow/convert",
    given: { name: "mine.json", fields: { to: "api", text: "true" } },
  });
  assert.equal(opened.length, 1);
  await drop(new File([""], "mine.exe"));
  assert.match(root.textContent, /mine.exe is no file in which ComfyUI saves workflows/);
  const paste = new Event("paste", { bubbles: true, cancelable: true });
  const clipboardData = { files: [], getData: () => TEXT };
  root.dispatchEvent(Object.assign(paste, { clipboardData }));
  await tick();
  assert.deepEqual(asked.at(-1)?.given, { workflow: TEXT, to: "api", text: true });
  assert.equal(opened.length, 2);
});

test("an error is beside the field, and ComfyUI that is down hides no stored workflow", async (t) => {
  const down = new Error("ComfyUI does not answer");
  const { root, opened, input } = await show(t, {
    "editor/workflows": down,
    "workflow/templates": down,
    "workflow/convert": new Error("sky.png contains no workflow"),
  });
  assert.match(root.textContent, /ComfyUI does not answer yet/);
  input().click();
  await tick();
  assert.equal(root.querySelectorAll(".cd-picker [role=option]").length, 2);
  type(input(), "sky");
  await tick();
  press(input(), "Enter");
  await tick();
  assert.match(find(root, "[role=alert]").textContent, /contains no workflow/);
  assert.equal(opened.length, 0);
});
