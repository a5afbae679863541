// Made from js/src/views/file_button.ts by `make js-build`; do not edit it here.

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
var idsMade = 0;
function newId() {
  idsMade += 1;
  return `comfydeploy-${Math.random().toString(36).slice(2, 10)}-${idsMade}`;
}
var NO_SHORTCUTS = "data-lm-suppress-shortcuts";
function setUpRoot(el, name) {
  el.classList.add("comfydeploy-view", `comfydeploy-${name}`);
  el.setAttribute(NO_SHORTCUTS, "true");
}
function icon(name) {
  return h("i", { className: `fa fa-${name}`, "aria-hidden": "true" });
}
function fileButton(label, accept, take, more = {}) {
  const input = h("input", { type: "file", accept, hidden: true, tabIndex: -1 });
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    if (file) take(file);
    input.value = "";
  });
  const button = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => input.click(), ...more },
    icon("upload"),
    ` ${label}`
  );
  return [button, input];
}
function isAccepted(file, accept) {
  return accept.split(",").some((kind) => {
    if (kind.startsWith(".")) return file.name.toLowerCase().endsWith(kind);
    return kind.endsWith("/*") ? file.type.startsWith(kind.slice(0, -1)) : file.type === kind;
  });
}

// src/files.ts
var CHUNK = 1 << 20;
var AHEAD = 4;
async function sendFile(model, file, facts) {
  const id = newId();
  const total = Math.max(1, Math.ceil(file.size / CHUNK));
  let taken = 0;
  let wake = () => {
  };
  const onMessage = (message) => {
    if (message.kind !== "took" || message.id !== id) return;
    taken += 1;
    wake();
  };
  model.on("msg:custom", onMessage);
  for (let piece = 0; piece < total; piece += 1) {
    while (piece - taken >= AHEAD) {
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
    const offset = piece * CHUNK;
    const content = await file.slice(offset, offset + CHUNK).arrayBuffer();
    const { name, size } = file;
    model.send({ kind: "piece", id, name, size, offset, ...facts }, void 0, [content]);
  }
  model.off("msg:custom", onMessage);
  return id;
}

// src/views/file_button.ts
var PANEL = ".comfydeploy-panel";
function render({ model, el }) {
  setUpRoot(el, "file");
  const take = (file) => {
    if (isAccepted(file, model.get("accept"))) sendFile(model, file, {});
    else model.send({ kind: "refused", name: file.name });
  };
  const more = { title: model.get("hint") };
  el.append(...fileButton(model.get("label"), model.get("accept"), take, more));
  const panelAt = (event) => {
    const panel = event.target instanceof Element ? event.target.closest(PANEL) : null;
    const isOurs = panel !== null && panel === el.closest(PANEL);
    const isFree = !event.defaultPrevented && !panel?.classList.contains("cd-dead");
    return isOurs && isFree && event.dataTransfer?.types.includes("Files") ? panel : null;
  };
  let marked = null;
  const mark = (panel) => {
    marked?.classList.remove("cd-drop");
    panel?.classList.add("cd-drop");
    marked = panel;
  };
  const onDragOver = (event) => {
    const panel = panelAt(event);
    if (panel) event.preventDefault();
    mark(panel);
  };
  const onDragLeave = (event) => {
    if (!event.relatedTarget) mark(null);
  };
  const onDrop = (event) => {
    const panel = panelAt(event);
    mark(null);
    if (!panel) return;
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  };
  document.addEventListener("dragover", onDragOver);
  document.addEventListener("dragleave", onDragLeave);
  document.addEventListener("drop", onDrop);
  return () => {
    document.removeEventListener("dragover", onDragOver);
    document.removeEventListener("dragleave", onDragLeave);
    document.removeEventListener("drop", onDrop);
  };
}
var file_button_default = { render };
export {
  file_button_default as default
};
