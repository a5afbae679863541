// Made from js/src/views/copy_button.ts by `make js-build`; do not edit it here.

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

// src/clipboard.ts
var SHOWN_FOR = 1500;
async function write(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = h("textarea", { value: text });
  area.style.cssText = "position: fixed; opacity: 0";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refuses");
}
async function copyText(text, button, restore) {
  const label = button.textContent;
  try {
    await write(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  setTimeout(
    restore ?? (() => {
      button.textContent = label;
    }),
    SHOWN_FOR
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

// src/views/copy_button.ts
function render({ model, el }) {
  setUpRoot(el, "button");
  const events = new Subscriptions(model);
  const button = h("button", {
    type: "button",
    className: "cd-button",
    "aria-live": "polite",
    onclick: () => copyText(model.get("text"), button, show)
  });
  const show = () => {
    button.textContent = model.get("label");
    button.title = model.get("text");
  };
  show();
  events.on("change:text change:label", show);
  el.append(button);
  return () => events.end();
}
var copy_button_default = { render };
export {
  copy_button_default as default
};
