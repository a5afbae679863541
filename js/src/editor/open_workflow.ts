/** Opens the workflow of the editor's folder that the address of ComfyUI's page names. */

const FIELD = "comfydeploy_workflow"; // of the query
const INTERVAL = 200; // ms between two looks at the editor
const READY_WITHIN = 120_000; // ms
const SETTLED = 5; // looks in which the editor has had the same workflow open

/** The parts of ComfyUI's frontend that are used here. */
type EditorWorkflow = {
  activeState: unknown;
  load: (options?: { force?: boolean }) => Promise<unknown>;
};
type WorkflowStore = {
  activeWorkflow: { path?: string } | null;
  getWorkflowByPath: (path: string) => EditorWorkflow | null;
  syncWorkflows?: () => Promise<unknown>;
};
type Editor = {
  vueAppReady?: boolean;
  extensionManager?: { workflow?: WorkflowStore };
  loadGraphData: (
    graph: unknown,
    clean: boolean,
    restoreView: boolean,
    workflow: EditorWorkflow,
  ) => Promise<unknown>;
};
type EditorWindow = Window & { comfyAPI?: { app?: { app?: Editor } }; app?: Editor };

const pause = (time: number) => new Promise((resolve) => setTimeout(resolve, time));

/** Return the editor as soon as it has opened the workflows of its last visit. */
async function settledEditor(): Promise<[Editor, WorkflowStore] | null> {
  const page = window as EditorWindow;
  let open: string | undefined;
  let same = 0;
  for (let waited = 0; waited < READY_WITHIN; waited += INTERVAL) {
    await pause(INTERVAL);
    const editor = page.comfyAPI?.app?.app ?? page.app;
    const store = editor?.extensionManager?.workflow;
    const path = editor?.vueAppReady === false ? undefined : store?.activeWorkflow?.path;
    same = path !== undefined && path === open ? same + 1 : 0;
    open = path;
    if (editor && store && same >= SETTLED) return [editor, store];
  }
  return null;
}

/** Open the workflow that the address of the page names, and remove its name from the address. */
export async function openNamedWorkflow(): Promise<void> {
  const address = new URL(location.href);
  const file = address.searchParams.get(FIELD);
  if (file === null) return;
  address.searchParams.delete(FIELD);
  history.replaceState(history.state, "", address.href);
  const found = await settledEditor();
  if (!found) return;
  const [editor, store] = found;
  await store.syncWorkflows?.();
  const workflow = store.getWorkflowByPath(`workflows/${file}`);
  if (!workflow) return;
  await workflow.load({ force: true }); // a tab of the last visit may have an older content
  const graph = JSON.parse(JSON.stringify(workflow.activeState));
  await editor.loadGraphData(graph, true, true, workflow);
}
