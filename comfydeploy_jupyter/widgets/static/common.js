// What the scripts of the panels share; it is put before each of them.

const CHUNK = 1 << 20; // bytes of a file in one message; a server may refuse more than 10 MB
const AHEAD = 4; // such messages that the kernel need not have confirmed
const REACH_TIMEOUT = 5000; // ms

/** Make an element: properties by name, listeners as `onclick`, attributes as `aria-label`. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

let made = 0;
/** An id that no other element of the page has. */
function newId() {
  made += 1;
  return `comfydeploy-${Math.random().toString(36).slice(2, 10)}-${made}`;
}

/** Prepare the element of a view: its keys are its own, not shortcuts of JupyterLab. */
function prepare(el, name) {
  el.classList.add("comfydeploy-view", `comfydeploy-${name}`);
  el.setAttribute("data-lm-suppress-shortcuts", "true");
}

/** Listen to a model; the returned function ends all of it. */
function listener(model) {
  const heard = [];
  return {
    on(events, action) {
      model.on(events, action);
      heard.push([events, action]);
    },
    end() {
      for (const [events, action] of heard) model.off(events, action);
    },
  };
}

/** What a page of JupyterLab or Notebook says of its server; empty for other pages. */
function pageConfig() {
  return parse(document.getElementById("jupyter-config-data")?.textContent) ?? {};
}

/** The headers with which a page may ask its own Jupyter server. */
function pageHeaders() {
  const headers = {};
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
  if (xsrf) headers["X-XSRFToken"] = decodeURIComponent(xsrf[1]);
  const { token } = pageConfig();
  if (token) headers.Authorization = `token ${token}`;
  return headers;
}

const reached = new Map();

/**
 * Return the base URL by which this page can ask the kernel's own Jupyter server, or null: the
 * page may come from another server, from VS Code or from Colab.
 */
function pageServer({ base, instance }) {
  base = pageConfig().baseUrl || base;
  if (!instance || !base) return Promise.resolve(null);
  const key = `${base} ${instance}`;
  if (!reached.has(key)) {
    const asked = fetch(`${base}comfyui-deploy/check-status`, {
      headers: pageHeaders(),
      cache: "no-store",
      signal: AbortSignal.timeout(REACH_TIMEOUT),
    })
      .then((reply) => reply.json())
      .then((status) => (status.instance === instance ? base : null))
      .catch(() => {
        reached.delete(key); // it may be there the next time
        return null;
      });
    reached.set(key, asked);
  }
  return reached.get(key);
}

class Cancelled extends Error {}

/**
 * Send a file straight to the route `upload-file` of the page's own server.
 *
 * `fields`: `type`, `subfolder`, `overwrite`; `machine`: the ComfyUI that shall have it, if not
 * the default one; `progress(fraction)`: called as it goes out, the last time with 1.
 * Returns `{ done, abort }`: a promise of what the route says of the file, and how to stop.
 */
function postFile(base, file, { machine, ...fields }, progress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
    form.append("file", file, file.name);
    const query = machine ? `?${new URLSearchParams({ machine })}` : "";
    request.open("POST", `${base}comfyui-deploy/upload-file${query}`);
    for (const [name, value] of Object.entries(pageHeaders())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => progress(event.loaded / Math.max(1, event.total));
    request.upload.onload = () => progress(1);
    request.onload = () => {
      const reply = parse(request.responseText);
      if (request.status === 200 && reply?.success) resolve(reply);
      else reject(new Error(reply?.message ?? reply?.error ?? `HTTP ${request.status}`));
    };
    request.onerror = () => reject(new Error("The connection broke, or the file is gone"));
    request.onabort = () => reject(new Cancelled());
    request.send(form);
  });
  return { done, abort: () => request.abort() };
}

/** The files of ComfyUI: by their address where the page can ask for it, else through the kernel. */
class Files {
  constructor(model, events) {
    this.model = model;
    this.waiting = new Map();
    this.urls = [];
    events.on("msg:custom", (message, buffers) => {
      if (message.kind !== "file" || !this.waiting.has(message.id)) return;
      const { resolve, reject } = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.error) return reject(new Error(message.error));
      if (message.size !== undefined) return resolve(message.size);
      const url = URL.createObjectURL(new Blob(buffers, { type: message.mime }));
      this.urls.push(url);
      resolve(url);
    });
  }

  /** Return an address of a file; with `side`, of a small copy of a picture. */
  async url(query, side = 0) {
    const base = await pageServer(this.model.get("server"));
    if (base === null) return this.ask(query, side);
    return `${base}comfyui-deploy/view?${query}${side ? `&thumbnail=${side}` : ""}`;
  }

  /** Return how many bytes a file has; -1 where nobody tells. */
  async size(query) {
    const base = await pageServer(this.model.get("server"));
    if (base === null) return this.ask(query, 0, true);
    const url = `${base}comfyui-deploy/view?${query}`;
    const reply = await fetch(url, { method: "HEAD", headers: pageHeaders() });
    if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
    return Number(reply.headers.get("Content-Length") ?? -1);
  }

  ask(query, side, only_size = false) {
    const id = newId();
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.model.send({ kind: "file", id, query, side, only_size });
    return answer;
  }

  /** Show a file in a picture, video or sound; `failed` is called where it cannot be had. */
  async show(media, query, side = 0, failed = () => {}) {
    try {
      media.onerror = failed;
      media.src = await this.url(query, side);
    } catch (error) {
      failed(error);
    }
  }

  end() {
    for (const url of this.urls) URL.revokeObjectURL(url);
  }
}

