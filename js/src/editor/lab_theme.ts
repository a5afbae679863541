/** Shows ComfyUI's page in the light or dark colours of the JupyterLab around it. */

const PALETTE = "Comfy.ColorPalette";
const INTERVAL = 200; // ms between two looks whether the page is there
const READY_WITHIN = 120_000; // ms
const SETTLED = 10; // looks at a page that has a workflow open

type Settings = { settingValues?: Record<string, unknown> };
type Workflows = { activeWorkflow?: unknown };
type Root = HTMLElement & {
  __vue_app__?: { config: { globalProperties: { $pinia?: { _s: Map<string, unknown> } } } };
};

/** Return the page around this one if it is JupyterLab of the same server. */
function lab(): HTMLElement | null {
  try {
    const { body } = window.parent.document;
    return window.parent !== window && "jpThemeLight" in body.dataset ? body : null;
  } catch {
    return null; // of another origin
  }
}

function stores(): Map<string, unknown> | undefined {
  const root = document.getElementById("vue-app") as Root | null;
  return root?.__vue_app__?.config.globalProperties.$pinia?._s;
}

/** Follow the theme of JupyterLab, without a change of the user's settings of ComfyUI. */
export function followLab(): void {
  const body = lab();
  if (!body) return;
  const show = () => {
    // what the server of the page keeps stays as it is: only the page's own copy is changed
    const values = (stores()?.get("setting") as Settings | undefined)?.settingValues;
    if (values) values[PALETTE] = body.dataset.jpThemeLight === "false" ? "dark" : "light";
  };
  let waited = 0;
  let shown = 0;
  const timer = setInterval(() => {
    waited += INTERVAL;
    show();
    // the page reads the settings that its server keeps before it opens a workflow
    if ((stores()?.get("workflow") as Workflows | undefined)?.activeWorkflow) shown += 1;
    if (shown > SETTLED || waited > READY_WITHIN) clearInterval(timer);
  }, INTERVAL);
  const observer = new MutationObserver(show);
  observer.observe(body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  addEventListener("pagehide", () => observer.disconnect());
}
