// Made from js/src/views/form.ts by `make js-build`; do not edit it here.

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
function iconButton(iconName, label, onclick, more = {}) {
  return h(
    "button",
    { type: "button", className: "cd-icon", title: label, "aria-label": label, onclick, ...more },
    icon(iconName)
  );
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
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

// src/format.ts
function searchWords(search) {
  return search.toLowerCase().split(/\s+/).filter(Boolean);
}
function containsWords(text, words) {
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}
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
var REPLY_TIMEOUT = 6e4;
var Cancelled = class extends Error {
};
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
async function getJson(url) {
  const signal = AbortSignal.timeout(REPLY_TIMEOUT);
  const response = await fetch(url, { headers: pageHeaders(), cache: "no-store", signal });
  const reply = parseJson(await response.text());
  if (response.ok && reply) return reply;
  throw new Error(reply?.message ?? `HTTP ${response.status}`);
}
function postFile(base, file, { machine, ...fields }, progress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
    form.append("file", file, file.name);
    const query = machine ? `?${new URLSearchParams({ machine })}` : "";
    request.open("POST", `${base}comfyui-deploy/upload-file${query}`);
    for (const [name, value] of Object.entries(pageHeaders())) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => progress(event.loaded / Math.max(1, event.total));
    request.upload.onload = () => progress(1);
    request.onload = () => {
      const reply = parseJson(request.responseText);
      if (request.status === 200 && reply?.success) resolve(reply);
      else reject(new Error(reply?.message ?? reply?.error ?? `HTTP ${request.status}`));
    };
    request.onerror = () => reject(new Error("The connection was lost, or the file was removed"));
    request.onabort = () => reject(new Cancelled());
    request.send(form);
  });
  return { done, abort: () => request.abort() };
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
async function uploadByKernel(model, file) {
  const id = await sendFile(model, file, {});
  return new Promise((resolve, reject) => {
    const onMessage = (message) => {
      if (message.kind !== "stored" || message.id !== id) return;
      model.off("msg:custom", onMessage);
      if (message.error) reject(new Error(message.error));
      else resolve(message.name);
    };
    model.on("msg:custom", onMessage);
  });
}

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

// src/form/batches.ts
var BATCH = 100;
var Batches = class {
  /** `put` creates the element of an item and adds it to the list; `begin` empties the list. */
  constructor(put, begin = () => {
  }) {
    this.put = put;
    this.begin = begin;
  }
  put;
  begin;
  root = h("div", { className: "cd-rows" });
  end_mark = h("div", { className: "cd-end-mark" });
  seen = new WhenSeen();
  items = [];
  shown = 0;
  /** Show other items. */
  show(items) {
    this.items = items;
    this.shown = 0;
    this.root.replaceChildren();
    this.begin();
    this.next();
  }
  /** Show all items up to this one. */
  reach(item) {
    const place = this.items.indexOf(item);
    while (place >= this.shown && this.shown < this.items.length) this.next();
  }
  end() {
    this.seen.end();
  }
  next() {
    this.end_mark.remove();
    for (const item of this.items.slice(this.shown, this.shown + BATCH)) this.put(this.root, item);
    this.shown = Math.min(this.items.length, this.shown + BATCH);
    if (this.shown === this.items.length) return;
    this.root.append(this.end_mark);
    this.seen.end();
    this.seen = new WhenSeen();
    this.seen.watch(this.end_mark, () => this.next());
  }
};

// src/combo_box.ts
var ROWS = 200;
var PAGE = 10;
var STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE };
function comboBox(settings) {
  const { id, label, free = false, hint = "", describedBy, choose, picked, opened } = settings;
  let { value, options } = settings;
  const listId = newId();
  const input = h("input", {
    id,
    type: "text",
    dir: "auto",
    role: "combobox",
    autocomplete: "off",
    spellcheck: false,
    placeholder: hint,
    "aria-label": label,
    "aria-expanded": "false",
    "aria-controls": listId,
    "aria-autocomplete": "list",
    "aria-describedby": describedBy
  });
  const list = h("ul", { id: listId, role: "listbox", className: "cd-list", "aria-label": label });
  list.setAttribute("popover", "manual");
  const root = h("div", { className: "cd-combo" }, input, icon("caret-down"), list);
  let found = [];
  let active = -1;
  let open = false;
  let searched = "";
  let note = "";
  const textOf2 = (wanted) => options.find((option) => option.value === wanted)?.text ?? String(wanted ?? "");
  const fill = (search) => {
    searched = search;
    const words = searchWords(search);
    const matches = options.filter(
      ({ text, note: note2 }) => containsWords(`${text} ${note2 ?? ""}`, words)
    );
    found = matches.slice(0, ROWS);
    list.replaceChildren(
      ...found.map(
        (option, index) => h(
          "li",
          {
            id: `${listId}-${index}`,
            role: "option",
            "aria-selected": String(option.value === value),
            title: option.text,
            onmousedown: (event) => event.preventDefault(),
            onclick: () => pick(index)
          },
          h("span", {}, option.text),
          option.note ? h("small", {}, option.note) : null
        )
      )
    );
    const left = matches.length - found.length;
    if (left) list.append(h("li", { className: "cd-more" }, `${left} more: type to search`));
    const last = note || (matches.length ? "" : "Nothing found");
    if (last) list.append(h("li", { className: "cd-more" }, last));
    activate(found.findIndex((option) => option.value === value));
  };
  const activate = (index) => {
    list.children[active]?.classList.remove("cd-active");
    active = index;
    const row = list.children[active];
    row?.classList.add("cd-active");
    row?.scrollIntoView({ block: "nearest" });
    setAttribute(input, "aria-activedescendant", row?.id ?? null);
  };
  const place = () => {
    const box = input.getBoundingClientRect();
    const below = window.innerHeight - box.bottom;
    const height = Math.max(80, Math.min(280, Math.max(below, box.top) - 12));
    Object.assign(list.style, {
      left: `${box.left}px`,
      minWidth: `${box.width}px`,
      maxWidth: `${Math.max(box.width, Math.min(560, window.innerWidth - box.left - 12))}px`,
      maxHeight: `${height}px`
    });
    const fitsBelow = below >= Math.min(height, list.scrollHeight) || below > box.top;
    list.style.top = fitsBelow ? `${box.bottom}px` : "";
    list.style.bottom = fitsBelow ? "" : `${window.innerHeight - box.top}px`;
  };
  const onPageMoved = (event) => {
    if (event.type !== "scroll" || !list.contains(event.target)) close(true);
  };
  const show = (search = "") => {
    fill(search);
    const isNew = !open;
    if (!open) {
      open = true;
      if (list.showPopover) list.showPopover();
      else list.classList.add("cd-open");
      input.setAttribute("aria-expanded", "true");
      window.addEventListener("scroll", onPageMoved, true);
      window.addEventListener("resize", onPageMoved);
    }
    place();
    list.children[active]?.scrollIntoView({ block: "nearest" });
    if (isNew) opened?.();
  };
  const close = (accept) => {
    if (open) {
      open = false;
      if (list.hidePopover) list.hidePopover();
      list.classList.remove("cd-open");
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
      window.removeEventListener("scroll", onPageMoved, true);
      window.removeEventListener("resize", onPageMoved);
    }
    if (!accept) return;
    if (free && input.value !== textOf2(value)) {
      const option = options.find((each) => each.text === input.value);
      set(option ? option.value : input.value, true);
    } else input.value = textOf2(value);
  };
  const set = (wanted, isChosen) => {
    const changed = wanted !== value;
    value = wanted;
    input.value = textOf2(value);
    input.title = input.value;
    if (changed && isChosen) choose(value);
  };
  const pick = (index) => {
    const option = found[index];
    close(false);
    if (!option) return;
    set(option.value, true);
    picked?.(value);
  };
  const onKey = (event) => {
    const step = STEPS[event.key];
    if (step !== void 0) {
      event.preventDefault();
      if (open) activate(Math.max(0, Math.min(found.length - 1, active + step)));
      else show();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (open && active >= 0) pick(active);
      else if (open && found.length === 1) pick(0);
      else {
        close(true);
        picked?.(value);
      }
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      event.stopPropagation();
      input.value = textOf2(value);
      close(true);
    }
  };
  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => open ? close(false) : show());
  input.addEventListener("input", () => show(input.value));
  input.addEventListener("blur", () => close(true));
  input.addEventListener("keydown", onKey);
  set(value, false);
  return {
    root,
    input,
    set: (wanted) => set(wanted, false),
    setOptions(wanted, now) {
      const isTyped = open && input.value !== textOf2(value);
      options = wanted;
      if (isTyped) value = now;
      else set(now, false);
      if (open) show(isTyped ? searched : "");
    },
    setNote(text) {
      note = text;
      if (open) show(searched);
    },
    end: () => close(false)
  };
}