/** Call `show(element)` when an element comes near the screen for the first time. */
function whenSeen() {
  const actions = new WeakMap();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        observer.unobserve(entry.target);
        actions.get(entry.target)();
      }
    },
    { rootMargin: "300px" },
  );
  return {
    watch(element, action) {
      actions.set(element, action);
      observer.observe(element);
    },
    end() {
      observer.disconnect();
    },
  };
}

/** Send a file of the user's computer to the kernel, in pieces, no faster than it takes them. */
async function sendFile(model, file, facts) {
  const id = newId();
  const total = Math.max(1, Math.ceil(file.size / CHUNK));
  let taken = 0;
  let wake = () => {};
  const hear = (message) => {
    if (message.kind !== "took" || message.id !== id) return;
    taken += 1;
    wake();
  };
  model.on("msg:custom", hear);
  for (let piece = 0; piece < total; piece += 1) {
    while (piece - taken >= AHEAD) await new Promise((resolve) => (wake = resolve));
    const content = await file.slice(piece * CHUNK, (piece + 1) * CHUNK).arrayBuffer();
    const last = piece === total - 1;
    model.send({ kind: "piece", id, name: file.name, last, ...facts }, undefined, [content]);
  }
  model.off("msg:custom", hear);
}

/** A button with an icon only; its label is its tooltip and its name. */
function iconButton(icon, label, onclick, more = {}) {
  return h(
    "button",
    { type: "button", className: "cd-icon", title: label, "aria-label": label, onclick, ...more },
    h("i", { className: `fa fa-${icon}`, "aria-hidden": "true" }),
  );
}

/** Return whether a file is of a kind that `accept` has: media types, or endings of names. */
function isAccepted(file, accept) {
  return accept.split(",").some((kind) => {
    if (kind.startsWith(".")) return file.name.toLowerCase().endsWith(kind);
    return kind.endsWith("/*") ? file.type.startsWith(kind.slice(0, -1)) : file.type === kind;
  });
}

/** A button that opens the dialog for a file. */
function fileButton(label, accept, take, more = {}) {
  const input = h("input", { type: "file", accept, hidden: true, tabIndex: -1 });
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    input.value = "";
  });
  const button = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => input.click(), ...more },
    h("i", { className: "fa fa-upload", "aria-hidden": "true" }),
    ` ${label}`,
  );
  return [button, input];
}

const ROWS = 200; // choices that a list shows at once

/**
 * A field with a list of choices that can be searched: words in any order, arrows, Enter, Escape.
 *
 * `options`: [{value, text, note?}]; `free`: whether other texts can be typed;
 * `choose(value)`: called with each new value.
 */
