import assert from "node:assert/strict";
import test from "node:test";
import { mountAlone } from "../src/panels/index.tsx";
import { find, named, until } from "./page.ts";
import { Recorded } from "./recorded.ts";

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
