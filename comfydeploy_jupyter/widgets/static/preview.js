// Made from js/src/views/preview.ts by `make js-build`; do not edit it here.

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

// src/views/preview.ts
function render({ model, el }) {
  setUpRoot(el, "preview");
  el.hidden = true;
  const events = new Subscriptions(model);
  const image = h("img", { alt: "Preview of the sampler" });
  el.append(image);
  let url = "";
  const remove = () => {
    el.hidden = true;
    image.removeAttribute("src");
    if (url) URL.revokeObjectURL(url);
    url = "";
  };
  events.on("change:shown", () => {
    if (!model.get("shown")) remove();
  });
  events.on("msg:custom", (message, buffers) => {
    if (message.kind !== "preview" || !model.get("shown")) return;
    const old = url;
    url = URL.createObjectURL(new Blob(buffers, { type: message.mime }));
    image.src = url;
    el.hidden = false;
    if (old) URL.revokeObjectURL(old);
  });
  model.send({ kind: "hello" });
  return () => {
    events.end();
    remove();
  };
}
var preview_default = { render };
export {
  preview_default as default
};
