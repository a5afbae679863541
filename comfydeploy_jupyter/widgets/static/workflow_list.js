// Made from js/src/views/workflow_list.ts by `make js-build`; do not edit it here.

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
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

// src/format.ts
function parseJson(text) {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return null;
  }
}
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

// src/server.ts
var REACH_TIMEOUT = 5e3;
function pageConfig() {
  return parseJson(document.getElementById("jupyter-config-data")?.textContent) ?? {};
}
function pageHeaders() {
  const headers = {};
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1];
  if (xsrf) headers["X-XSRFToken"] = decodeURIComponent(xsrf);
  const { token } = pageConfig();
  if (token) headers.Authorization = `token ${token}`;
  return headers;
}
var reached = /* @__PURE__ */ new Map();
function pageServer({ base: given, instance }) {
  const base = pageConfig().baseUrl || given;
  if (!instance || !base) return Promise.resolve(null);
  const key = `${base} ${instance}`;
  const known = reached.get(key);
  if (known) return known;
  const asked = fetch(`${base}comfyui-deploy/check-status`, {
    headers: pageHeaders(),
    cache: "no-store",
    signal: AbortSignal.timeout(REACH_TIMEOUT)
  }).then((reply) => reply.json()).then((status) => status.instance === instance ? base : null).catch(() => {
    reached.delete(key);
    return null;
  });
  reached.set(key, asked);
  return asked;
}

