// Made from js/src/views/button.ts by `make js-build`; do not edit it here.

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

// src/views/button.ts
function render({ model, el }) {
  setUpRoot(el, "button");
  const events = new Subscriptions(model);
  const button = h("button", { type: "button", onclick: () => model.send({ kind: "click" }) });
  const show = () => {
    const [label, iconName, style] = [
      model.get("description"),
      model.get("icon"),
      model.get("button_style")
    ];
    button.className = label ? `cd-button ${style ? `cd-${style}` : ""}` : "cd-icon";
    button.disabled = model.get("disabled");
    button.title = model.get("hint");
    setAttribute(button, "aria-label", label ? null : model.get("hint"));
    button.replaceChildren();
    if (iconName) button.append(icon(iconName));
    if (label) button.append(iconName ? ` ${label}` : label);
  };
  events.on("change:description change:icon change:hint change:button_style change:disabled", show);
  show();
  el.append(button);
  return () => events.end();
}
var button_default = { render };
export {
  button_default as default
};
