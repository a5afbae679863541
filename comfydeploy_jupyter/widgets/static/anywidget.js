// Made from js/src/hosts/anywidget.ts by `make js-build`; do not edit it here.

// src/dom.ts
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === void 0 || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) Object.assign(element, { [name]: value });
    else element.setAttribute(name, String(value));
  }
  const isThere = (child) => child !== null && child !== void 0;
  element.append(...children.flat().filter(isThere));
  return element;
}

// src/model.ts
var Subscriptions = class {
  constructor(model) {
    this.model = model;
  }
  model;
  added = [];
  /** Call `action` on each of the events, whose names are separated by spaces. */
  on(events, action) {
    this.model.on(events, action);
    this.added.push([events, action]);
  }
  end() {
    for (const [events, action] of this.added) this.model.off(events, action);
  }
};

// src/kernel.ts
var SILENT = "The kernel does not answer: the panel waits until it is free. If it has ended, run this cell again.";
var NO_PICTURES = "This page reaches the server only through the kernel, which is busy: the sheet appears as soon as it is free. With comfy.sweep(…, wait=False) it appears as results arrive.";
var GONE = /* @__PURE__ */ new Set(["restarting", "autorestarting", "terminating", "dead"]);
function followKernel(model, el, ended) {
  let isGone = false;
  const gone = () => {
    if (!isGone) ended();
    isGone = true;
  };
  const check = () => {
    if (el.closest(".jupyter-widgets-disconnected")) gone();
  };
  const events = new Subscriptions(model);
  events.on("comm:close comm_live_update", () => setTimeout(check));
  const observer = new MutationObserver(check);
  observer.observe(el, { attributeFilter: ["class"] });
  const { context } = model.widget_manager ?? {};
  const sessionContext = context?.sessionContext;
  let first = sessionContext?.session?.kernel?.id;
  const onSession = () => {
    const kernel = sessionContext?.session?.kernel;
    first ??= kernel?.id;
    if (!kernel || kernel.id !== first || GONE.has(kernel.status)) gone();
  };
  const signals = [sessionContext?.statusChanged, sessionContext?.kernelChanged];
  for (const signal of signals) signal?.connect(onSession);
  const timer = setTimeout(() => {
    check();
    if (first) onSession();
  });
  return () => {
    clearTimeout(timer);
    observer.disconnect();
    events.end();
    for (const signal of signals) signal?.disconnect(onSession);
  };
}

// src/format.ts
function parseJson(text) {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return null;
  }
}

// src/server.ts
function pageConfig() {
  return parseJson(document.getElementById("jupyter-config-data")?.textContent) ?? {};
}
function pageHeaders() {
  const headers = {};
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1];
  if (xsrf) headers["X-XSRFToken"] = decodeURIComponent(xsrf);
  const { token } = pageConfig();
  if (token) headers.Authorization = `token ${token}`;
  return headers;
}

// src/load_panels.ts
var LOADED = "comfydeployPanels";
function panelsOnce(read) {
  const page = globalThis;
  page[LOADED] ??= {};
  const loaded = page[LOADED];
  loaded["5cd58abff2207e02"] ??= read().then(run);
  loaded["5cd58abff2207e02"].catch(() => delete loaded["5cd58abff2207e02"]);
  return loaded["5cd58abff2207e02"];
}
async function run(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}
function askForPanels() {
  const url = `${pageConfig().baseUrl ?? "/"}static/comfydeploy/panels.js?v=${"5cd58abff2207e02"}`;
  return fetch(url, { headers: pageHeaders() });
}
function isPanels(text) {
  return text.startsWith(`// ${"5cd58abff2207e02"} `);
}

// src/hosts/anywidget.ts
var LATE = 4e3;
async function fromServer() {
  const reply = pageConfig().baseUrl ? await askForPanels() : null;
  const text = reply?.ok ? await reply.text() : "";
  if (!isPanels(text)) throw new Error("the server has none of this version");
  return text;
}
function fromKernel(model) {
  return new Promise((resolve) => {
    const onMessage = (message, buffers) => {
      if (message.kind !== "panels") return;
      model.off("msg:custom", onMessage);
      resolve(new TextDecoder().decode(buffers[0]));
    };
    model.on("msg:custom", onMessage);
    model.send({ kind: "panels" });
  });
}
function sayWaiting(model, el) {
  const line = h("div", { role: "status" });
  let isLate = false;
  const say = () => {
    const status = model.get("status") ?? "";
    line.textContent = isLate ? status ? `${status}. ${NO_PICTURES}` : SILENT : status;
  };
  const timer = setTimeout(() => {
    isLate = true;
    say();
  }, LATE);
  model.on("change:status", say);
  el.append(line);
  say();
  return () => {
    clearTimeout(timer);
    model.off("change:status", say);
    line.remove();
  };
}
function render({ model, el }) {
  let end = () => {
  };
  let isOver = false;
  el.classList.add("comfydeploy-panel");
  const leave = followKernel(model, el, () => el.classList.add("jupyter-widgets-disconnected"));
  const endWaiting = sayWaiting(model, el);
  panelsOnce(fromServer).catch(async () => {
    const text = await fromKernel(model);
    return panelsOnce(async () => text);
  }).then(({ mount }) => {
    endWaiting();
    if (!isOver) end = mount(model, el);
  }).catch((error) => {
    const text = `The panel cannot be shown: ${error}`;
    el.replaceChildren(h("div", { className: "comfydeploy-error", role: "alert" }, text));
  });
  return () => {
    isOver = true;
    endWaiting();
    leave();
    end();
  };
}
var anywidget_default = { render };
export {
  anywidget_default as default
};
