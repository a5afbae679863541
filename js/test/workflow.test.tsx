import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { signal } from "@preact/signals";
import { render } from "preact";
import type { Children } from "../src/children.ts";
import { WorkflowPanel, type WorkflowTraits } from "../src/panels/workflow.tsx";
import { localTraits } from "../src/state/traits.ts";
import type { Transport, Upload } from "../src/transport.ts";
import { find, press, scrollEverywhere, type, until } from "./page.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 20));
const HOSTILE = "<b>Sky</b>";
const TEXT = '{"1":{"class_type":"KSampler","inputs":{"seed":18446744073709551615}}}';
const STORED = [
  { id: "a", name: HOSTILE, latest_version: 2, tags: ["people", "<i>"] },
  { id: "b", name: "Sea", latest_version: 1, tags: [] },
];
const VERSIONS = [
  { version: 2, comment: "wider", created_at: "2026-01-31T09:30:00Z" },
  { version: 1, comment: "", created_at: "2026-01-30T09:30:00Z" },
];
const NODES = [
  { id: "1", title: HOSTILE, class_type: "EmptyImage", inputs: "width=64" },
  { id: "2", title: "Preview", class_type: "PreviewImage", inputs: "" },
];
const GRAPH = { name: "", nodes: [], links: [], groups: [], left_out: 0 };
const PICTURE = { graph: GRAPH, subgraphs: {} };
const OUTLINE = { title: "", structure: "", nodes: NODES, picture: PICTURE, warnings: [] };
const TRAITS: WorkflowTraits = {
  server: {},
  workflow_id: "",
  version: null,
  source: {},
  title: "",
  values: {},
  search_text: "",
  cloud: false,
  directory: "/home/me",
  tab: "Nodes",
  format: "api",
  validation: null,
  runs_elsewhere: true,
  runner: "",
  run_requests: 0,
};

async function show(
  t: TestContext,
  given: Partial<WorkflowTraits> = {},
  more: Record<string, unknown> = {},
  child?: Children,
) {
  const asked: [string, Record<string, unknown>][] = [];
  const replies: Record<string, unknown> = {
    workflows: STORED,
    "workflow/files": [{ filename: "/home/me/c.json", title: "c.json" }],
    "editor/workflows": [],
    "workflow/versions": VERSIONS,
    "workflow/outline": OUTLINE,
    "runs/cards": { runs: [{ pictures: [{ query: "filename=x.png", small: true }] }] },
    ...more,
  };
  const answer = async (path: string, body: Record<string, unknown>) => {
    asked.push([path, body]);
    const reply = replies[path];
    if (reply instanceof Error) throw reply;
    return typeof reply === "function" ? reply(body) : reply;
  };
  let told: ((event: object) => void) | null = null;
  const transport = {
    base: "http://jupyter.test/",
    get: answer,
    post: answer,
    request: (_: string, path: string, { body }: { body: Record<string, unknown> }) =>
      answer(path, body),
    async *events() {
      for (;;)
        yield await new Promise((resolve) => {
          told = resolve;
        });
    },
    send: (path: string, { file }: Upload) => answer(path, { file: file.name }),
  } as unknown as Transport;
  const traits = localTraits<WorkflowTraits>({ ...TRAITS, ...given });
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  render(
    <WorkflowPanel
      transport={transport}
      traits={traits}
      kernel={signal("there" as const)}
      {...(child && { child })}
    />,
    el,
  );
  t.after(() => render(null, el));
  await until(() => el.querySelectorAll("[role=option]").length >= 3);
  const list = find(el, "[role=listbox]");
  const click = async (text: string) => {
    const all = [...el.querySelectorAll<HTMLElement>("button, [role=option]")];
    all.find((each) => each.textContent?.trim().startsWith(text))?.click();
    await tick();
  };
  const last = (path: string) => asked.filter(([each]) => each === path).at(-1)?.[1];
  const tell = async (event: string, data: object) => {
    await until(() => told !== null);
    told?.({ event, data: { event, data } });
    await tick();
  };
  return { el, list, traits, asked, click, last, replies, tell };
}

test("the list has stored workflows and files, and keys choose in it", async (t) => {
  const { el, list, traits } = await show(t);
  assert.deepEqual(
    [...el.querySelectorAll("[role=group]")].map((each) => each.getAttribute("aria-label")),
    ["Stored", "Files beside the notebook"],
  );
  assert.equal(el.querySelector(".cd-name")?.textContent, HOSTILE);
  assert.deepEqual(
    [...el.querySelectorAll(".cd-tag")].map((each) => each.textContent),
    ["people", "<i>"],
  );
  assert.equal(el.querySelector("i.x, b > b"), null);
  scrollEverywhere();
  await until(() => el.querySelectorAll(".cd-frame img").length === 2);
  list.dispatchEvent(new Event("focus"));
  press(list, "ArrowDown");
  await tick();
  press(list, "Enter");
  await until(() => traits.workflow_id.value === "b");
  press(list, "Home");
  await tick();
  press(list, "Enter");
  await until(() => el.textContent.includes("version 2 of 2, 2 nodes"));
  assert.equal(traits.workflow_id.value, "a");
  assert.equal(traits.version.value, 2);
  assert.match(find(el, ".comfydeploy-versions").textContent ?? "", /v2 · .* · wider/);
  assert.equal(find<HTMLSelectElement>(el, ".comfydeploy-versions select").value, "2");
});

