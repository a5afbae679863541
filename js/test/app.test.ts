import assert from "node:assert/strict";
import test from "node:test";
import { mountAlone } from "../src/panels/index.tsx";
import { find, named, scrollEverywhere, until } from "./page.ts";
import { type Answer, details, Recorded } from "./recorded.ts";

const FORM = {
  ...{ title: "Fox", rows: [], values: {}, choices: [], unlocked: [], outputs: [], problems: {} },
  ...{ others: {}, unknown: {}, given: {}, untold: [], price: "", notes: [], defined: true },
  structure: "s",
};
const tick = () => new Promise((resolve) => setTimeout(resolve, 50));
const WORKFLOW = { title: "Fox", warnings: [], source: { workflow_id: "w1", version: 2 } };

for (const [newest, end] of [
  [2, "app?workflow_id=w1"],
  [3, "app?workflow_id=w1&version=2"],
] as const) {
  test(`a link names the version if ${newest} is the newest`, async (t) => {
    const stored = { id: "w1", name: "Fox", latest_version: newest, updated_at: "2026-01-01" };
    const answers = {
      workflows: () => [stored],
      "workflow/form": () => FORM,
      "runs/cards": () => ({ runs: [], total: 0, waiting: [] }),
    };
    const server = new Recorded(answers, "/lab/user/");
    const el = document.createElement("main");
    document.body.replaceChildren(el);
    const common = { directory: "", values: {}, locked: null, machine: null };
    const lists = { queued: [], runs: [], result: null };
    const shown = { ...common, ...lists, shown_workflow: WORKFLOW };
    const { end: remove } = mountAlone("RunPanel", el, server, shown);
    t.after(remove);
    await until(() => server.asked.some(({ path }) => path === "workflows"));
    await tick();
    named(el, "More actions").click();
    await tick();
    named(el, "Copy link for a colleague").click();
    // the page of the test has no clipboard: the address is said instead
    await until(() => find(el, ".cd-state").textContent !== "Ready");
    assert.equal(
      find(el, ".cd-state").textContent,
      `http://jupyter.test/lab/user/comfyui-deploy/${end}`,
    );
  });
}

const HALVES: unknown[] = [{}, [], [{}], { runs: [{}], models: [{}], rows: [{}], total: 1 }];

for (const half of HALVES) {
  test(`a part whose answer is ${JSON.stringify(half)} leaves the others`, async (t) => {
    const answers = {
      workflows: () => half,
      "workflow/form": () => FORM,
      "workflow/fetch-models": () => half,
      "runs/cards": () => half,
      "runs/details": () => half,
      "node-packs": () => half,
      batches: () => half,
    };
    const server = new Recorded(answers, "/lab/user/");
    const el = document.createElement("main");
    document.body.replaceChildren(el);
    const common = {
      directory: "",
      values: {},
      locked: null,
      machine: null,
      varied: {},
      batch: "",
    };
    const lists = { queued: [], runs: [], result: { prompt_id: "p", status: "success" } };
    const shown = { ...common, ...lists, shown_workflow: WORKFLOW };
    const { end } = mountAlone("RunPanel", el, server, shown);
    t.after(end);
    const asked = (path: string) => server.asked.some((each) => each.path === path);
    await until(() => {
      scrollEverywhere();
      return asked("runs/cards") && asked("workflow/fetch-models") && asked("runs/details");
    });
    await tick();
    assert.doesNotMatch(el.textContent ?? "", /The panel cannot show/);
    assert.equal(named(el, "Run").disabled, false);
  });
}

test("a result is an earlier one until that of the run that has ended is there", async (t) => {
  let answer = (_: unknown) => {};
  const server = new Recorded({
    ...{ workflows: () => [], "workflow/form": () => FORM, "runs/cards": () => ({ runs: [] }) },
    "check-status": () => ({ prompt_id: "new", status: "success", finished_at: "2026-01-02" }),
    "runs/details": ({ query: { prompt_id } }) =>
      prompt_id === "old"
        ? details({ prompt_id })
        : new Promise((resolve) => {
            answer = resolve;
          }),
  });
  const el = document.createElement("main");
  document.body.replaceChildren(el);
  const result = { prompt_id: "old", status: "success" };
  const shown = { shown_workflow: WORKFLOW, result };
  const { traits, end } = mountAlone("RunPanel", el, server, shown);
  t.after(end);
  const title = () => el.querySelector(".cd-status")?.textContent;
  await until(() => title() === "Success");
  traits.set({ queued: ["new"] });
  await until(() => (traits.result?.value as typeof result | undefined)?.prompt_id === "new");
  await until(() => title() === "Earlier run");
  await tick();
  assert.equal(title(), "Earlier run");
  answer(details({ prompt_id: "new" }));
  await until(() => title() === "Success");
});

test("values and the machine that code sets while a form is opening are not lost", async (t) => {
  const field = {
    key: "1.text",
    label: "Text",
    kind: "text",
    original: "",
    node: "1",
    input: "text",
  };
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const form: Answer = async ({ body }) => {
    await gate;
    const given = (body as { inputs: object }).inputs;
    return { ...FORM, rows: [field], values: { "1.text": "", ...given }, given };
  };
  const answers = { workflows: () => [], "workflow/form": form, batches: () => ({ batches: [] }) };
  const server = new Recorded(answers, "/");
  const el = document.createElement("main");
  document.body.replaceChildren(el);
  const common = { directory: "", values: {}, locked: null, machine: null, varied: {}, batch: "" };
  const lists = { queued: [], runs: [], result: null };
  const shown = { ...common, ...lists, shown_workflow: WORKFLOW };
  const { traits, end } = mountAlone("RunPanel", el, server, shown);
  t.after(end);
  const asked = () => server.asked.filter(({ path }) => path === "workflow/form");
  await until(() => asked().length === 1);
  traits.set({ machine: "other" });
  await until(() => asked().length === 2);
  traits.set({ values: { "1.text": "of Python" } });
  release();
  await until(
    () =>
      el.querySelector<HTMLInputElement>(".comfydeploy-form .cd-text input")?.value === "of Python",
  );
  const last = { ...(asked().at(-1)?.body as Record<string, unknown>) };
  assert.deepEqual([last.machine, last.inputs], ["other", { "1.text": "of Python" }]);
  assert.deepEqual(traits.values?.value, { "1.text": "of Python" });
});
