// Made from js/src/views/download.ts by `make js-build`; do not edit it here.

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
function textButton(text, onclick, ...classes) {
  const names = ["jupyter-widgets", "jupyter-button", "comfydeploy-button", ...classes];
  return h("button", { type: "button", textContent: text, className: names.join(" "), onclick });
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

// src/save_file.ts
var KEPT_FOR = 6e4;
function saveFile(name, mime, buffers) {
  saveUrl(name, URL.createObjectURL(new Blob(buffers, { type: mime })));
}
function saveUrl(name, url) {
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR);
}

// src/views/download.ts
function render({ model, el }) {
  const events = new Subscriptions(model);
  const button = textButton(model.get("label"), () => {
    button.disabled = true;
    model.send({ type: "wanted" });
  });
  Object.assign(button.style, { width: "auto", margin: "0" });
  events.on("msg:custom", (message, buffers) => {
    button.disabled = false;
    if (message.type !== "file") return;
    saveFile(message.name, message.mime, buffers);
  });
  el.append(button);
  return () => events.end();
}
var download_default = { render };
export {
  download_default as default
};