// src/files.ts
var CHUNK = 1 << 20;
var AHEAD = 4;
var SMALL = 768;
var KEPT = 200;
var Files = class {
  constructor(model, events) {
    this.model = model;
    events.on("msg:custom", (message, buffers) => {
      if (message.kind === "copy") this.take(message, buffers);
      const waiting = this.waiting.get(message.id);
      if (message.kind !== "file" || !waiting) return;
      this.waiting.delete(message.id);
      if (message.error) return waiting.reject(new Error(message.error));
      if (message.size !== void 0) return waiting.resolve(message.size);
      waiting.resolve(this.blobUrl(message, buffers));
    });
  }
  model;
  waiting = /* @__PURE__ */ new Map();
  blobUrls = /* @__PURE__ */ new Set();
  /** Small copies, by side and query: those that were requested, and those that are there. */
  requested = /* @__PURE__ */ new Map();
  small = /* @__PURE__ */ new Map();
  // the last one used is the last
  /** Blob URLs of small copies that the kernel has sent while it answers no requests. */
  copies = /* @__PURE__ */ new Map();
  /** The last request for each element that shows files; earlier answers are not for it any more. */
  last = /* @__PURE__ */ new WeakMap();
  /** The URLs that only one element uses. */
  own = /* @__PURE__ */ new WeakMap();
  blobUrl({ mime }, buffers) {
    const url = URL.createObjectURL(new Blob(buffers, { type: mime }));
    this.blobUrls.add(url);
    return url;
  }
  /** Have the browser free a file that the kernel has sent; do nothing for other URLs. */
  revoke(url) {
    if (this.blobUrls.delete(url)) URL.revokeObjectURL(url);
  }
  /** Keep a small copy, and show it where it was requested. */
  take(message, buffers) {
    this.copies.set(message.query, this.blobUrl(message, buffers));
    for (const [id, { resolve, copyOf }] of this.waiting) {
      if (copyOf !== message.query) continue;
      this.waiting.delete(id);
      resolve(this.blobUrl(message, buffers));
    }
  }
  /**
   * Return the URL of a file; with `side`, of a copy of a picture with at most so many pixels.
   *
   * A caller that does not pass it to `show` must call `revoke` when the file is not needed any more,
   * unless it is a small copy.
   */
  async url(query, side = 0) {
    const base = await pageServer(this.model.get("server"));
    if (base === null) {
      return isSmall(side) ? this.smallCopy(query, side) : String(await this.askForFile(query, side));
    }
    return `${base}comfyui-deploy/view?${query}${side ? `&thumbnail=${side}` : ""}`;
  }
  /** Return the URL of a small copy; request it from the kernel unless that was done before. */
  async smallCopy(query, side) {
    const key = `${side} ${query}`;
    const known = this.small.get(key);
    if (known) return this.keep(key, known);
    const sent = this.copies.get(query);
    if (sent) return sent;
    const request = this.requested.get(key) ?? this.askForFile(query, side).then((url) => this.keep(key, String(url))).finally(() => this.requested.delete(key));
    this.requested.set(key, request);
    return request;
  }
  /** Keep a small copy, and free the one that was not used for the longest time. */
  keep(key, url) {
    this.small.delete(key);
    this.small.set(key, url);
    const [oldest] = this.small;
    if (oldest && this.small.size > KEPT) {
      this.small.delete(oldest[0]);
      this.revoke(oldest[1]);
    }
    return url;
  }
  /** Request a file, for a script that needs its content. */
  async read(query, side = 0) {
    const url = await this.url(query, side);
    try {
      return await fetch(url, { headers: pageHeaders() });
    } finally {
      if (!isSmall(side)) this.revoke(url);
    }
  }
  /** Return the size of a file in bytes; -1 if the server does not return it. */
  async size(query) {
    const base = await pageServer(this.model.get("server"));
    if (base === null) return Number(await this.askForFile(query, 0, true));
    const url = `${base}comfyui-deploy/view?${query}`;
    const reply = await fetch(url, { method: "HEAD", headers: pageHeaders() });
    if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
    return Number(reply.headers.get("Content-Length") ?? -1);
  }
  /** Return why there is no small copy of a picture, empty if unknown; and whether it is missing. */
  async whyNoCopy(query, side) {
    let message = "";
    let isMissing = false;
    try {
      const reply = await this.read(query, side);
      isMissing = reply.status === 404;
      if (!reply.ok) message = parseJson(await reply.text())?.message ?? "";
    } catch (error) {
      message = messageOf(error);
    }
    return { reason: message.replace(/^thumbnail:/, "A preview"), isMissing };
  }
  askForFile(query, side, only_size = false) {
    return this.ask({ kind: "file", query, side, only_size }, side ? query : "");
  }
  /** Send a message, and return the reply of the kernel: a blob URL, or a number. */
  ask(message, copyOf = "") {
    const id = newId();
    const answer = new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, copyOf });
    });
    this.model.send({ ...message, id });
    return answer;
  }
  /**
   * Show a file in a picture, video or sound; `failed` is called if it cannot be shown. If the
   * element is to show another file before the answer, the answer is dropped.
   */
  async show(media, query, side = 0, failed = () => {
  }) {
    const request = {};
    const isLast = () => this.last.get(media) === request;
    this.last.set(media, request);
    try {
      media.onerror = () => {
        this.setOwn(media, "");
        failed();
      };
      const url = await this.url(query, side);
      if (isLast()) {
        media.src = url;
        this.setOwn(media, isSmall(side) ? "" : url);
      } else if (!isSmall(side)) this.revoke(url);
    } catch {
      if (isLast()) failed();
    }
  }
  /** Note the URL that only this element uses, and free the one before. */
  setOwn(media, url) {
    this.revoke(this.own.get(media) ?? "");
    this.own.set(media, url);
  }
  /** Free the browser's memory for the files that an element, or what it contains, has shown. */
  free(root) {
    for (const media of [root, ...root.querySelectorAll("img, video, audio")]) {
      this.last.delete(media);
      this.setOwn(media, "");
      media.removeAttribute("src");
      if (media instanceof HTMLMediaElement) media.load();
    }
  }
  /** Free the browser's memory for all files. */
  end() {
    for (const url of this.blobUrls) this.revoke(url);
  }
};
function isSmall(side) {
  return side > 0 && side <= SMALL;
}
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

// src/when_seen.ts
var MARGIN = "300px";
var WhenSeen = class {
  actions = /* @__PURE__ */ new WeakMap();
  observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        this.observer.unobserve(target);
        this.actions.get(target)?.();
      }
    },
    // The first margin is for the page, the second for elements that scroll, such as a notebook.
    { rootMargin: MARGIN, scrollMargin: MARGIN }
  );
  watch(element, action) {
    this.actions.set(element, action);
    this.observer.observe(element);
  }
  end() {
    this.observer.disconnect();
  }
};