// src/form/remote_list.ts
var RemoteList = class {
  // ms, when the list is to be loaded again
  constructor(form, field, show) {
    this.form = form;
    this.field = field;
    this.show = show;
    this.button = iconButton("refresh", `${field.label}: load the list again`, () => this.load());
  }
  form;
  field;
  show;
  state = h("span", { className: "cd-faint cd-remote", role: "status" });
  button;
  options = [];
  combo = null;
  last = null;
  // earlier answers are not used any more
  outdated = 0;
  /** Load the list as soon as this combo box is opened. */
  for(combo) {
    this.combo = combo;
  }
  /** Call it when the list is opened. */
  opened() {
    if (!this.last && Date.now() >= this.outdated) this.load();
  }
  end() {
    this.last = null;
    this.outdated = Number.POSITIVE_INFINITY;
  }
  async load() {
    const request = this.form.options(this.field);
    this.last = request;
    this.tell("Loading the list …");
    this.button.setAttribute("aria-busy", "true");
    try {
      const { options, left_out, refresh } = await request;
      if (this.last !== request) return;
      this.options = options.map(({ value, label, note }) => ({
        value,
        text: label,
        note: note || (label === String(value) ? void 0 : String(value))
      }));
      this.outdated = refresh === null ? Number.POSITIVE_INFINITY : Date.now() + 1e3 * refresh;
      this.tell(
        left_out ? `${left_out.toLocaleString()} more cannot be shown; any value can be typed.` : options.length ? "" : "The list is empty; any value can be typed."
      );
      this.show();
    } catch (error) {
      if (this.last !== request) return;
      this.outdated = 0;
      this.tell(`${messageOf(error).replace(/\.$/, "")}. Any value can be typed.`);
    } finally {
      if (this.last === request) {
        this.last = null;
        this.button.removeAttribute("aria-busy");
      }
    }
  }
  tell(text) {
    setText(this.state, text);
    this.combo?.setNote(text);
  }
};
function remoteChoice(form, field, ids, value) {
  const fixed = (field.options ?? []).map((option) => ({ value: option, text: String(option) }));
  let now = value;
  const all = () => [...fixed, ...list.options];
  const list = new RemoteList(form, field, () => combo.setOptions(all(), now));
  const combo = comboBox({
    id: ids.id,
    label: field.label,
    value,
    options: all(),
    free: true,
    hint: "choose or type",
    describedBy: ids.hintId,
    choose: (chosen) => {
      now = chosen;
      form.change(field.key, now);
    },
    opened: () => list.opened()
  });
  list.for(combo);
  const grows = h("div", { className: "cd-grow" }, combo.root);
  const line = h("div", { className: "cd-line" }, grows, list.button);
  return {
    root: h("div", { className: "cd-remote-choice" }, line, list.state),
    set: (wanted) => {
      now = wanted;
      combo.set(wanted);
    },
    end: () => {
      list.end();
      combo.end();
    }
  };
}

