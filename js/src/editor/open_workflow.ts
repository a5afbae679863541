/** Opens the workflow in the editor's folder whose name is in the address of ComfyUI's page. */

const FIELD = "comfydeploy_workflow"; // of the query
const INTERVAL = 200; // ms between two checks of the editor
const READY_WITHIN = 120_000; // ms
const OFTEN = 50; // ms between two looks for the dialog of a first visit
const LATE = 5000; // ms after the workflow was opened in which that dialog may still come
const TEMPLATES = "global-workflow-template-selector"; // the key of that dialog
const SETTLED = 5; // checks in a row in which the editor has the same workflow open

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

/** The store of dialogs, which the frontend keeps by Pinia. */
type Dialogs = {
  dialogStack: { key: string }[];
  closeDialog: (options: { key: string }) => void;
};
type VueRoot = HTMLElement & {
  __vue_app__?: {
    config: { globalProperties: { $pinia?: { _s: Map<string, unknown> } } };
  };
};

/** Close the dialog with which the editor begins a first visit; return what ends this. */
function keepTemplatesClosed(): () => void {
  const timer = setInterval(() => {
    const root = document.getElementById("vue-app") as VueRoot | null;
    const stores = root?.__vue_app__?.config.globalProperties.$pinia?._s;
    const dialogs = stores?.get("dialog") as Dialogs | undefined;
    if (dialogs?.dialogStack?.some(({ key }) => key === TEMPLATES)) {
      dialogs.closeDialog({ key: TEMPLATES });
    }
  }, OFTEN);
  return () => clearInterval(timer);
}

const pause = (time: number) => new Promise((resolve) => setTimeout(resolve, time));

/** Return the editor when it has restored the workflows that were open at the last visit. */
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

/** Open the workflow whose name is in the page's address, and remove the name from the address. */
export async function openNamedWorkflow(): Promise<void> {
  const address = new URL(location.href);
  const file = address.searchParams.get(FIELD);
  if (file === null) return;
  address.searchParams.delete(FIELD);
  history.replaceState(history.state, "", address.href);
  const stopClosing = keepTemplatesClosed();
  try {
    await open(file);
  } finally {
    setTimeout(stopClosing, LATE);
  }
}

async function open(file: string): Promise<void> {
  const found = await settledEditor();
  if (!found) return;
  const [editor, store] = found;
  await store.syncWorkflows?.();
  const workflow = store.getWorkflowByPath(`workflows/${file}`);
  if (!workflow) return;
  await workflow.load({ force: true }); // a restored tab may have an older content
  const graph = JSON.parse(JSON.stringify(workflow.activeState));
  await editor.loadGraphData(graph, true, true, workflow);
}