test("a stored workflow is renamed, tagged, deleted and restored; what was open stays", async (t) => {
  const opened = { workflow_id: "a", title: HOSTILE };
  const saved = { ...STORED[0], name: "Night" };
  const { el, list, traits, click, last, replies } = await show(t, opened, {
    "workflow/update": saved,
    "workflow/delete": saved,
    "workflow/restore": saved,
    "workflow/convert": { workflow_api: TEXT },
  });
  await until(() => el.textContent.includes("version 2 of 2"));
  press(list, "F2");
  await tick();
  const name = find<HTMLInputElement>(el, ".cd-edit input");
  assert.equal(name.value, HOSTILE);
  name.value = " Night ";
  find<HTMLFormElement>(el, ".cd-edit form").dispatchEvent(
    new Event("submit", { bubbles: true, cancelable: true }),
  );
  await until(() => el.textContent.includes("Renamed to Night."));
  assert.deepEqual(last("workflow/update"), { workflow_id: "a", name: "Night" });
  assert.equal(traits.title.value, "Night");
  replies.workflows = STORED.slice(1);
  press(list, "Delete");
  await until(() => traits.workflow_id.value === "");
  assert.deepEqual(traits.source.value, { workflow_api: TEXT }, "exact, as text");
  await until(() => el.textContent.includes("not stored yet"));
  replies.workflows = STORED;
  await click("Undo");
  await until(() => traits.workflow_id.value === "a");
  assert.match(el.textContent, /Night was restored/);
});

test("dropped files are stored, and one that is no workflow is named", async (t) => {
  const { el, list, traits, asked } = await show(
    t,
    {},
    {
      "workflow/convert": ({ file }: { file: string }) => {
        if (file === "x.txt") throw new Error("it contains no workflow");
        return { title: "mine", workflow_api: TEXT, warnings: [] };
      },
      workflow: { id: "b", name: "mine", latest_version: 1 },
    },
  );
  const event = new Event("drop", { bubbles: true, cancelable: true });
  const files = [new File([TEXT], "mine.json"), new File([""], "x.txt")];
  list.dispatchEvent(Object.assign(event, { dataTransfer: { files, types: ["Files"] } }));
  await until(() => el.textContent.includes("x.txt was not stored: it contains no workflow"));
  assert.deepEqual(asked.find(([path]) => path === "workflow")?.[1], {
    workflow_api: TEXT,
    name: "mine",
    target: null,
  });
  assert.equal(traits.workflow_id.value, "b");
});

test("a workflow is opened in ComfyUI's page, whose saved versions are looked for later", async (t) => {
  const { el, traits, click, replies } = await show(
    t,
    { workflow_id: "a", title: "Sky" },
    {
      "workflow/edit": { url: "/comfyui/?comfydeploy_workflow=a.json", origin: "http://k.test" },
    },
  );
  const tab = { location: { href: "" }, isClosed: false, close: () => {} };
  tab.close = () => {
    tab.isClosed = true;
  };
  window.open = () => tab as unknown as Window;
  await until(() => el.textContent.includes("version 2 of 2"));
  await click("Edit in ComfyUI");
  await until(() => tab.location.href !== "");
  assert.equal(tab.location.href, "http://jupyter.test/comfyui/?comfydeploy_workflow=a.json");
  replies.workflows = [{ ...STORED[0], latest_version: 3 }];
  replies["workflow/versions"] = [{ ...VERSIONS[0], version: 3 }, ...VERSIONS];
  window.dispatchEvent(new Event("focus"));
  await until(() => traits.version.value === 3);
  assert.match(el.textContent, /has a new version 3/);
  replies["workflow/edit"] = new Error("ComfyUI does not answer");
  await click("Edit in ComfyUI");
  await until(() => tab.isClosed);
  assert.match(el.textContent, /ComfyUI does not answer/);
});

test("it validates, compares and saves with the values under Run, and asks to run", async (t) => {
  const { el, traits, click, last } = await show(
    t,
    { source: { workflow_api: TEXT }, title: "Sky", tab: "Nodes" },
    {
      "workflow/validate": {
        valid: false,
        by_node: { "2": ["<i>Value</i> -5 smaller than min"] },
        general: [],
        definitions: { source: "live" },
      },
      "workflow/fetch-models": { models: [], missing_nodes: [], warnings: [], offline: false },
      workflow: { id: "b", name: "Sky", version: 1, new_version: true },
    },
  );
  await until(() => el.textContent.includes("not stored yet, 2 nodes"));
  await click("Validate");
  await until(() => el.textContent.includes("ComfyUI would refuse this workflow"));
  assert.deepEqual(last("workflow/validate"), { workflow_api: TEXT });
  const [first] = el.querySelectorAll("tbody tr");
  assert.match(first?.textContent ?? "", /Preview.*<i>Value<\/i> -5 smaller than min/);
  await click("Compare");
  assert.match(el.textContent, /Versions can be compared once the workflow is stored/);
  await click("Save");
  const panel = find(el, "[role=tabpanel]:not([hidden])");
  const [name, comment] = panel.querySelectorAll<HTMLInputElement>("input[type=text]");
  assert.equal(name?.value, "Sky");
  if (comment) type(comment, "first");
  find<HTMLButtonElement>(panel, ".cd-primary").click();
  await until(() => traits.workflow_id.value === "b");
  const { workflow_api, comment: said } = last("workflow") ?? {};
  assert.deepEqual([workflow_api, said], [TEXT, "first"]);
  await click("Run …");
  assert.equal(traits.run_requests.value, 1);
});