// src/form/media_control.ts
var SIDE = 128;
var MEDIA = {
  image: { word: "picture", accept: "image/*,.exr,.hdr", tag: "img", ready: "load" },
  video: {
    word: "video",
    accept: "video/*,.mkv,image/gif,image/webp",
    tag: "video",
    ready: "loadedmetadata"
  },
  audio: { word: "sound", accept: "audio/*,video/*,.opus", tag: "audio", ready: "loadedmetadata" }
};
function isMedia(kind) {
  return kind in MEDIA;
}
function viewQuery(name, machine) {
  const [, path = "", type = "input"] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(name) ?? [];
  const cut = path.lastIndexOf("/");
  const query = new URLSearchParams({
    filename: path.slice(cut + 1),
    subfolder: cut < 0 ? "" : path.slice(0, cut),
    type
  });
  if (machine) query.set("machine", machine);
  return query.toString();
}
function mediaControl(form, field, kind, { id, hintId }, value) {
  const { model, files } = form;
  const { word, accept, tag, ready } = MEDIA[kind];
  const shown = tag === "img" ? h("img", { alt: "" }) : h(tag, { controls: true, preload: "metadata" });
  const frame = h("div", { className: `cd-frame cd-${tag}` }, shown);
  shown.addEventListener(ready, () => frame.classList.add("cd-there"));
  const state = h("span", { className: "cd-faint", role: "status" });
  const refuse = (text) => form.refuse(field.key, text);
  let sending = null;
  const giveUp = () => {
    sending?.abort();
    sending = null;
    state.textContent = "";
    cancel.hidden = true;
  };
  let wanted = "";
  let present = value;
  const preview = async (now) => {
    present = now;
    const name = String(now ?? "");
    wanted = name;
    frame.classList.remove("cd-there");
    edit.hidden = true;
    state.textContent = "";
    files.free(shown);
    if (!name || /^[a-z]+:/i.test(name)) return;
    const isPicture = shown instanceof HTMLImageElement;
    if (!isPicture && await pageServer(model.get("server")) === null) return;
    if (wanted !== name) return;
    const label = `${field.label}: ${name}`;
    if (isPicture) shown.alt = label;
    else shown.setAttribute("aria-label", label);
    const query = viewQuery(name, model.get("machine"));
    const explain = async () => {
      const { reason, isMissing } = await files.whyNoCopy(query, SIDE);
      if (wanted !== name) return;
      if (isMissing) refuse(reason);
      else state.textContent = reason;
    };
    files.show(shown, query, isPicture ? SIDE : 0, isPicture ? explain : void 0);
  };
  const options = () => {
    const now = model.get("fields").find(({ key }) => key === field.key);
    const fixed = (now?.options ?? []).map((option) => ({ value: option, text: String(option) }));
    return [...fixed, ...remote?.options ?? []];
  };
  const remote = field.remote ? new RemoteList(form, field, () => combo.setOptions(options(), present)) : null;
  const combo = comboBox({
    id,
    label: field.label,
    value,
    options: options(),
    free: true,
    hint: "a file of ComfyUI's input folder, or an address",
    describedBy: hintId,
    choose: (chosen) => {
      const now = chosen;
      giveUp();
      refuse("");
      form.change(field.key, now);
      preview(now);
    },
    opened: () => remote?.opened()
  });
  remote?.for(combo);
  const store = async (file, showState, signal) => {
    const progress = (fraction) => {
      const stage = fraction < 1 ? `${Math.floor(100 * fraction)} %` : "storing …";
      showState(`Sending ${file.name}: ${stage}`);
    };
    const sendFile2 = model.get("send_file");
    if (sendFile2) return sendFile2(file, progress, signal);
    const base = await pageServer(model.get("server"));
    if (base === null) return uploadByKernel(model, file);
    const machine = model.get("machine");
    const destination = { type: "input", subfolder: "", overwrite: false, machine };
    return (await postFile(base, file, destination, progress).done).name;
  };
  const upload = async (file) => {
    if (!isAccepted(file, accept)) {
      const workflow = /\.json$/i.test(file.name) ? "; to open it as a workflow, drop it beside the inputs or use Open" : "";
      return refuse(`${file.name} is not a ${word}${workflow}`);
    }
    giveUp();
    const stop = new AbortController();
    sending = stop;
    const isAwaited = () => sending === stop;
    const showState = (text) => {
      if (isAwaited()) state.textContent = text;
    };
    const drop = () => {
      if (isAwaited()) giveUp();
    };
    const form_number = model.get("form_number");
    refuse("");
    showState(`Sending ${file.name} …`);
    cancel.hidden = !model.get("send_file");
    model.on("change:form_number", drop);
    try {
      const name = await store(file, showState, stop.signal);
      if (!isAwaited()) return;
      giveUp();
      model.send({ kind: "uploaded", form_number, key: field.key, name });
    } catch (error) {
      if (!isAwaited()) return;
      giveUp();
      refuse(`Not uploaded: ${messageOf(error)}`);
    } finally {
      model.off("change:form_number", drop);
    }
  };
  const cancel = iconButton("times", `${field.label}: do not send it`, () => giveUp(), {
    hidden: true
  });
  const [button, input] = fileButton("Upload", accept, upload, {
    title: `Upload a ${word} for ${field.label}, or drop one here`,
    "aria-label": `${field.label}: upload a ${word}`
  });
  const edit = iconButton(
    "paint-brush",
    `${field.label}: paint a mask, or crop it`,
    () => model.send({ kind: "paint", key: field.key, name: String(present ?? "") }),
    { hidden: true }
  );
  shown.addEventListener(ready, () => {
    edit.hidden = kind !== "image" || !model.get("can_paint");
  });
  const root = h(
    "div",
    {
      className: "cd-line cd-picture",
      ondragover: (event) => {
        event.preventDefault();
        root.classList.add("cd-drop");
      },
      ondragleave: () => root.classList.remove("cd-drop"),
      ondrop: (event) => {
        event.preventDefault();
        event.stopPropagation();
        root.classList.remove("cd-drop");
        const file = event.dataTransfer?.files[0];
        if (file) upload(file);
      }
    },
    frame,
    h("div", { className: "cd-grow" }, combo.root),
    remote?.button,
    edit,
    button,
    input,
    state,
    cancel,
    remote?.state
  );
  preview(value);
  return {
    root,
    end: () => {
      remote?.end();
      combo.end();
    },
    set(now) {
      combo.setOptions(options(), now);
      refuse("");
      preview(now);
    }
  };
}

