import assert from "node:assert/strict";
import { test } from "node:test";
import { openNamedWorkflow } from "../src/editor/open_workflow.ts";
import { PAGE } from "./page.ts";

test("the workflow that the address names is opened once the editor is ready", async () => {
  const loads: unknown[] = [];
  const workflow = {
    activeState: { nodes: [1] },
    load: async (options: unknown) => loads.push(options),
  };
  const asked: string[] = [];
  const store = {
    activeWorkflow: { path: "workflows/Unsaved.json" },
    getWorkflowByPath: (path: string) => {
      asked.push(path);
      return path === "workflows/a b.json" ? workflow : null;
    },
    syncWorkflows: async () => asked.push("sync"),
  };
  const opened: unknown[][] = [];
  const editor = {
    vueAppReady: true,
    extensionManager: { workflow: store },
    loadGraphData: async (...given: unknown[]) => opened.push(given),
  };
  Object.assign(window, { comfyAPI: { app: { app: editor } } });

  location.href = PAGE;
  await openNamedWorkflow();
  assert.deepEqual(asked, [], "the address names none");

  const root = Object.assign(document.createElement("div"), { id: "vue-app" });
  const dialogStack = [{ key: "settings" }, { key: "global-workflow-template-selector" }];
  const closeDialog = ({ key }: { key: string }) => {
    dialogStack.splice(
      dialogStack.findIndex((each) => each.key === key),
      1,
    );
  };
  const $pinia = { _s: new Map([["dialog", { dialogStack, closeDialog }]]) };
  document.body.replaceChildren(
    Object.assign(root, { __vue_app__: { config: { globalProperties: { $pinia } } } }),
  );
  location.href = `${PAGE}?comfydeploy_workflow=a+b.json&x=1`;
  await openNamedWorkflow();
  assert.deepEqual(dialogStack, [{ key: "settings" }], "only that of a first visit is closed");
  assert.deepEqual(asked, ["sync", "workflows/a b.json"]);
  assert.deepEqual(loads, [{ force: true }]);
  assert.deepEqual(opened, [[{ nodes: [1] }, true, true, workflow]]);
  assert.equal(new URL(location.href).search, "?x=1");

  location.href = `${PAGE}?comfydeploy_workflow=gone.json`;
  await openNamedWorkflow();
  assert.equal(opened.length, 1, "a file that is not there is not opened");
});
