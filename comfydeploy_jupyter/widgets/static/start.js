// Made from js/src/views/start.ts by `make js-build`; do not edit it here.

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

// src/views/start.ts
function render({ model, el }) {
  setUpRoot(el, "start");
  const events = new Subscriptions(model);
  const choice = (iconName, text, onclick) => h(
    "button",
    { type: "button", className: "cd-button cd-choice", title: text, onclick },
    icon(iconName),
    h("span", { className: "cd-cut" }, text)
  );
  const card = (title, text, choices) => h(
    "section",
    { className: "cd-card", "aria-label": title },
    h("div", { className: "cd-heading" }, title),
    h("p", { className: "cd-faint" }, text),
    choices
  );
  const pick = (iconName) => (title) => choice(iconName, title, () => model.send({ kind: "pick", title }));
  const open = () => {
    const panel = el.closest(".comfydeploy-panel");
    panel?.querySelector(".comfydeploy-file button")?.click();
  };
  const show = () => {
    el.hidden = !model.get("shown");
    const [files, stored, examples] = [
      model.get("files"),
      model.get("stored"),
      model.get("examples")
    ];
    el.replaceChildren(
      card("A file", "A workflow, or a picture, video or sound that ComfyUI made.", [
        ...files.map(pick("file-o")),
        choice("upload", "Open a file of this computer …", open)
      ]),
      card(
        "A stored workflow",
        stored.length ? "Changed last:" : "There is none yet. Use WorkflowPanel to store workflows.",
        stored.map(pick("bookmark-o"))
      ),
      card(
        "An example",
        examples.length ? "These workflows can run on this ComfyUI." : "ComfyUI does not answer yet.",
        examples.map(
          (title) => choice("play", title, () => model.send({ kind: "example", title }))
        )
      )
    );
  };
  events.on("change:files change:stored change:examples change:shown", show);
  show();
  return () => events.end();
}
var start_default = { render };
export {
  start_default as default
};