// src/form/slider.ts
var FINEST = 100;
function decimalsOf(step) {
  const [, fraction = "", exponent = "0"] = /^\d*\.?(\d*)(?:e(-?\d+))?$/.exec(String(step)) ?? [];
  return Math.min(20, Math.max(0, fraction.length - Number(exponent)));
}
function slider({ min, max, step, kind }, input) {
  const [low, high] = [min ?? 0, max ?? 1];
  const stride = step || (kind === "int" ? 1 : (high - low) / FINEST);
  const decimals = Math.max(decimalsOf(stride), decimalsOf(Math.abs(low)));
  const root = h("input", {
    type: "range",
    min: low,
    max: high,
    step: stride,
    tabIndex: -1,
    "aria-hidden": "true"
  });
  const show = () => {
    const value = Number(input.value);
    root.value = String(input.value.trim() && Number.isFinite(value) ? value : low);
    root.style.setProperty("--cd-part", String((Number(root.value) - low) / (high - low || 1)));
  };
  root.addEventListener("input", () => {
    input.value = String(Number(Number(root.value).toFixed(decimals)));
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  input.addEventListener("input", show);
  show();
  return { root, show };
}

// src/form/video_edit.ts
var UNKNOWN = { width: 0, height: 0, duration: 0 };
var WHOLE = {
  trim: { start_time: 0, duration: 0 },
  crop: { x: 0, y: 0, width: 0, height: 0 }
};
var NAMES = {
  start_time: ["start", "start in seconds"],
  duration: ["duration", "duration in seconds; 0 lasts until the end"],
  x: ["x", "left edge in pixels"],
  y: ["y", "top edge in pixels"],
  width: ["width", "width in pixels; 0 is the whole width"],
  height: ["height", "height in pixels; 0 is the whole height"]
};
var HEIGHT = 280;
var LEAST_TIME = 0.01;
var LEAST_SIDE = 8;
var TIME_STEP = 0.1;
function partsOf(value) {
  const given = parseJson(String(value ?? ""));
  const number = (part2, name) => {
    const found = given?.[part2]?.[name];
    return typeof found === "number" && Number.isFinite(found) && found >= 0 ? found : 0;
  };
  const part = (name) => Object.fromEntries(
    Object.keys(WHOLE[name]).map((key) => [key, number(name, key)])
  );
  return { trim: part("trim"), crop: part("crop") };
}
function withParts(value, parts) {
  const given = parseJson(String(value ?? ""));
  const isObject = given !== null && typeof given === "object" && !Array.isArray(given);
  const made = isObject ? { ...given } : {};
  for (const [name, part] of Object.entries(parts)) made[name] = { ...made[name], ...part };
  return JSON.stringify(made);
}
function moved({ start_time, duration }, which, to, length) {
  const round = (time) => Math.round(time * 100) / 100;
  const end = duration ? Math.min(length, start_time + duration) : length;
  if (which === "start") {
    const start = round(Math.max(0, Math.min(to, end - LEAST_TIME)));
    return { start_time: start, duration: duration ? round(end - start) : 0 };
  }
  if (to >= length) return { start_time, duration: 0 };
  return { start_time, duration: Math.max(LEAST_TIME, round(to - start_time)) };
}
function between(a, b, video) {
  const span = (one, other, most) => {
    const inside = (at) => Math.round(Math.max(0, Math.min(most, at)));
    const low = inside(Math.min(one, other));
    return [low, inside(Math.max(one, other)) - low];
  };
  const [x, width] = span(a[0], b[0], video.width);
  const [y, height] = span(a[1], b[1], video.height);
  const isWhole = width === video.width && height === video.height;
  return isWhole ? { ...WHOLE.crop } : { x, y, width, height };
}
function drawn({ x, y, width, height }, video) {
  return { x, y, width: width || video.width - x, height: height || video.height - y };
}
function misfit({ trim, crop }, video) {
  const { width, height } = drawn(crop, video);
  const isOutside = crop.x + width > video.width || crop.y + height > video.height;
  if (video.width && (width <= 0 || height <= 0 || isOutside)) {
    return `The cut-out is not inside the video (${video.width} × ${video.height}).`;
  }
  const end = trim.start_time + trim.duration;
  const fits = trim.start_time < video.duration && end <= video.duration + LEAST_TIME;
  if (!video.duration || fits) return "";
  return `The video ends before, at ${timeText(video.duration)}.`;
}
function timeText(seconds) {
  const hundredths = Math.round(seconds * 100);
  const rest = (hundredths % 6e3 / 100).toFixed(2).padStart(5, "0");
  return `${Math.floor(hundredths / 6e3)}:${rest}`;
}
function follow(element, pressed, move) {
  const names = ["pointerup", "pointercancel"];
  const end = () => {
    element.removeEventListener("pointermove", move);
    for (const name of names) element.removeEventListener(name, end);
  };
  element.addEventListener("pointermove", move);
  for (const name of names) element.addEventListener(name, end);
  pressed.preventDefault();
  element.setPointerCapture?.(pressed.pointerId);
}
function videoEdit(form, field, ids, value) {
  const features = field.edit?.features ?? ["trim", "crop"];
  const canTrim = features.includes("trim");
  const canCrop = features.includes("crop");
  let now = value;
  let video = UNKNOWN;
  let unseen = "";
  const set = (parts) => {
    const present = partsOf(now);
    const all = Object.fromEntries(features.map((part) => [part, present[part]]));
    now = withParts(now, { ...all, ...parts });
    form.refuse(field.key, "");
    form.change(field.key, now);
    show();
  };
  const inputs = /* @__PURE__ */ new Map();
  const numberInput = (part, name) => {
    const [word, meaning] = NAMES[name] ?? [name, name];
    const unit = part === "trim" ? "a number of seconds" : "a whole number of pixels";
    const input = h("input", {
      id: inputs.size ? void 0 : ids.id,
      type: "number",
      min: 0,
      step: part === "trim" ? TIME_STEP : 1,
      className: "cd-short",
      title: meaning,
      "aria-label": `${field.label}: ${meaning}`,
      "aria-describedby": ids.hintId,
      oninput: () => {
        const wanted = Number(input.value);
        const isRight = input.value !== "" && wanted >= 0 && Number.isFinite(wanted);
        if (!isRight || part === "crop" && !Number.isInteger(wanted)) {
          return form.refuse(field.key, `${word} must be ${unit}, from 0`);
        }
        set({ [part]: { ...partsOf(now)[part], [name]: wanted } });
      },
      onchange: () => {
        form.refuse(field.key, "");
        show();
      }
    });
    inputs.set(name, input);
    return h("label", {}, h("span", { className: "cd-faint" }, word), input);
  };
  const rows = features.map(
    (part) => h(
      "div",
      { className: "cd-line cd-numbers" },
      Object.keys(WHOLE[part]).map((name) => numberInput(part, name))
    )
  );
  const reset = h(
    "button",
    {
      type: "button",
      className: "cd-button",
      "aria-label": `${field.label}: use the whole video`,
      onclick: () => set(Object.fromEntries(features.map((part) => [part, WHOLE[part]])))
    },
    "Whole video"
  );
  rows.at(-1)?.append(reset);
  const film = h("video", { preload: "metadata", muted: true, playsInline: true });
  const box = h("div", { className: "cd-crop", "aria-hidden": "true" });
  for (const corner of ["nw", "ne", "sw", "se"]) {
    const element = h("span", { className: `cd-corner cd-${corner}` });
    element.dataset.corner = corner;
    box.append(element);
  }
  const stage = h("div", { className: "cd-film" }, film, canCrop ? box : null);
  const range = () => {
    const { start_time, duration } = canTrim ? partsOf(now).trim : WHOLE.trim;
    const end = duration ? Math.min(video.duration, start_time + duration) : video.duration;
    return { start: Math.min(start_time, video.duration), end };
  };
  const seek = (time) => {
    film.currentTime = Math.max(0, Math.min(video.duration, time));
  };
  const play = iconButton("play", `${field.label}: play this part`, () => {
    if (!film.paused) return film.pause();
    const { start, end } = range();
    if (film.currentTime < start || film.currentTime >= end - LEAST_TIME) film.currentTime = start;
    film.play().catch(() => {
    });
  });
  const clock = h("span", { className: "cd-faint cd-number" });
  const drag = (which, time) => {
    set({ trim: moved(partsOf(now).trim, which, time, video.duration) });
    seek(range()[which]);
  };
  const onKey = (event, which) => {
    const step = event.shiftKey ? 10 * TIME_STEP : TIME_STEP;
    const { start, end } = range();
    const present = which === "start" ? start : end;
    const targets = {
      ArrowLeft: present - step,
      ArrowDown: present - step,
      ArrowRight: present + step,
      ArrowUp: present + step,
      PageDown: present - 10 * step,
      PageUp: present + 10 * step,
      Home: which === "start" ? 0 : start + LEAST_TIME,
      End: which === "start" ? end - LEAST_TIME : video.duration
    };
    const target = targets[event.key];
    if (target === void 0) return;
    event.preventDefault();
    event.stopPropagation();
    drag(which, target);
  };
  const handle = (which) => h("span", {
    className: `cd-handle cd-${which}`,
    role: "slider",
    tabIndex: 0,
    "aria-label": `${field.label}: ${which}`,
    onkeydown: (event) => onKey(event, which)
  });
  const handles = { start: handle("start"), end: handle("end") };
  const playhead = h("span", { className: "cd-playhead", "aria-hidden": "true" });
  const kept = h("span", { className: "cd-kept", "aria-hidden": "true" });
  const track = h("div", { className: "cd-track" }, kept, playhead);
  if (canTrim) track.append(handles.start, handles.end);
  track.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const target = event.target;
    const which = target === handles.start ? "start" : target === handles.end ? "end" : null;
    const area = track.getBoundingClientRect();
    const move = ({ clientX }) => {
      const time = (clientX - area.left) / (area.width || 1) * video.duration;
      if (which) drag(which, time);
      else seek(time);
    };
    follow(track, event, move);
    if (which) target.focus();
    else move(event);
  });
  stage.addEventListener("pointerdown", (event) => {
    if (event.button || !canCrop) return;
    const area = stage.getBoundingClientRect();
    const pointAt = ({ clientX, clientY }) => [
      (clientX - area.left) / (area.width || 1) * video.width,
      (clientY - area.top) / (area.height || 1) * video.height
    ];
    const from = pointAt(event);
    const { crop } = partsOf(now);
    const frame = drawn(crop, video);
    const { corner } = event.target.dataset;
    const isWhole = frame.width >= video.width && frame.height >= video.height;
    const isMoved = event.target === box && !isWhole;
    const fixed = corner ? [
      corner.endsWith("w") ? frame.x + frame.width : frame.x,
      corner.startsWith("n") ? frame.y + frame.height : frame.y
    ] : from;
    follow(stage, event, (at) => {
      const to = pointAt(at);
      if (!isMoved) {
        const wanted = between(fixed, to, video);
        const { width, height } = drawn(wanted, video);
        if (width >= LEAST_SIDE && height >= LEAST_SIDE) set({ crop: wanted });
        return;
      }
      const place = (start, by, most) => Math.round(Math.max(0, Math.min(most, start + by)));
      const x = place(frame.x, to[0] - from[0], video.width - frame.width);
      const y = place(frame.y, to[1] - from[1], video.height - frame.height);
      set({ crop: { ...frame, x, y } });
    });
  });
  const showTime = () => {
    if (!film.paused && film.currentTime >= range().end) film.pause();
    playhead.style.left = `${100 * film.currentTime / (video.duration || 1)}%`;
    setText(clock, `${timeText(film.currentTime)} / ${timeText(video.duration)}`);
  };
  const showPlaying = () => {
    const sign = play.querySelector("i");
    if (sign) sign.className = `fa fa-${film.paused ? "play" : "pause"}`;
    play.title = `${field.label}: ${film.paused ? "play this part" : "pause"}`;
    play.setAttribute("aria-label", play.title);
  };
  const show = () => {
    const parts = partsOf(now);
    for (const [name, number] of features.flatMap((part) => Object.entries(parts[part]))) {
      const input = inputs.get(name);
      if (input && (!input.value || Number(input.value) !== number)) input.value = String(number);
    }
    setText(state, misfit(parts, video) || unseen);
    if (!video.duration) return;
    const { start, end } = range();
    const percent = (part, whole) => `${100 * part / whole}%`;
    kept.style.left = percent(start, video.duration);
    kept.style.width = percent(Math.max(0, end - start), video.duration);
    for (const [which, time, least, most] of [
      ["start", start, 0, end],
      ["end", end, start, video.duration]
    ]) {
      handles[which].style.left = percent(time, video.duration);
      handles[which].setAttribute("aria-valuemin", least.toFixed(2));
      handles[which].setAttribute("aria-valuemax", most.toFixed(2));
      handles[which].setAttribute("aria-valuenow", time.toFixed(2));
      handles[which].setAttribute("aria-valuetext", `${time.toFixed(2)} seconds`);
    }
    const frame = drawn(parts.crop, video);
    box.style.left = percent(frame.x, video.width);
    box.style.top = percent(frame.y, video.height);
    box.style.width = percent(frame.width, video.width);
    box.style.height = percent(frame.height, video.height);
    showTime();
  };
  const controls = h("div", { className: "cd-line cd-playing" }, play, track, clock);
  const picture = h("div", { className: "cd-filming", hidden: true }, stage, controls);
  const state = h("div", { className: "cd-faint cd-remote", role: "status" });
  const forget = (why) => {
    video = UNKNOWN;
    picture.hidden = true;
    unseen = why;
    show();
  };
  let file = "";
  const load = (name) => {
    const wanted = String(name ?? "");
    if (wanted === file) return;
    file = wanted;
    film.pause();
    form.files.free(film);
    forget("");
    if (!wanted || /^[a-z]+:/i.test(wanted)) return;
    film.setAttribute("aria-label", `${field.label}: ${wanted}`);
    form.play(viewQuery(wanted, form.model.get("machine")), film, () => {
      if (file === wanted) forget("This page cannot show the video; the numbers work without it.");
    });
  };
  film.addEventListener("loadedmetadata", () => {
    const { videoWidth, videoHeight, duration } = film;
    if (!(videoWidth > 0 && videoHeight > 0 && duration > 0 && Number.isFinite(duration))) {
      return forget("The length of this video is not known; the numbers work without it.");
    }
    video = { width: videoWidth, height: videoHeight, duration };
    stage.style.width = `min(100%, ${Math.round(HEIGHT * videoWidth / videoHeight)}px)`;
    picture.hidden = false;
    unseen = "";
    show();
  });
  for (const event of ["timeupdate", "seeked"]) film.addEventListener(event, showTime);
  for (const event of ["play", "pause", "ended"]) film.addEventListener(event, showPlaying);
  const root = h("div", { className: "cd-video-edit" }, picture, rows, state);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", field.label);
  show();
  const unwatch = field.edit?.video ? form.watch(field.edit.video, load) : () => {
  };
  return {
    root,
    set(wanted) {
      now = wanted;
      form.refuse(field.key, "");
      show();
    },
    end() {
      unwatch();
      film.pause();
      form.files.free(film);
    }
  };
}

