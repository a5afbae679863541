// Made from js/src/hosts/app.ts by `make js-build`; do not edit it here.

// src/exact.ts
var MARKED = /"\\u0001exact:(-?\d+)"/g;
function toJson(value, indent) {
  return JSON.stringify(value, null, indent).replace(MARKED, "$1");
}

// src/format.ts
function parseJson(text) {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return null;
  }
}
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

// src/server.ts
function pageConfig() {
  return parseJson(document.getElementById("jupyter-config-data")?.textContent) ?? {};
}

// src/hosts/app.ts
var KEPT = "comfydeploy-app";
var TYPED = ["values", "locked", "varied"];
function queryOf(workflow) {
  const { workflow_id, version } = workflow?.source ?? {};
  if (!workflow_id) return "";
  return `?${new URLSearchParams({ workflow_id, ...version && { version: String(version) } })}`;
}
function typed() {
  try {
    const kept = parseJson(
      sessionStorage.getItem(KEPT)
    );
    return kept?.query === location.search ? kept.traits : {};
  } catch {
    return {};
  }
}
async function open(el2) {
  const address = new URL(location.href);
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
  const { mountAlone, Straight } = await import(`./panels.js?v=${"5cd58abff2207e02"}`);
  const transport = new Straight(pageConfig().baseUrl ?? "/");
  const given = parseJson(document.getElementById("comfydeploy-app")?.textContent);
  let { error = "" } = given ?? {};
  const shown = { shown_workflow: null, ...given, ...typed() };
  const source = shown.shown_workflow?.source;
  const run = shown.result?.prompt_id ?? shown.queued?.[0];
  if (source && run && !Object.keys(shown.values ?? {}).length) {
    try {
      const asked = { ...source, prompt_id: run };
      shown.values = (await transport.post("workflow/form", asked)).given;
    } catch (problem) {
      error = messageOf(problem);
    }
  }
  el2.replaceChildren();
  const panel = mountAlone("RunPanel", el2, transport, { ...shown, error });
  const follow = (name, action) => panel.traits[name]?.subscribe(action);
  let before = shown.shown_workflow;
  follow("shown_workflow", () => {
    const workflow = panel.traits.shown_workflow?.value;
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
    }
  };
  for (const name of TYPED) follow(name, keep);
}
var el = document.querySelector("main");
if (el) {
  open(el).catch((problem) => {
    el.textContent = `The panel cannot be shown: ${messageOf(problem)}`;
  });
}
