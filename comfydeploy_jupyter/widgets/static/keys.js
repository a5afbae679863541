// Made from js/src/views/keys.ts by `make js-build`; do not edit it here.

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
function whenConnected(element, action) {
  let timer;
  const check = () => {
    if (element.isConnected) action();
    else timer = setTimeout(check, 20);
  };
  timer = setTimeout(check);
  return () => clearTimeout(timer);
}
function icon(name) {
  return h("i", { className: `fa fa-${name}`, "aria-hidden": "true" });
}
function iconButton(iconName, label, onclick, more = {}) {
  return h(
    "button",
    { type: "button", className: "cd-icon", title: label, "aria-label": label, onclick, ...more },
    icon(iconName)
  );
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

// src/views/keys.ts
var LEAST_ROOM = 240;
var AROUND = 90;
var MOST_ABOVE = 0.3;
var KEYS = [
  [["Ctrl", "Enter"], "Run the workflow (⌘ Enter on a Mac)"],
  [["Esc"], "Cancel this run, after a confirmation"],
  [["←", "→", "Home", "End"], "Go through the pictures; Enter enlarges one"],
  [["Tab"], "Go to the next control"],
  [["?"], "Show these keys"]
];
var TYPED = "input:not([type=checkbox], [type=range], [type=color]), textarea, select";
function scrollerOf(element) {
  for (let at = element.parentElement; at; at = at.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(at).overflowY)) return at;
  }
  return null;
}
function topOf(element) {
  return element.getBoundingClientRect().top;
}
function render({ model, el }) {
  setUpRoot(el, "keys");
  const events = new Subscriptions(model);
  const cleanups = [];
  let opener = null;
  const close = iconButton("times", "Close", () => help.close());
  const help = h(
    "dialog",
    { className: "cd-help", "aria-label": "Keys" },
    h("div", { className: "cd-line" }, h("b", { className: "cd-grow" }, "Keys"), close),
    h(
      "dl",
      {},
      KEYS.flatMap(([keys, what]) => [
        h(
          "dt",
          {},
          keys.map((key) => h("kbd", {}, key))
        ),
        h("dd", {}, what)
      ])
    )
  );
  const showHelp = () => {
    if (!help.open) help.showModal();
  };
  const helpButton = iconButton("keyboard-o", "Keys (?)", showHelp);
  const stop = h(
    "button",
    {
      type: "button",
      className: "cd-button cd-primary",
      onclick: () => {
        model.send({ kind: "cancel" });
        dismiss();
      }
    },
    "Cancel the run"
  );
  const keep = h("button", { type: "button", className: "cd-button" }, "Continue the run");
  const question = h(
    "div",
    { className: "cd-line cd-ask", role: "alertdialog", "aria-label": "Cancel the run?" },
    h("span", { className: "cd-grow" }, "Cancel the run that is shown?"),
    stop,
    keep
  );
  question.hidden = true;
  const dismiss = () => {
    if (question.hidden) return;
    const hadFocus = question.contains(document.activeElement);
    question.hidden = true;
    if (hadFocus) opener?.focus();
  };
  keep.addEventListener("click", dismiss);
  el.append(helpButton, question, help);
  const onKey = (event) => {
    const target = event.target;
    const panel = event.currentTarget;
    if (event.defaultPrevented && event.key !== "Enter") return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      panel.querySelector(".comfydeploy-run button.cd-primary")?.click();
    } else if (event.key === "Escape" && !target.closest("dialog")) {
      if (!question.hidden) dismiss();
      else if (model.get("running")) {
        opener = document.activeElement;
        question.hidden = false;
        stop.focus();
      } else return;
    } else if (event.key === "?" && !target.matches(TYPED)) showHelp();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  cleanups.push(
    whenConnected(el, () => {
      const panel = el.closest(".comfydeploy-panel");
      const bar = el.closest(".cd-bar-box");
      if (!panel || !bar) return;
      panel.addEventListener("keydown", onKey);
      let scroller = null;
      const measure = () => {
        const found = scrollerOf(panel);
        if (found !== scroller) {
          if (scroller) observer.unobserve(scroller);
          if (found) observer.observe(found);
          scroller = found;
        }
        const view = scroller?.clientHeight ?? window.innerHeight;
        const start = panel.closest(".jp-Cell") ?? panel;
        const above = topOf(bar.parentElement ?? bar) - topOf(start);
        const taken = Math.min(above, view * MOST_ABOVE) + bar.offsetHeight + AROUND;
        const room = Math.round(Math.max(LEAST_ROOM, view - taken));
        panel.style.setProperty("--cd-view", `${view}px`);
        panel.style.setProperty("--cd-bar", `${bar.offsetHeight}px`);
        panel.style.setProperty("--cd-room", `${room}px`);
      };
      const onScroll = ({ target }) => {
        if (target !== scroller && target instanceof Element && target.contains(panel)) measure();
      };
      const observer = new ResizeObserver(() => requestAnimationFrame(measure));
      observer.observe(bar);
      observer.observe(panel);
      document.addEventListener("scroll", onScroll, true);
      window.addEventListener("resize", measure);
      measure();
      cleanups.push(() => {
        panel.removeEventListener("keydown", onKey);
        observer.disconnect();
        document.removeEventListener("scroll", onScroll, true);
        window.removeEventListener("resize", measure);
      });
    })
  );
  events.on("change:running", () => {
    if (!model.get("running")) dismiss();
  });
  return () => {
    events.end();
    for (const cleanup of cleanups) cleanup();
  };
}
var keys_default = { render };
export {
  keys_default as default
};