// src/views/workflow_list.ts
var SIDE = 96;
function render({ model, el }) {
  setUpRoot(el, "workflow-list");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  const seen = new WhenSeen();
  const items = /* @__PURE__ */ new Map();
  let active = null;
  const tabs = /* @__PURE__ */ new Map();
  let edits = false;
  const list = h("div", {
    className: "cd-workflows",
    role: "listbox",
    tabIndex: 0,
    "aria-label": "Workflows"
  });
  const actions = h("div", { className: "cd-line cd-actions" });
  const editor = h("div", { className: "cd-edit", hidden: true });
  const messageText = h("span", { className: "cd-grow" });
  const undo = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => model.send({ kind: "undo" }) },
    icon("undo"),
    " Undo"
  );
  const line = h("div", { className: "cd-line cd-message", role: "status" }, messageText, undo);
  const hint = h("div", { className: "cd-faint" }, "Drop workflow files here to store them.");
  el.append(list, hint, actions, editor, line);
  const entryOf = (id) => model.get("entries").find((entry) => entry.id === id);
  const choose = (id) => {
    activate(id);
    model.set("value", id);
    model.save_changes();
  };
  const activate = (id) => {
    active = id;
    for (const [key, { option: option2 }] of items) option2.classList.toggle("cd-active", key === id);
    const option = id === null ? void 0 : items.get(id)?.option;
    setAttribute(list, "aria-activedescendant", option?.id ?? null);
    option?.scrollIntoView({ block: "nearest" });
  };
  const makeItem = (entry, key) => {
    const picture = h("span", { className: "cd-frame" }, icon(entry.kept ? "sitemap" : "file-o"));
    const option = h(
      "div",
      {
        id: newId(),
        role: "option",
        className: "cd-workflow",
        title: entry.name
      },
      picture,
      h(
        "span",
        { className: "cd-names" },
        h("span", { className: "cd-name" }, entry.name),
        h(
          "span",
          { className: "cd-faint" },
          entry.note,
          entry.tags.map((tag) => h("span", { className: "cd-tag" }, tag))
        )
      )
    );
    setAttribute(option, "data-entry", entry.id);
    if (entry.kept) seen.watch(picture, () => model.send({ kind: "picture", id: entry.id }));
    return { key, option, frame: picture };
  };
  const showPicture = (id, query) => {
    const item = items.get(id);
    if (!item || !query) return;
    const image = h("img", { alt: "" });
    const before = [...item.frame.childNodes];
    item.frame.replaceChildren(image);
    files.show(image, query, SIDE, () => item.frame.replaceChildren(...before));
  };
  const ask = (label, value, most, done) => {
    const input = h("input", { type: "text", value, maxLength: most, "aria-label": label });
    const close = () => {
      editor.hidden = true;
      editor.replaceChildren();
      list.focus();
    };
    const form = h(
      "form",
      { className: "cd-line" },
      input,
      h("button", { type: "submit", className: "cd-button cd-primary" }, "Save"),
      h("button", { type: "button", className: "cd-button", onclick: close }, "Cancel")
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      done(input.value.trim());
      close();
    });
    form.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close();
    });
    editor.replaceChildren(h("span", { className: "cd-faint" }, label), form);
    editor.hidden = false;
    input.select();
    input.focus();
  };
  const rename = ({ id, name }) => ask(`New name of ${name}`, name, 255, (text) => {
    if (text && text !== name) model.send({ kind: "rename", id, name: text });
  });
  const retag = ({ id, name, tags }) => ask(`Tags of ${name}, separated by commas`, tags.join(", "), 3e3, (text) => {
    const given = text.split(",").map((tag) => tag.trim());
    model.send({ kind: "tag", id, tags: given.filter(Boolean) });
  });
  const edit = ({ id }) => {
    tabs.set(id, window.open("", "_blank"));
    model.send({ kind: "edit", id });
  };
  const showEditor = async (id, url) => {
    const tab = tabs.get(id);
    tabs.delete(id);
    if (!url) {
      tab?.close();
      return;
    }
    edits = true;
    const base = await pageServer(model.get("server"));
    const address = base === null ? url : `${base}comfyui/${new URL(url).search}`;
    if (tab) tab.location.href = new URL(address, location.href).href;
    else window.open(address, "_blank");
  };
  const lookForVersions = () => {
    if (edits) model.send({ kind: "edited" });
  };
  window.addEventListener("focus", lookForVersions);
  const remove = ({ id }) => model.send({ kind: "delete", id });
  const action = (iconName, text, label, onclick) => h(
    "button",
    { type: "button", className: "cd-button", title: label, onclick },
    icon(iconName),
    ` ${text}`
  );
  const showActions = () => {
    const entry = entryOf(model.get("value"));
    const focus = actions.contains(document.activeElement);
    const parts = [];
    if (entry?.kept && model.get("editable")) {
      parts.push(
        action(
          "sitemap",
          "Edit in ComfyUI",
          `Open ${entry.name} in ComfyUI's page`,
          () => edit(entry)
        ),
        action("pencil", "Rename …", `Rename ${entry.name} (F2)`, () => rename(entry)),
        action("tags", "Tags …", `Change the tags of ${entry.name}`, () => retag(entry)),
        action(
          "trash-o",
          "Delete",
          `Delete ${entry.name} (Del); can be undone`,
          () => remove(entry)
        )
      );
    } else if (entry && !entry.kept) {
      const keep = () => model.send({ kind: "keep", id: entry.id });
      parts.push(action("bookmark-o", "Keep", `Keep ${entry.name} on the server`, keep));
    }
    actions.replaceChildren(...parts);
    if (focus) (actions.querySelector("button") ?? list).focus();
  };
  const show = () => {
    const entries = model.get("entries");
    const groups = /* @__PURE__ */ new Map();
    const ids = new Set(entries.map(({ id }) => id));
    for (const id of items.keys()) if (!ids.has(id)) items.delete(id);
    for (const entry of entries) {
      const key = JSON.stringify(entry);
      const known = items.get(entry.id);
      const item = known?.key === key ? known : makeItem(entry, key);
      items.set(entry.id, item);
      let group = groups.get(entry.group);
      if (!group) {
        const title = h("div", { className: "cd-group" }, entry.group);
        title.setAttribute("role", "presentation");
        group = h("div", { role: "group", "aria-label": entry.group }, title);
        groups.set(entry.group, group);
      }
      group.append(item.option);
    }
    const { scrollTop } = list;
    list.replaceChildren(...groups.values());
    list.scrollTop = scrollTop;
    if (active !== null && !ids.has(active)) activate(null);
    showValue();
  };
  const showValue = () => {
    const value = model.get("value");
    for (const [id, { option }] of items)
      option.setAttribute("aria-selected", String(id === value));
    if (value !== null && items.has(value)) activate(value);
    showActions();
  };
  const showMessage = ({ text = "", undo: canUndo = false, problem = false }) => {
    setText(messageText, text);
    line.classList.toggle("cd-problem", problem);
    undo.hidden = !canUndo;
    line.hidden = !text;
  };
  const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
  list.addEventListener("keydown", (event) => {
    const entries = model.get("entries");
    const at = entries.findIndex(({ id }) => id === active);
    const entry = entries[at];
    const step = STEPS[event.key];
    let next = null;
    if (step !== void 0) next = at < 0 ? 0 : at + step;
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = entries.length - 1;
    if (next !== null) {
      activate(entries[Math.max(0, Math.min(entries.length - 1, next))]?.id ?? null);
    } else if ((event.key === "Enter" || event.key === " ") && entry) choose(entry.id);
    else if (entry?.kept && model.get("editable") && event.key === "F2") rename(entry);
    else if (entry?.kept && model.get("editable") && event.key === "Delete") remove(entry);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const entryAt = ({ target }) => target.closest("[data-entry]")?.getAttribute("data-entry") ?? null;
  const chooseAt = (event) => {
    const id = entryAt(event);
    if (id !== null) choose(id);
  };
  let pressed = null;
  list.addEventListener("pointerdown", (event) => {
    pressed = event.button === 0 ? entryAt(event) : null;
  });
  list.addEventListener("pointercancel", () => {
    pressed = null;
  });
  list.addEventListener("pointerup", (event) => {
    if (pressed === entryAt(event)) chooseAt(event);
  });
  list.addEventListener("click", chooseAt);
  list.addEventListener("focus", () => {
    if (active === null) activate(model.get("entries")[0]?.id ?? null);
  });
  const keepAll = async (dropped) => {
    let first = true;
    for (const file of dropped) {
      try {
        await sendFile(model, file, { first });
        first = false;
      } catch (error) {
        showMessage({ text: `${file.name} cannot be read: ${messageOf(error)}`, problem: true });
      }
    }
  };
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;
  el.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    list.classList.add("cd-drop-here");
  });
  el.addEventListener("dragleave", () => list.classList.remove("cd-drop-here"));
  el.addEventListener("drop", (event) => {
    list.classList.remove("cd-drop-here");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    keepAll([...event.dataTransfer?.files ?? []]);
  });
  events.on("msg:custom", (message) => {
    if (message.kind === "picture") showPicture(message.id, message.query);
    if (message.kind === "edit") showEditor(message.id, message.url);
  });
  events.on("change:entries", show);
  events.on("change:value change:editable", showValue);
  events.on("change:message", () => showMessage(model.get("message")));
  show();
  showMessage(model.get("message"));
  return () => {
    window.removeEventListener("focus", lookForVersions);
    seen.end();
    events.end();
    files.end();
  };
}
var workflow_list_default = { render };
export {
  workflow_list_default as default
};
