/** The script of the page that shows only a RunPanel: no notebook, no kernel. */

import { toJson } from "../exact.ts";
import { messageOf, parseJson } from "../format.ts";
import type { Panels } from "../panels/index.tsx";
import type { RunTraits } from "../panels/run.tsx";
import { pageConfig } from "../server.ts";

/** SHA-256 of `panels.js`, the first digits; the build sets it. */
declare const PANELS: string;

/** The traits that the server has put into the page. */
type Given = Pick<RunTraits, "shown_workflow"> & Partial<RunTraits> & { error?: string };

const KEPT = "comfydeploy-app"; // the key in the storage of the tab: what was typed
const TYPED = ["values", "locked", "varied"];

/** The query of the page's address for a workflow. */
function queryOf(workflow: RunTraits["shown_workflow"]): string {
  const { workflow_id, version } = workflow?.source ?? {};
  if (!workflow_id) return "";
  return `?${new URLSearchParams({ workflow_id, ...(version && { version: String(version) }) })}`;
}

/** What was typed into the form of this address before the page was loaded again. */
function typed(): Partial<RunTraits> {
  try {
    const kept = parseJson<{ query: string; traits: Partial<RunTraits> }>(
      sessionStorage.getItem(KEPT),
    );
    return kept?.query === location.search ? kept.traits : {};
  } catch {
    return {}; // the browser forbids it
  }
}

async function open(el: HTMLElement): Promise<void> {
  const address = new URL(location.href);
  address.searchParams.delete("token"); // it has led here, and is not for others
  history.replaceState(null, "", address);
  const { mountAlone, Straight }: Panels = await import(`./panels.js?v=${PANELS}`);
  const transport = new Straight(pageConfig().baseUrl ?? "/");
  const given = parseJson<Given>(document.getElementById("comfydeploy-app")?.textContent);
  let { error = "" } = given ?? {};
  const shown: Given = { shown_workflow: null, ...given, ...typed() };
  const source = shown.shown_workflow?.source;
  const run = shown.result?.prompt_id ?? shown.queued?.[0];
  if (source && run && !Object.keys(shown.values ?? {}).length) {
    try {
      const asked = { ...source, prompt_id: run };
      shown.values = (
        await transport.post<{ given: RunTraits["values"] }>("workflow/form", asked)
      ).given;
    } catch (problem) {
      error = messageOf(problem);
    }
  }
  el.replaceChildren();
  const panel = mountAlone("RunPanel", el, transport, { ...shown, error });
  const follow = (name: string, action: () => void) => panel.traits[name]?.subscribe(action);
  let before = shown.shown_workflow;
  follow("shown_workflow", () => {
    const workflow = panel.traits.shown_workflow?.value as RunTraits["shown_workflow"];
    if (workflow === before) return;
    before = workflow;
    panel.traits.set({ error: "" });
    document.title = workflow?.title || "ComfyUI";
    history.replaceState(null, "", location.pathname + queryOf(workflow));
  });
  const keep = () => {
    const now = Object.fromEntries(TYPED.map((name) => [name, panel.traits[name]?.value]));
    try {
      sessionStorage.setItem(KEPT, toJson({ query: location.search, traits: now }));
    } catch {
      // as above
    }
  };
  for (const name of TYPED) follow(name, keep);
}

const el = document.querySelector("main");
if (el) {
  open(el).catch((problem) => {
    el.textContent = `The panel cannot be shown: ${messageOf(problem)}`;
  });
}