function searchCombo({ id, label, value, options, free = false, hint = "", describedby, choose }) {
  const listId = newId();
  const input = h("input", {
    id,
    type: "text",
    role: "combobox",
    autocomplete: "off",
    spellcheck: false,
    placeholder: hint,
    "aria-label": label,
    "aria-expanded": "false",
    "aria-controls": listId,
    "aria-autocomplete": "list",
    "aria-describedby": describedby,
  });
  const list = h("ul", { id: listId, role: "listbox", className: "cd-list", "aria-label": label });
  list.setAttribute("popover", "manual");
  const root = h(
    "div",
    { className: "cd-combo" },
    input,
    h("i", { className: "fa fa-caret-down", "aria-hidden": "true" }),
    list,
  );
  let found = [];
  let active = -1;
  let open = false;

  const textOf = (wanted) => {
    const option = options.find((each) => each.value === wanted);
    return option ? option.text : String(wanted ?? "");
  };
  const fill = (search) => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = options.filter((each) => {
      const text = `${each.text} ${each.note ?? ""}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    found = matches.slice(0, ROWS);
    list.replaceChildren(
      ...found.map((each, index) =>
        h(
          "li",
          {
            id: `${listId}-${index}`,
            role: "option",
            "aria-selected": String(each.value === value),
            title: each.text,
            onmousedown: (event) => event.preventDefault(),
            onclick: () => pick(index),
          },
          h("span", {}, each.text),
          each.note ? h("small", {}, each.note) : null,
        ),
      ),
    );
    const left = matches.length - found.length;
    if (left) list.append(h("li", { className: "cd-more" }, `${left} more: type to search`));
    if (!matches.length) list.append(h("li", { className: "cd-more" }, "Nothing found"));
    activate(found.findIndex((each) => each.value === value));
  };
  const activate = (index) => {
    list.children[active]?.classList.remove("cd-active");
    active = index;
    const row = list.children[active];
    if (row) {
      row.classList.add("cd-active");
      row.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", row.id);
    } else input.removeAttribute("aria-activedescendant");
  };
  const place = () => {
    const box = input.getBoundingClientRect();
    const below = window.innerHeight - box.bottom;
    const height = Math.max(80, Math.min(280, Math.max(below, box.top) - 12));
    Object.assign(list.style, {
      left: `${box.left}px`,
      minWidth: `${box.width}px`,
      maxWidth: `${Math.max(box.width, Math.min(560, window.innerWidth - box.left - 12))}px`,
      maxHeight: `${height}px`,
      top: below >= Math.min(height, list.scrollHeight) || below > box.top ? `${box.bottom}px` : "",
      bottom: "",
    });
    if (!list.style.top) list.style.bottom = `${window.innerHeight - box.top}px`;
  };
  const away = (event) => {
    if (event.type !== "scroll" || !list.contains(event.target)) close(true);
  };
  const show = (search = "") => {
    fill(search);
    if (!open) {
      open = true;
      if (list.showPopover) list.showPopover();
      else list.classList.add("cd-open");
      input.setAttribute("aria-expanded", "true");
      window.addEventListener("scroll", away, true);
      window.addEventListener("resize", away);
    }
    place();
    if (active >= 0) list.children[active].scrollIntoView({ block: "nearest" });
  };
  const close = (restore) => {
    if (open) {
      open = false;
      if (list.hidePopover) list.hidePopover();
      list.classList.remove("cd-open");
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
      window.removeEventListener("scroll", away, true);
      window.removeEventListener("resize", away);
    }
    if (!restore) return;
    if (free && input.value !== textOf(value)) {
      const option = options.find((each) => each.text === input.value);
      set(option ? option.value : input.value, true);
    } else input.value = textOf(value);
  };
  const set = (wanted, tell) => {
    const news = wanted !== value;
    value = wanted;
    input.value = textOf(value);
    input.title = input.value;
    if (news && tell) choose(value);
  };
  const pick = (index) => {
    close(false);
    set(found[index].value, true);
  };
  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => (open ? close(false) : show()));
  input.addEventListener("input", () => show(input.value));
  input.addEventListener("blur", () => close(true));
  input.addEventListener("keydown", (event) => {
    const last = found.length - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    if (event.key in steps) {
      event.preventDefault();
      if (!open) show();
      else activate(Math.max(0, Math.min(last, active + steps[event.key])));
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (open && active >= 0) pick(active);
      else if (open && found.length === 1) pick(0);
      else close(true);
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      event.stopPropagation();
      input.value = textOf(value);
      close(true);
    }
  });
  set(value, false);
  return {
    root,
    input,
    set: (wanted) => set(wanted, false),
    setOptions(wanted, now) {
      options = wanted;
      set(now, false);
      if (open) show();
    },
    end: () => close(false),
  };
}

/** Seconds for people. */
function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** A button with a text, in the look of ipywidgets. */
function button(text, act, ...classes) {
  const className = ["jupyter-widgets", "jupyter-button", "comfydeploy-button", ...classes].join(" ");
  return h("button", { type: "button", textContent: text, className, onclick: act });
}

/** Set the text of an element where it is another one. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** What a text with JSON says, or null. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Bytes for people. */
function human(size) {
  let value = size;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (value < 1024) return unit === "B" ? `${Math.round(value)} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} GiB`;
}

/** Put a text on the clipboard. */
async function toClipboard(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Plain HTTP to another host: browsers have no clipboard there but this one.
  const area = h("textarea", { value: text });
  area.style.cssText = "position: fixed; opacity: 0";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refuses");
}

/** Put a text on the clipboard and say so on the button; `restore` puts its label back. */
async function copyText(text, control, restore = null) {
  const label = control.textContent;
  try {
    await toClipboard(text);
    control.textContent = "Copied";
  } catch {
    control.textContent = "Not copied";
  }
  setTimeout(restore ?? (() => (control.textContent = label)), 1500);
}
