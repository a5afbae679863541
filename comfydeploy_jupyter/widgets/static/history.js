// Made from js/src/views/history.ts by `make js-build`; do not edit it here.

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
function setUpRoot(el, name) {
  el.classList.add("comfydeploy-view", `comfydeploy-${name}`);
  el.setAttribute("data-lm-suppress-shortcuts", "true");
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

// src/format.ts
function formatDuration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}
function parseJson(text) {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return null;
  }
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
var Files = class {
  constructor(model, events) {
    this.model = model;
    events.on("msg:custom", (message, buffers) => {
      const waiting = this.waiting.get(message.id);
      if (message.kind !== "file" || !waiting) return;
      this.waiting.delete(message.id);
      if (message.error) return waiting.reject(new Error(message.error));
      if (message.size !== void 0) return waiting.resolve(message.size);
      const url = URL.createObjectURL(new Blob(buffers, { type: message.mime }));
      this.blobUrls.push(url);
      waiting.resolve(url);
    });
  }
  model;
  waiting = /* @__PURE__ */ new Map();
  blobUrls = [];
  /** Return the URL of a file; with `side`, of a copy of a picture with at most so many pixels. */
  async url(query, side = 0) {
    const base = await pageServer(this.model.get("server"));
    if (base === null) return String(await this.askForFile(query, side));
    return `${base}comfyui-deploy/view?${query}${side ? `&thumbnail=${side}` : ""}`;
  }
  /** Return how many bytes a file has; -1 where the server does not say. */
  async size(query) {
    const base = await pageServer(this.model.get("server"));
    if (base === null) return Number(await this.askForFile(query, 0, true));
    const url = `${base}comfyui-deploy/view?${query}`;
    const reply = await fetch(url, { method: "HEAD", headers: pageHeaders() });
    if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
    return Number(reply.headers.get("Content-Length") ?? -1);
  }
  askForFile(query, side, only_size = false) {
    return this.ask({ kind: "file", query, side, only_size });
  }
  /** Send a message, and return what the kernel answers: a blob URL, or a number. */
  ask(message) {
    const id = newId();
    const answer = new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
    });
    this.model.send({ ...message, id });
    return answer;
  }
  /** Show a file in a picture, video or sound; `failed` is called where it cannot be shown. */
  async show(media, query, side = 0, failed = () => {
  }) {
    try {
      media.onerror = failed;
      media.src = await this.url(query, side);
    } catch {
      failed();
    }
  }
  /** Free what the browser keeps of the files. */
  end() {
    for (const url of this.blobUrls) URL.revokeObjectURL(url);
  }
};

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
    { rootMargin: MARGIN }
  );
  watch(element, action) {
    this.actions.set(element, action);
    this.observer.observe(element);
  }
  end() {
    this.observer.disconnect();
  }
};

// src/views/history.ts
var SIDE = 192;
function formatTime(iso) {
  const date = new Date(iso);
  const isToday = date.toDateString() === (/* @__PURE__ */ new Date()).toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (isToday) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}
function render({ model, el }) {
  setUpRoot(el, "history");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  let seen = new WhenSeen();
  const list = h("ul", { className: "cd-runs" });
  const summary = h("summary", {}, "History");
  const more = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => model.send({ kind: "more" }) },
    "Show earlier runs"
  );
  const refresh = iconButton(
    "refresh",
    "Look for runs again",
    () => model.send({ kind: "refresh" })
  );
  const details = h(
    "details",
    { open: model.get("opened") },
    summary,
    list,
    h("div", { className: "cd-line" }, refresh, more)
  );
  details.addEventListener("toggle", () => {
    model.set("opened", details.open);
    model.save_changes();
  });
  el.append(details);
  const card = (run, chosen) => {
    const { query } = run;
    const image = h("img", { alt: "" });
    const frame = h("span", { className: "cd-frame" }, query ? image : h("span", {}, run.kind));
    const failed = () => frame.replaceChildren(h("span", {}, "gone"));
    if (query) seen.watch(frame, () => files.show(image, query, SIDE, failed));
    const time = run.seconds === null ? "" : formatDuration(run.seconds);
    const facts = [run.title, time].filter(Boolean);
    return h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          className: "cd-run",
          title: run.summary,
          "aria-pressed": String(run.prompt_id === chosen),
          "aria-label": `Run of ${new Date(run.created_at).toLocaleString()}: ${facts.join(", ")}`,
          onclick: () => model.send({ kind: "show", prompt_id: run.prompt_id })
        },
        frame,
        h("span", { className: "cd-when" }, formatTime(run.created_at)),
        h("span", { className: `cd-status cd-${run.status}` }, facts.join(" · "))
      )
    );
  };
  const show = () => {
    const runs = model.get("runs");
    el.hidden = !runs.length;
    seen.end();
    seen = new WhenSeen();
    const focused = [...list.children].findIndex((each) => each.contains(document.activeElement));
    summary.textContent = `History (${runs.length}${model.get("more") ? "+" : ""})`;
    list.replaceChildren(...runs.map((run) => card(run, model.get("chosen"))));
    more.hidden = !model.get("more");
    if (focused < 0) return;
    const again = list.children[Math.min(focused, list.children.length - 1)];
    again?.querySelector("button")?.focus();
  };
  events.on("change:runs change:more change:chosen", show);
  show();
  return () => {
    seen.end();
    events.end();
    files.end();
  };
}
var history_default = { render };
export {
  history_default as default
};
