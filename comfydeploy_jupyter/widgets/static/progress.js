// Made from js/src/views/progress.ts by `make js-build`; do not edit it here.

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
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// src/format.ts
function formatDuration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
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

// src/progress_bar.ts
function progressBar(label) {
  return h("div", { className: "cd-bar", role: "progressbar", "aria-label": label }, h("div"));
}
function setFraction(bar, fraction) {
  bar.querySelector("div")?.style.setProperty("width", `${100 * fraction}%`);
  bar.setAttribute("aria-valuenow", String(Math.round(100 * fraction)));
}

// src/views/progress.ts
function render({ model, el }) {
  setUpRoot(el, "progress");
  const events = new Subscriptions(model);
  const title = h("span", { className: "cd-node" });
  const spoken = h("span", { className: "cd-unseen", role: "status", "aria-live": "polite" });
  const clock = h("span", { className: "cd-faint cd-number" });
  const overall = progressBar("The whole run");
  const step = progressBar("This node");
  step.classList.add("cd-thin");
  const head = h("div", { className: "cd-line cd-spread" }, title, clock);
  el.append(head, spoken, overall, step);
  const show = () => {
    const state = model.get("state");
    el.hidden = !state.phase;
    if (el.hidden) return;
    title.textContent = state.text;
    title.title = state.text;
    setText(spoken, state.node);
    const parts = [`${Math.round(100 * state.fraction)} %`, formatDuration(state.elapsed)];
    if (state.left !== null) parts.push(`about ${formatDuration(state.left)} left`);
    clock.textContent = parts.join(" · ");
    setFraction(overall, state.fraction);
    setFraction(step, state.steps > 1 ? state.step / state.steps : 0);
    step.style.visibility = state.steps > 1 ? "visible" : "hidden";
  };
  events.on("change:state", show);
  show();
  return () => events.end();
}
var progress_default = { render };
export {
  progress_default as default
};