test("the values of the panel that runs the open workflow are saved, not those of another", async (t) => {
  const runner: Record<string, unknown> = { shown_workflow: null, values: { "1.seed": "7" } };
  const child = {
    get: async () => ({ ...runner }),
    set: (_: string, values: object) => Object.assign(runner, values),
  } as unknown as Children;
  const { traits, click, last, el } = await show(
    t,
    { workflow_id: "a", title: "Sky", runner: "r1", tab: "Save" },
    { "workflow/convert": { workflow_api: TEXT }, workflow: { id: "a", new_version: false } },
    child,
  );
  const save = async () => {
    await until(() => el.textContent.includes("version 2 of 2"));
    find<HTMLButtonElement>(el, "[role=tabpanel]:not([hidden]) .cd-primary").click();
    await tick();
    return last("workflow/convert");
  };
  const asked = { workflow_id: "a", version: 2, to: "api", text: true };
  assert.deepEqual(await save(), asked);
  await click("Run …");
  const { source } = runner.shown_workflow as { source: object };
  assert.deepEqual([source, runner.values], [{ workflow_id: "a", version: 2 }, {}]);
  runner.values = { "1.seed": "9" };
  assert.deepEqual(await save(), { ...asked, inputs: { "1.seed": "9" } });
  await click("Run …");
  assert.deepEqual([runner.values, traits.run_requests.value], [{ "1.seed": "9" }, 2]);
  runner.shown_workflow = { source: { workflow_id: "a", version: 1 } };
  assert.deepEqual(await save(), asked);
});

test("nodes of a run that goes on are marked, and then as it has ended", async (t) => {
  const boxes = ["1", "2", "3"].map((id, place) => ({
    ...{ id, title: id, kind: "", mode: "", subgraph: "", color: "", ins: [], outs: [] },
    box: [200 * place, 0, 100, 50],
  }));
  const picture = { graph: { ...GRAPH, nodes: boxes }, subgraphs: {} };
  const record = { prompt_id: "p", status: "running", created_at: "2026-01-01T00:00:00Z" };
  const known = { ...record };
  const { el, tell } = await show(
    t,
    { workflow_id: "a", title: "Sky" },
    {
      "workflow/outline": { ...OUTLINE, structure: "s", picture },
      runs: ({ structure, status }: Record<string, unknown>) =>
        structure === "s" && status === "running" && known.status === "running" ? [record] : [],
      "check-status": () => known,
    },
  );
  const marks = () =>
    ["1", "2", "3"].map(
      (id) => el.querySelector(`[data-id="${id}"]`)?.getAttribute("data-mark") ?? "",
    );
  await until(() => el.querySelectorAll("[data-id]").length === 3);
  await new Promise((resolve) => setTimeout(resolve, 150)); // effects come after a frame
  scrollEverywhere();
  await tell("execution_cached", { nodes: ["1"] });
  await tell("executing", { node: "2" });
  await until(() => String(marks()) === "done,running,");
  await tell("executing", { node: "3" });
  await until(() => String(marks()) === "done,done,running");
  known.status = "failed";
  const error = { node_id: "3", message: "no" };
  await tell("result", { ...known, cached_nodes: ["1"], node_times: { 2: 0.1 }, error });
  await until(() => String(marks()) === "done,done,failed");
});

test("a server that fails keeps what is shown, and an older answer is dropped", async (t) => {
  let release = () => {};
  const slow = new Promise<void>((resolve) => {
    release = resolve;
  });
  const { el, traits, replies } = await show(
    t,
    { workflow_id: "a", title: "Sky" },
    {
      "workflow/outline": async ({ version }: { version: number }) => {
        if (version === 1) await slow;
        return { ...OUTLINE, nodes: version === 1 ? [] : NODES };
      },
    },
  );
  await until(() => el.textContent.includes("2 nodes"));
  traits.set({ version: 1 });
  await tick();
  traits.set({ version: 2 });
  await tick();
  release();
  await tick();
  assert.match(el.textContent, /version 2 of 2, 2 nodes/);
  replies["workflow/outline"] = new Error("The Jupyter server does not answer");
  traits.set({ version: 1 });
  await until(() => el.textContent.includes("does not answer"));
  assert.match(el.textContent, /2 nodes/);
});
