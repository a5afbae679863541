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

// src/views/kernel_status.ts
var GONE = /* @__PURE__ */ new Set(["restarting", "autorestarting", "terminating", "dead"]);
var CONTROLS = "button, input, select, textarea";
var USABLE = ".cd-picture-button, .cd-lightbox *";
function render({ model, el }) {
  setUpRoot(el, "kernel-status");
  el.setAttribute("role", "alert");
  el.hidden = true;
  const events = new Subscriptions(model);
  const cleanups = [];
  let isGone = false;
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
    if (isGone || !panel) return;
    isGone = true;
    panel.classList.add("cd-dead");
    disable(panel);
    const observer2 = new MutationObserver(() => disable(panel));
    observer2.observe(panel, { subtree: true, childList: true, attributeFilter: ["disabled"] });
    cleanups.push(() => observer2.disconnect());
    el.hidden = false;
    el.replaceChildren(h("div", { className: "comfydeploy-error" }, model.get("text")));
  };
  const check = () => {
    if (el.closest(".jupyter-widgets-disconnected")) showGone();
  };
  events.on("comm:close comm_live_update", () => setTimeout(check));
  const observer = new MutationObserver(check);
  observer.observe(el, { attributeFilter: ["class"] });
  const timer = setTimeout(check);
  cleanups.push(
    () => observer.disconnect(),
    () => clearTimeout(timer)
  );
  const { context } = model.widget_manager ?? {};
  const sessionContext = context?.sessionContext;
  const first = sessionContext?.session?.kernel?.id;
  const onSession = () => {
    const kernel = sessionContext?.session?.kernel;
    if (!kernel || kernel.id !== first || GONE.has(kernel.status)) showGone();
  };
  for (const signal of [sessionContext?.statusChanged, sessionContext?.kernelChanged]) {
    signal?.connect(onSession);
    cleanups.push(() => signal?.disconnect(onSession));
  }
  return () => {
    events.end();
    for (const cleanup of cleanups) cleanup();
  };
}
var kernel_status_default = { render };
export {
  kernel_status_default as default
};
