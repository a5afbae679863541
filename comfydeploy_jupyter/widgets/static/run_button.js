// Made from js/src/views/run_button.ts by `make js-build`; do not edit it here.

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
function icon(name) {
  return h("i", { className: `fa fa-${name}`, "aria-hidden": "true" });
}
function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

// src/form/unconfirmed.ts
var EVENT = "comfydeploy-typed";
function unconfirmedIn(element) {
  const found = [];
  const panel = element.closest(".comfydeploy-panel");
  for (const form of panel?.querySelectorAll(".comfydeploy-form") ?? []) {
    form.dispatchEvent(new CustomEvent(EVENT, { detail: found }));
  }
  return found;
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

// src/views/run_button.ts
var HINT = "How many runs to queue";
function render({ model, el }) {
  setUpRoot(el, "button");
  el.classList.add("comfydeploy-run");
  const events = new Subscriptions(model);
  const times = h("input", {
    type: "number",
    min: 1,
    max: model.get("most"),
    step: 1,
    value: "1",
    title: HINT
  });
  const run = h(
    "button",
    {
      type: "button",
      className: "cd-button cd-primary",
      title: "Run the workflow with these values (Ctrl+Enter)",
      onclick: () => model.send({ kind: "run", times: Number(times.value), typed: unconfirmedIn(el) })
    },
    icon("play"),
    " Run"
  );
  const label = h("label", { className: "cd-line cd-times" }, "times", times);
  el.append(h("div", { className: "cd-line" }, run, label));
  const show = () => {
    run.disabled = model.get("disabled");
    const problem = model.get("problem");
    setAttribute(times, "aria-invalid", problem ? "true" : null);
    times.title = problem || HINT;
    if (problem) times.focus();
  };
  events.on("change:disabled change:problem", show);
  show();
  return () => events.end();
}
var run_button_default = { render };
export {
  run_button_default as default
};