// src/form/controls.ts
var LONG_LIST = 8;
function makeControl(form, field, ids) {
  const value = form.model.get("values")[field.key] ?? null;
  if (field.kind === "bool") return checkBox(form, field, ids, value);
  if (field.kind === "multiline") return textArea(form, field, ids, value);
  if (field.kind === "video_edit") return videoEdit(form, field, ids, value);
  if (isMedia(field.kind)) return mediaControl(form, field, field.kind, ids, value);
  if (field.remote) return remoteChoice(form, field, ids, value);
  if (field.options) return choice(form, field, field.options, ids, value);
  if (field.kind === "color") return colorPicker(form, field, ids, value);
  if (field.kind === "seed") return seedInput(form, field, ids, value);
  return textInput(form, field, ids, value);
}
function textOf(value) {
  return String(value ?? "");
}
function shared({ id, hintId }) {
  return { id, "aria-describedby": hintId };
}
function typedInto(form, field, input, root = input) {
  input.addEventListener("input", () => form.change(field.key, input.value));
  const set = (value) => {
    input.value = textOf(value);
  };
  return { root, set };
}
function checkBox(form, field, ids, value) {
  const onchange = () => form.change(field.key, box.checked);
  const box = h("input", {
    ...shared(ids),
    type: "checkbox",
    checked: Boolean(value),
    onchange
  });
  const set = (now) => {
    box.checked = Boolean(now);
  };
  return { root: box, set };
}
function textArea(form, field, ids, value) {
  return typedInto(
    form,
    field,
    h("textarea", { ...shared(ids), dir: "auto", rows: 3, value: textOf(value) })
  );
}
function textInput(form, field, ids, value) {
  const isNumber = field.kind === "int" || field.kind === "float";
  const range = isNumber ? { min: field.min ?? void 0, max: field.max ?? void 0, step: field.step || "any" } : {};
  const input = h("input", {
    ...shared(ids),
    type: isNumber ? "number" : "text",
    dir: isNumber ? void 0 : "auto",
    className: isNumber ? "cd-short" : "",
    placeholder: field.range ?? "",
    ...range,
    value: textOf(value)
  });
  if (!field.slider) return typedInto(form, field, input);
  const slide = slider(field, input);
  const root = h("div", { className: "cd-line cd-slide" }, slide.root, input);
  const { set } = typedInto(form, field, input, root);
  return {
    root,
    set(now) {
      set(now);
      slide.show();
    }
  };
}
function choice(form, field, options, ids, value) {
  const all = options.includes(value) ? [...options] : [value, ...options];
  if (all.length >= LONG_LIST) {
    return comboBox({
      id: ids.id,
      label: field.label,
      value,
      options: all.map((option) => ({ value: option, text: textOf(option) })),
      describedBy: ids.hintId,
      choose: (now) => form.change(field.key, now)
    });
  }
  const onchange = () => form.change(field.key, all[select.selectedIndex] ?? null);
  const select = h(
    "select",
    { ...shared(ids), onchange },
    all.map((option) => h("option", {}, textOf(option)))
  );
  const set = (now) => {
    if (!all.includes(now)) {
      all.push(now);
      select.append(h("option", {}, textOf(now)));
    }
    select.selectedIndex = all.indexOf(now);
  };
  set(value);
  return { root: select, set };
}
function colorPicker(form, field, ids, value) {
  const picker = h("input", {
    type: "color",
    value: textOf(value),
    "aria-label": `${field.label}: pick a colour`,
    oninput: () => {
      text.value = picker.value;
      form.change(field.key, picker.value);
    }
  });
  const text = h("input", {
    ...shared(ids),
    type: "text",
    value: textOf(value),
    spellcheck: false,
    className: "cd-short",
    oninput: () => {
      if (/^#[0-9a-f]{6}$/i.test(text.value)) picker.value = text.value;
      form.change(field.key, text.value);
    }
  });
  const set = (now) => {
    picker.value = text.value = textOf(now);
  };
  return { root: h("div", { className: "cd-line" }, picker, text), set };
}
function seedInput(form, field, ids, value) {
  const { model, events } = form;
  const input = h("input", {
    ...shared(ids),
    type: "text",
    inputMode: "numeric",
    className: "cd-short",
    spellcheck: false,
    value: textOf(value)
  });
  const draw = iconButton(
    "random",
    `${field.label}: choose a random number`,
    () => model.send({ kind: "draw", key: field.key })
  );
  const isLocked = () => model.get("locked").includes(field.key);
  const lock = iconButton("lock", `${field.label}: keep for every run`, () => {
    const others = model.get("locked").filter((key) => key !== field.key);
    const locked = !isLocked();
    model.set("locked", locked ? [...others, field.key] : others);
    model.send({ kind: "lock", key: field.key, locked });
  });
  const state = h("span", { className: "cd-faint" });
  const show = () => {
    const locked = isLocked();
    const picture = lock.querySelector("i");
    if (picture) picture.className = `fa fa-${locked ? "lock" : "unlock-alt"}`;
    lock.setAttribute("aria-pressed", String(locked));
    state.textContent = locked ? "kept" : "new for each run";
  };
  show();
  events.on("change:locked", show);
  return typedInto(
    form,
    field,
    input,
    h("div", { className: "cd-line" }, input, draw, lock, state)
  );
}

// src/form/size_tools.ts
var RATIOS = [
  [1, 1],
  [5, 4],
  [4, 3],
  [3, 2],
  [16, 9],
  [21, 9],
  [4, 5],
  [3, 4],
  [2, 3],
  [9, 16]
];
var LEAST_STEP = 8;
function fit(value, { min, max, step }) {
  const stride = Math.max(LEAST_STEP, step || 1);
  const low = min ?? stride;
  const high = max ?? Number.POSITIVE_INFINITY;
  const rounded = Math.round(value / stride) * stride;
  return Math.min(high, Math.max(low, stride, rounded));
}
function sizeOf(ratio, [width, height], fields) {
  const area = width * height;
  const aspect = ratio[0] / ratio[1];
  return [fit(Math.sqrt(area * aspect), fields[0]), fit(Math.sqrt(area / aspect), fields[1])];
}
function sizeTools(fields, read, write) {
  const label = fields[0].label.replace(/width\b/i, "").replace(/[\s:]+$/, "");
  const of = label ? `${label}: ` : "";
  const select = h(
    "select",
    {
      "aria-label": `${of}aspect ratio`,
      title: "Aspect ratio; the number of pixels stays about the same",
      className: "cd-short",
      onchange: () => {
        const ratio = RATIOS[select.selectedIndex - 1];
        const size = read();
        if (ratio && size[0] > 0 && size[1] > 0) write(sizeOf(ratio, size, fields));
        show();
      }
    },
    h("option", {}, "free"),
    RATIOS.map(([a, b]) => h("option", {}, `${a}:${b}`))
  );
  const swap = iconButton("exchange", `${of}swap width and height`, () => {
    const [width, height] = read();
    write([height, width]);
  });
  const megapixels = h("span", { className: "cd-faint cd-number" });
  const show = () => {
    const [width, height] = read();
    const isSize = width > 0 && height > 0;
    const place = RATIOS.findIndex(
      ([a, b]) => isSize && Math.abs(width / height / (a / b) - 1) < 0.02
    );
    select.selectedIndex = place + 1;
    megapixels.textContent = isSize ? `${(width * height / 1e6).toFixed(2)} MP` : "";
  };
  show();
  const root = h(
    "div",
    { className: "cd-field cd-size" },
    h("span", { className: "cd-label cd-faint" }, icon("crop"), " aspect"),
    h("div", { className: "cd-line" }, select, swap, megapixels)
  );
  return { root, show };
}

// src/form/unconfirmed.ts
var EVENT = "comfydeploy-typed";
function offerUnconfirmed(form, typed) {
  form.addEventListener(EVENT, (event) => {
    event.detail.push(...typed.values());
  });
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

// src/views/form.ts
var SEARCHED = 8;
function render({ model, el }) {
  setUpRoot(el, "form");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  const rows = /* @__PURE__ */ new Map();
  const page = newId();
  let typed = 0;
  const unconfirmed = /* @__PURE__ */ new Map();
  const setValues = (values) => model.set("values", { ...model.get("values"), ...values });
  const change = (key, value) => {
    const row = rows.get(key);
    if (row) row.shown = value;
    const values = { [key]: value };
    typed += 1;
    const message = { kind: "typed", id: newId(), page, number: typed, values };
    unconfirmed.set(message.id, message);
    setValues(values);
    model.send(message);
  };
  offerUnconfirmed(el, unconfirmed);
  const refuse = (key, text) => {
    const row = rows.get(key);
    if (!row) return;
    row.refused = text;
    row.showProblem();
  };
  const asked = /* @__PURE__ */ new Map();
  const options = async ({ key, remote }) => {
    const machine = model.get("machine");
    const base = await pageServer(model.get("server"));
    if (base !== null) {
      const query = machine ? `${remote}&${new URLSearchParams({ machine })}` : remote;
      return getJson(`${base}comfyui-deploy/node-options?${query}`);
    }
    const id = newId();
    const { reply, error } = await new Promise((resolve) => {
      asked.set(id, resolve);
      model.send({ kind: "options", id, key });
    });
    if (!reply) throw new Error(error);
    return reply;
  };
  const watched = /* @__PURE__ */ new Map();
  const watch = (key, action) => {
    const actions = watched.get(key) ?? /* @__PURE__ */ new Set();
    watched.set(key, actions.add(action));
    action(model.get("values")[key] ?? null);
    return () => actions.delete(action);
  };
  const play = async (query, media, failed) => {
    if (await pageServer(model.get("server")) === null) failed();
    else files.show(media, query, 0, failed);
  };
  const form = { model, events, files, change, options, play, refuse, watch };
  let focused = null;
  const arrange = (key, order) => model.send({ kind: "arrange", key, order, typed: [...unconfirmed.values()] });
  const groupRow = (field) => {
    const button = (icon2, label, action, isPossible = false) => iconButton(icon2, `${field.label}: ${label}`, action, { disabled: !isPossible });
    const grow = (more) => () => model.send({ kind: "grow", key: field.key, more });
    const { rows: present } = field;
    const addRow = () => arrange(field.key, [...(present ?? []).keys(), null]);
    const add = present ? button("plus", "add a row", addRow, field.can_grow) : button("plus", "add a value", grow(true), field.can_grow);
    const less = present ? null : button("minus", "remove the last value", grow(false), field.can_shrink);
    const root = h(
      "div",
      { className: "cd-field cd-group", role: "group", "aria-label": field.label },
      h("span", { className: "cd-label", title: field.label }, labelOf(field)),
      h(
        "div",
        { className: "cd-line" },
        add,
        less,
        h("span", { className: "cd-faint", role: "status" }, field.hint)
      )
    );
    rows.set(field.key, withoutValue(root, add));
    return root;
  };
  const withoutValue = (root, input) => {
    const nothing = () => {
    };
    return {
      root,
      input,
      refused: "",
      set: nothing,
      showProblem: nothing,
      showChanged: nothing
    };
  };
  const rowBox = ({ group, place, title }) => {
    const facts = byKey.get(group);
    const count2 = facts?.rows?.length ?? 0;
    const others2 = [...Array(count2).keys()].filter((each) => each !== place);
    const move = (to, button2) => () => {
      focused = { key: `${group} ${to}`, place: button2 };
      arrange(group, [...others2.slice(0, to), place, ...others2.slice(to)]);
    };
    const remove = () => {
      focused = { key: `${group} ${Math.min(place, count2 - 2)}`, place: 2 };
      arrange(group, others2);
    };
    const button = (icon2, label, action, disabled) => iconButton(icon2, `${title}: ${label}`, action, { disabled });
    const up = button("arrow-up", "move up", move(place - 1, 0), place === 0);
    const down = button("arrow-down", "move down", move(place + 1, 1), place >= count2 - 1);
    const least = Number(facts?.least ?? 0);
    const away = button("times", "remove", remove, count2 <= least);
    const head2 = h(
      "div",
      { className: "cd-line cd-group-row-head" },
      h("span", { className: "cd-label cd-grow" }, title),
      up,
      down,
      away
    );
    rows.set(`${group} ${place}`, withoutValue(head2, away));
    return h("div", { className: "cd-group-row", role: "group", "aria-label": title }, head2);
  };
  const fieldRow = (field) => {
    const id = newId();
    const hintId = newId();
    const control = makeControl(form, field, { id, hintId });
    const undo = iconButton("undo", `${field.label}: back to the value of the workflow`, () => {
      control.set(field.original);
      change(field.key, field.original);
    });
    undo.classList.add("cd-back");
    const help = [field.tooltip ?? "", field.hint].filter(Boolean);
    const hint = h(
      "div",
      { id: hintId, className: "cd-hint", hidden: !help.length },
      help.map((text) => h("div", {}, text))
    );
    const problem = h("div", {
      id: newId(),
      className: "cd-problem",
      "aria-live": "polite",
      hidden: true
    });
    const root = h(
      "div",
      { className: `cd-field cd-${field.kind}` },
      h(
        "label",
        { htmlFor: id, title: `${field.tooltip || field.label} (${field.key})` },
        labelOf(field),
        field.required ? h("span", { className: "cd-required", "aria-hidden": "true" }, " *") : null
      ),
      h("div", { className: "cd-control" }, control.root, undo),
      hint,
      problem
    );
    const row = {
      ...control,
      root,
      input: root.querySelector(`#${id}`) ?? root,
      shown: model.get("values")[field.key],
      refused: "",
      showProblem() {
        const text = row.refused || (model.get("problems")[field.key] ?? "");
        problem.textContent = text;
        problem.hidden = !text;
        root.classList.toggle("cd-wrong", Boolean(text));
        setAttribute(row.input, "aria-invalid", text ? "true" : null);
        row.input.setAttribute("aria-describedby", text ? `${problem.id} ${hintId}` : hintId);
      },
      showChanged() {
        const isChanged = model.get("values")[field.key] !== field.original;
        root.classList.toggle("cd-changed", isChanged);
        undo.disabled = !isChanged;
      }
    };
    rows.set(field.key, row);
    if (field.required && field.kind !== "bool") row.input.setAttribute("aria-required", "true");
    row.showProblem();
    row.showChanged();
    return root;
  };
  const makeRow = (field) => field.kind === "group" ? groupRow(field) : fieldRow(field);
  const labelOf = ({ label, parts }) => {
    const [before, shown, after] = parts ?? ["", label, ""];
    const unseen = (text) => text ? h("span", { className: "cd-unseen" }, text) : null;
    return [unseen(before), shown, unseen(after)];
  };
  const tools = /* @__PURE__ */ new Map();
  const sizeRow = (width, height) => {
    const read = () => {
      const values = model.get("values");
      return [Number(values[width.key]), Number(values[height.key])];
    };
    const made = sizeTools([width, height], read, (size) => {
      for (const [place, { key }] of [width, height].entries()) {
        const value = String(size[place]);
        rows.get(key)?.set(value);
        change(key, value);
      }
    });
    tools.set(width.key, made.show);
    return made.root;
  };
  const putter = () => {
    let section = null;
    let box = null;
    const begin = () => {
      section = null;
      box = null;
    };
    const put = (root, field) => {
      let target = root;
      if (!field.section) section = null;
      else if (section?.id === field.section.id) target = section.root;
      else {
        const { id, title } = field.section;
        const headingId = newId();
        target = h(
          "div",
          { className: "cd-section", role: "group", "aria-labelledby": headingId },
          h("div", { className: "cd-heading", id: headingId, title }, title)
        );
        root.append(target);
        section = { id, root: target };
      }
      if (!field.row) box = null;
      else {
        const id = `${field.row.group} ${field.row.place}`;
        if (box?.id !== id || !target.contains(box.root)) {
          box = { id, root: rowBox(field.row) };
          target.append(box.root);
        }
        target = box.root;
      }
      target.append(rows.get(field.key)?.root ?? makeRow(field));
      const width = byKey.get(field.width ?? "");
      if (width) target.append(sizeRow(width, field));
    };
    return { put, begin };
  };
  let byKey = /* @__PURE__ */ new Map();
  const count = h("span", { className: "cd-faint cd-grow", role: "status" });
  const reset = h(
    "button",
    {
      type: "button",
      className: "cd-button",
      title: "Set all inputs to the values of the workflow",
      onclick: () => model.send({ kind: "reset" })
    },
    icon("undo"),
    " Reset all"
  );
  const head = h("div", { className: "cd-line cd-form-head" }, count, reset);
  const showCount = () => {
    const values = model.get("values");
    const changed = model.get("fields").filter(({ key, kind, original }) => kind !== "group" && values[key] !== original).length;
    const number = changed + model.get("others").length;
    setText(count, number ? `${number} changed` : "As in the workflow");
    reset.disabled = !number;
  };
  const others = h("div", { className: "cd-unshown cd-faint" });
  const showOthers = () => {
    const set = model.get("others");
    others.hidden = !set.length;
    others.textContent = `Also set: ${set.map(({ key, value }) => `${key} = ${value}`).join(" · ")}`;
  };
  const lists = [];
  const list = (fields) => {
    const { put, begin } = putter();
    const made = new Batches(put, begin);
    lists.push(made);
    made.show(fields);
    return made;
  };
  let reach = (_) => {
  };
  const moreInputs = (fields) => {
    const search = h("input", {
      type: "search",
      placeholder: "Find an input",
      "aria-label": "Find an input",
      oninput: () => find(search.value)
    });
    const found = h("div", { className: "cd-faint", role: "status" });
    const details = h(
      "details",
      { className: "cd-others", open: model.get("opened") },
      h("summary", {}, `More inputs (${fields.length})`)
    );
    let rest = null;
    const find = (text) => {
      const words = searchWords(text);
      const matches = fields.filter(({ label, key }) => containsWords(`${label} ${key}`, words));
      rest?.show(matches);
      setText(found, words.length ? `${matches.length} found` : "");
    };
    const fill = () => {
      if (!details.open || rest) return;
      if (fields.length > SEARCHED) {
        details.append(h("div", { className: "cd-line cd-search" }, search, found));
      }
      rest = list(fields);
      details.append(rest.root);
    };
    details.addEventListener("toggle", () => {
      fill();
      model.set("opened", details.open);
      model.send({ kind: "open", opened: details.open });
    });
    fill();
    reach = (field) => {
      details.open = true;
      fill();
      if (search.value) {
        search.value = "";
        find("");
      }
      rest?.reach(field);
    };
    return details;
  };
  const build = () => {
    const active = document.activeElement;
    const [found, row] = [...rows].find(([, { root }]) => root.contains(active)) ?? [];
    const key = focused?.key ?? found;
    const place = focused?.place ?? (row ? controlsIn(row.root).indexOf(active) : -1);
    focused = null;
    for (const each of rows.values()) each.end?.();
    rows.clear();
    tools.clear();
    for (const each of lists.splice(0)) each.end();
    reach = () => {
    };
    const fields = model.get("fields");
    byKey = new Map(fields.map((field) => [field.key, field]));
    const more = fields.filter((field) => field.more);
    const first = list(fields.filter((field) => !field.more));
    el.replaceChildren(head, first.root);
    head.hidden = !fields.length;
    if (more.length) el.append(moreInputs(more));
    el.append(others);
    showOthers();
    showCount();
    const again = key === void 0 ? void 0 : rows.get(key);
    if (!again) return;
    const usable = (control) => !control.matches(":disabled");
    const controls = controlsIn(again.root);
    const same = controls[place];
    (same && usable(same) ? same : controls.find(usable) ?? again.input).focus();
  };
  const controlsIn = (root) => [
    ...root.querySelectorAll("input, select, textarea, button")
  ];
  const showValues = () => {
    const newer = {};
    for (const { values: values2 } of unconfirmed.values()) Object.assign(newer, values2);
    const values = model.get("values");
    if (Object.keys(newer).some((key) => key in values && values[key] !== newer[key])) {
      return setValues(newer);
    }
    for (const [key, row] of rows) {
      const value = values[key];
      if (row.shown !== value) row.set(value ?? null);
      row.shown = value;
      row.showChanged();
    }
    for (const show of tools.values()) show();
    for (const [key, actions] of watched) {
      for (const action of actions) action(values[key] ?? null);
    }
    showCount();
  };
  const focus = (key) => {
    const field = byKey.get(key);
    if (field?.more) reach(field);
    else if (field) lists[0]?.reach(field);
    const row = rows.get(key);
    if (!row) return;
    row.root.scrollIntoView({ block: "center" });
    row.input.focus({ preventScroll: true });
  };
  events.on("change:fields", build);
  events.on("change:values", showValues);
  events.on("change:problems", () => {
    for (const row of rows.values()) row.showProblem();
  });
  events.on("change:others", () => {
    showOthers();
    showCount();
  });
  events.on("msg:custom", (message) => {
    if (message.kind === "took") unconfirmed.delete(message.id);
    if (message.kind === "options") {
      asked.get(message.id)?.(message);
      asked.delete(message.id);
    }
    if (message.kind === "focus") focus(message.key);
  });
  build();
  return () => {
    for (const row of rows.values()) row.end?.();
    for (const each of lists) each.end();
    events.end();
    files.end();
  };
}
var form_default = { render };
export {
  form_default as default
};
