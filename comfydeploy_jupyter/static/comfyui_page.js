// Made from js/src/page/comfyui_page.ts by `make js-build`; do not edit it here.
"use strict";
(() => {
  // src/editor/lab_theme.ts
  var PALETTE = "Comfy.ColorPalette";
  var INTERVAL = 200;
  var READY_WITHIN = 12e4;
  var SETTLED = 10;
  function lab() {
    try {
      const { body } = window.parent.document;
      return window.parent !== window && "jpThemeLight" in body.dataset ? body : null;
    } catch {
      return null;
    }
  }
  function stores() {
    const root = document.getElementById("vue-app");
    return root?.__vue_app__?.config.globalProperties.$pinia?._s;
  }
  function followLab() {
    const body = lab();
    if (!body) return;
    const show = () => {
      const values = stores()?.get("setting")?.settingValues;
      if (values) values[PALETTE] = body.dataset.jpThemeLight === "false" ? "dark" : "light";
    };
    let waited = 0;
    let shown = 0;
    const timer2 = setInterval(() => {
      waited += INTERVAL;
      show();
      if (stores()?.get("workflow")?.activeWorkflow) shown += 1;
      if (shown > SETTLED || waited > READY_WITHIN) clearInterval(timer2);
    }, INTERVAL);
    const observer = new MutationObserver(show);
    observer.observe(body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
    addEventListener("pagehide", () => observer.disconnect());
  }

  // src/editor/open_workflow.ts
  var FIELD = "comfydeploy_workflow";
  var INTERVAL2 = 200;
  var READY_WITHIN2 = 12e4;
  var OFTEN = 50;
  var LATE = 5e3;
  var TEMPLATES = "global-workflow-template-selector";
  var SETTLED2 = 5;
  function keepTemplatesClosed() {
    const timer2 = setInterval(() => {
      const root = document.getElementById("vue-app");
      const stores2 = root?.__vue_app__?.config.globalProperties.$pinia?._s;
      const dialogs = stores2?.get("dialog");
      if (dialogs?.dialogStack?.some(({ key }) => key === TEMPLATES)) {
        dialogs.closeDialog({ key: TEMPLATES });
      }
    }, OFTEN);
    return () => clearInterval(timer2);
  }
  var pause = (time) => new Promise((resolve) => setTimeout(resolve, time));
  async function settledEditor() {
    const page = window;
    let open2;
    let same = 0;
    for (let waited = 0; waited < READY_WITHIN2; waited += INTERVAL2) {
      await pause(INTERVAL2);
      const editor = page.comfyAPI?.app?.app ?? page.app;
      const store = editor?.extensionManager?.workflow;
      const path = editor?.vueAppReady === false ? void 0 : store?.activeWorkflow?.path;
      same = path !== void 0 && path === open2 ? same + 1 : 0;
      open2 = path;
      if (editor && store && same >= SETTLED2) return [editor, store];
    }
    return null;
  }
  async function openNamedWorkflow() {
    const address2 = new URL(location.href);
    const file = address2.searchParams.get(FIELD);
    if (file === null) return;
    address2.searchParams.delete(FIELD);
    history.replaceState(history.state, "", address2.href);
    const stopClosing = keepTemplatesClosed();
    try {
      await open(file);
    } finally {
      setTimeout(stopClosing, LATE);
    }
  }
  async function open(file) {
    const found = await settledEditor();
    if (!found) return;
    const [editor, store] = found;
    await store.syncWorkflows?.();
    const workflow = store.getWorkflowByPath(`workflows/${file}`);
    if (!workflow) return;
    await workflow.load({ force: true });
    const graph = JSON.parse(JSON.stringify(workflow.activeState));
    await editor.loadGraphData(graph, true, true, workflow);
  }

  // src/page/comfyui_page.ts
  var INTERVAL3 = 20;
  var folder = location.pathname.slice(0, location.pathname.lastIndexOf("/") + 1);
  function inFolder(url) {
    if (!URL.canParse(url, location.href)) return String(url);
    const address2 = new URL(url, location.href);
    const isHere = address2.protocol === location.protocol && address2.host === location.host;
    if (isHere && !address2.pathname.startsWith(folder)) {
      address2.pathname = folder + address2.pathname.replace(/^\/+/, "");
    }
    return address2.href;
  }
  for (const name of ["pushState", "replaceState"]) {
    const change = history[name];
    history[name] = function(state, title, url) {
      if (url === void 0 || url === null) return change.call(this, state, title);
      return change.call(this, state, title, inFolder(url));
    };
  }
  for (const [kind, name] of [
    [HTMLLinkElement, "href"],
    [HTMLImageElement, "src"]
  ]) {
    const property = Object.getOwnPropertyDescriptor(kind.prototype, name);
    Object.defineProperty(kind.prototype, name, {
      ...property,
      set(address2) {
        property?.set?.call(this, inFolder(address2));
      }
    });
  }
  var address = new URL(location.href);
  if (address.searchParams.has("token")) {
    address.searchParams.delete("token");
    history.replaceState(history.state, "", address.href);
  }
  var timer = setInterval(async () => {
    const root = document.getElementById("vue-app");
    const router = root?.__vue_app__?.config.globalProperties.$router;
    if (!router) return;
    clearInterval(timer);
    await router.isReady();
    const { matched, query } = router.currentRoute.value;
    if (matched.length === 0) router.replace({ path: "/", query });
  }, INTERVAL3);
  openNamedWorkflow();
  followLab();
})();
