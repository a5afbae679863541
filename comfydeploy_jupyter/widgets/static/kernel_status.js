// Made from js/src/views/kernel_status.ts by `make js-build`; do not edit it here.

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
var NO_SHORTCUTS = "data-lm-suppress-shortcuts";
function setUpRoot(el, name) {
  el.classList.add("comfydeploy-view", `comfydeploy-${name}`);
  el.setAttribute(NO_SHORTCUTS, "true");
}
function keepKeysIn(root) {
  const mark = ({ target }) => target.setAttribute(NO_SHORTCUTS, "true");
  root.setAttribute(NO_SHORTCUTS, "true");
  root.addEventListener("focusin", mark);
  return () => root.removeEventListener("focusin", mark);
}
function whenConnected(element, action) {
  let timer;
  const check = () => {
    if (element.isConnected) action();
    else timer = setTimeout(check, 20);
  };
  timer = setTimeout(check);
  return () => clearTimeout(timer);
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

// src/views/kernel_status.ts
var CONTROLS = "button, input, select, textarea";
var USABLE = ".cd-picture-button, .cd-lightbox *";
function render({ model, el }) {
  setUpRoot(el, "kernel-status");
  el.setAttribute("role", "alert");
  el.hidden = true;
  const cleanups = [];
  cleanups.push(
    whenConnected(el, () => {
      const panel = el.closest(`.${model.get("around")}`);
      if (panel) cleanups.push(keepKeysIn(panel));
    })
  );
  const disable = (panel) => {
    for (const control of panel.querySelectorAll(CONTROLS)) {
      if (!control.disabled && !control.matches(USABLE)) control.disabled = true;
    }
  };
  const showGone = () => {
    const panel = el.closest(`.${model.get("around")}`);
    if (!panel) return;
    panel.classList.add("cd-dead");
    disable(panel);
    const observer = new MutationObserver(() => disable(panel));
    observer.observe(panel, { subtree: true, childList: true, attributeFilter: ["disabled"] });
    cleanups.push(() => observer.disconnect());
    el.hidden = false;
    el.replaceChildren(h("div", { className: "comfydeploy-error" }, model.get("text")));
  };
  cleanups.push(followKernel(model, el, showGone));
  return () => {
    for (const cleanup of cleanups) cleanup();
  };
}
var kernel_status_default = { render };
export {
  kernel_status_default as default
};
