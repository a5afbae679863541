// Made from js/src/views/transfers.ts by `make js-build`; do not edit it here.

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
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// src/transfers/dropped_files.ts
async function droppedFiles(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) await collect(entry, "", found);
  return found;
}
async function collect(entry, folder, found) {
  if (!entry) return;
  if (entry instanceof File) {
    found.push({ file: entry, folder });
  } else if (entry.isFile) {
    const file = await new Promise(
      (resolve, reject) => entry.file(resolve, reject)
    );
    found.push({ file, folder });
  } else {
    const inner = folder ? `${folder}/${entry.name}` : entry.name;
    const reader = entry.createReader();
    for (; ; ) {
      const some = await new Promise(
        (resolve, reject) => reader.readEntries(resolve, reject)
      );
      if (some.length === 0) break;
      for (const child of some) await collect(child, inner, found);
    }
  }
}

// src/transfers/transfer.ts
var OPEN = /* @__PURE__ */ new Set(["queued", "active", "finishing", "retrying"]);
function isOpen({ state }) {
  return OPEN.has(state);
}
function isRetryable({ state, direction, kept }) {
  if (state === "failed") return Boolean(direction || kept);
  return state === "cancelled" && Boolean(kept);
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

// src/format.ts
function formatDuration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}
function formatBytes(size) {
  let value = size;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (value < 1024)
      return unit === "B" ? `${Math.round(value)} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} GiB`;
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

// src/transfers/transfer_rate.ts
var INTERVAL = 500;
var SMOOTHING = 0.7;
var TransferRate = class {
  at = null;
  sent = 0;
  rate = null;
  /** Discard all measurements; return an empty text. */
  reset() {
    this.at = this.rate = null;
    return "";
  }
  /**
   * Record how many bytes were sent until now, and the size.
   *
   * It returns a text with the rate, when it is known, and the remaining time, if the size is known.
   */
  update(sent, size = null) {
    const now = performance.now();
    if (this.at === null) {
      this.at = now;
      this.sent = sent;
      return "";
    }
    if (now - this.at >= INTERVAL) {
      const rate = 1e3 * (sent - this.sent) / (now - this.at);
      this.rate = this.rate === null ? rate : SMOOTHING * this.rate + (1 - SMOOTHING) * rate;
      this.at = now;
      this.sent = sent;
    }
    if (!this.rate) return "";
    const left = size === null ? "" : ` · about ${formatDuration((size - sent) / this.rate)} left`;
    return `${formatBytes(this.rate)}/s${left}`;
  }
};

// src/transfers/transfer_row.ts
var TEXTS = {
  queued: "Waiting",
  active: "",
  finishing: "Storing …",
  retrying: "Will be tried again",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  lost: "The page that sent it was closed; choose the file again"
};
var TransferRow = class {
  constructor(data, actions) {
    this.data = data;
    const { id } = data;
    this.cancel = textButton("Cancel", () => actions.cancel(id));
    this.retry = textButton("Retry", () => actions.retry(id));
    this.root = h(
      "li",
      {},
      h("div", { className: "comfydeploy-line" }, this.name, this.where, this.retry, this.cancel),
      this.progress,
      h("div", { className: "comfydeploy-line" }, this.note, this.hash, this.copy)
    );
    this.update(data);
  }
  data;
  rate = new TransferRate();
  name = h("span", { className: "comfydeploy-name" });
  where = h("span", { className: "comfydeploy-note" });
  progress = h("progress", { max: 1 });
  note = h("span", { className: "comfydeploy-note" });
  hash = h("code", { className: "comfydeploy-hash" });
  copy = textButton(
    "Copy hash",
    () => copyText(this.data.result?.file_hash ?? "", this.copy)
  );
  cancel;
  retry;
  root;
  update(data) {
    const { name, where, size, sent, state, error, result } = data;
    this.data = data;
    this.root.dataset.state = state;
    setText(this.name, result && result.name !== name ? `${name} as ${result.name}` : name);
    this.name.title = name;
    setText(this.where, where);
    const open = isOpen(data);
    this.progress.hidden = !open;
    const fraction = size ? sent / size : state === "finishing" ? 1 : 0;
    this.progress.value = fraction;
    const percent = `${Math.floor(100 * fraction)} %`;
    this.progress.setAttribute("aria-label", `${name}: ${percent}`);
    const rate = state === "active" ? this.rate.update(sent, size) : this.rate.reset();
    const total = size ? formatBytes(size) : "";
    const bytes = total && open ? `${formatBytes(sent)} of ${total}` : total;
    const text = result?.reused ? "Existed already" : TEXTS[state];
    const parts = open ? [state === "active" ? percent : text, bytes, rate, error] : [error ? `${text}: ${error}` : text, bytes];
    setText(this.note, parts.filter(Boolean).join(" · "));
    const hash = result?.file_hash ?? "";
    setText(this.hash, hash ? `SHA-256 ${hash.slice(0, 12)}…` : "");
    this.hash.title = hash;
    this.copy.hidden = !hash;
    this.cancel.hidden = !open || state === "finishing";
    this.retry.hidden = !isRetryable(data);
    this.cancel.setAttribute("aria-label", `Cancel ${name}`);
    this.retry.setAttribute("aria-label", `Retry ${name}`);
    this.copy.setAttribute("aria-label", `Copy the hash of ${name}`);
  }
};

// src/transfers/transfer_list.ts
var TransferList = class {
  constructor(el, actions) {
    this.actions = actions;
    const { cancel, retry, forget } = actions;
    this.cancelAll = textButton("Cancel all", () => this.each(isOpen, cancel));
    this.retryFailed = textButton("Retry failed", () => this.each(hasFailed, retry));
    this.clearFinished = textButton("Clear finished", () => {
      const ended = this.transfers.filter((transfer) => !isOpen(transfer));
      forget(ended.map(({ id }) => id));
    });
    this.bar = h(
      "div",
      { className: "comfydeploy-bar", hidden: true },
      this.summary,
      this.cancelAll,
      this.retryFailed,
      this.clearFinished
    );
    el.classList.add("comfydeploy-transfers");
    el.append(this.dropZone(), this.bar, this.list);
  }
  actions;
  rows = /* @__PURE__ */ new Map();
  summary = h("span", { className: "comfydeploy-summary", role: "status" });
  cancelAll;
  retryFailed;
  clearFinished;
  bar;
  list = h("ul", {
    className: "comfydeploy-rows",
    hidden: true,
    "aria-label": "Transfers"
  });
  /** Show the present state of uploads. */
  show(uploads) {
    for (const upload of uploads) this.update(upload);
    this.summarize();
  }
  /** Show these transfers of the server, and remove its other ones. */
  showTransfers(transfers) {
    const ids = new Set(transfers.map(({ id }) => id));
    for (const { id, direction } of this.transfers) {
      if (direction && !ids.has(id)) this.remove(id);
    }
    for (const transfer of transfers) {
      const where = transfer.direction === "up" ? "from ComfyUI" : "to ComfyUI";
      this.update({ ...transfer, name: transfer.filename, where });
    }
    this.summarize();
  }
  forget(ids) {
    for (const id of ids) this.remove(id);
    this.summarize();
  }
  get transfers() {
    return [...this.rows.values()].map((row) => row.data);
  }
  dropZone() {
    const { add } = this.actions;
    const input = h("input", {
      type: "file",
      multiple: true,
      hidden: true,
      tabIndex: -1,
      "aria-label": "Files to upload",
      onchange: () => {
        add([...input.files ?? []].map((file) => ({ file, folder: "" })));
        input.value = "";
      }
    });
    const choose = textButton("Choose files", () => input.click(), "mod-primary");
    const hint = h("span", { className: "comfydeploy-note", textContent: "or drop them here" });
    const onDragOver = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      event.dataTransfer.dropEffect = "copy";
      zone.classList.add("mod-over");
    };
    const zone = h(
      "div",
      {
        className: "comfydeploy-zone",
        ondragenter: onDragOver,
        ondragover: onDragOver,
        ondragleave: (event) => {
          const isInside = zone.contains(event.relatedTarget);
          if (!isInside) zone.classList.remove("mod-over");
        },
        ondrop: async (event) => {
          event.preventDefault();
          event.stopPropagation();
          zone.classList.remove("mod-over");
          if (event.dataTransfer) add(await droppedFiles(event.dataTransfer));
        }
      },
      choose,
      hint,
      input
    );
    return zone;
  }
  update(transfer) {
    const row = this.rows.get(transfer.id);
    if (row) {
      row.update(transfer);
      return;
    }
    const added = new TransferRow(transfer, this.actions);
    this.rows.set(transfer.id, added);
    this.list.prepend(added.root);
  }
  remove(id) {
    this.rows.get(id)?.root.remove();
    this.rows.delete(id);
  }
  each(applies, action) {
    for (const transfer of this.transfers) if (applies(transfer)) action(transfer.id);
  }
  summarize() {
    const { transfers } = this;
    const open = transfers.filter(isOpen).length;
    const counts = ["done", "failed", "cancelled", "lost"].map((state) => ({ state, count: transfers.filter((each) => each.state === state).length })).filter(({ count }) => count > 0).map(({ state, count }) => `${count} ${state}`);
    const parts = open ? [`${open} in progress`, ...counts] : counts;
    setText(this.summary, parts.join(", "));
    this.bar.hidden = this.list.hidden = transfers.length === 0;
    this.cancelAll.disabled = open === 0;
    this.retryFailed.disabled = !transfers.some(hasFailed);
    this.clearFinished.disabled = open === transfers.length;
  }
};
function hasFailed(transfer) {
  return transfer.state === "failed" && isRetryable(transfer);
}

// src/server.ts
var REACH_TIMEOUT = 5e3;
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
function forgetPageServer() {
  reached.clear();
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

// src/transfers/uploads.ts
var AT_ONCE = 3;
var INTERVAL2 = 150;
var Uploads = class {
  constructor(model) {
    this.model = model;
    model.on("msg:custom", (message) => this.onMessage(message));
    this.send({ type: "hello" });
  }
  model;
  page = randomHex(8);
  uploads = /* @__PURE__ */ new Map();
  // of all pages, by id, oldest first
  files = /* @__PURE__ */ new Map();
  // of this page, by id
  lists = /* @__PURE__ */ new Set();
  changed = /* @__PURE__ */ new Set();
  // ids
  count = 0;
  timer;
  /** Stop the uploads of this page. */
  end() {
    for (const { abort } of this.files.values()) abort?.();
    askBeforeLeaving(false);
  }
  /** Show the uploads in a list until the returned function is called. */
  showIn(list) {
    this.lists.add(list);
    list.show([...this.uploads.values()]);
    return () => this.lists.delete(list);
  }
  async add(chosen) {
    const destination = await this.destination();
    for (const { file, folder } of chosen) {
      this.count += 1;
      const id = `${this.page}-${this.count}`;
      const subfolder = [destination.subfolder, folder].filter(Boolean).join("/");
      const own = { file, destination: { ...destination, subfolder }, abort: null, relay: null };
      this.files.set(id, own);
      this.uploads.set(id, {
        id,
        page: this.page,
        name: file.name,
        where: [destination.type, subfolder].filter(Boolean).join("/"),
        size: file.size,
        kept: true,
        sent: 0,
        state: "queued",
        error: null,
        result: null
      });
      this.changed.add(id);
    }
    this.flush();
    this.startQueued();
  }
  cancel(id) {
    const upload = this.uploads.get(id);
    const own = this.files.get(id);
    if (!upload || !own) {
      this.send({ type: "cancel", id });
    } else if (upload.state === "queued") {
      this.change(upload, { state: "cancelled" });
      this.flush();
    } else if (isOpen(upload)) {
      own.abort?.();
    }
  }
  retry(id) {
    const upload = this.uploads.get(id);
    if (!upload || !this.files.has(id)) {
      this.send({ type: "retry", id });
      return;
    }
    this.change(upload, { state: "queued" });
    this.flush();
    this.startQueued();
  }
  /** Remove uploads from all pages. */
  forgetEverywhere(ids) {
    this.flush();
    this.send({ type: "forget", ids });
  }
  /**
   * Return the destination of files from the panel's fields.
   *
   * The fields are read in the page, because a busy kernel receives changes of them later.
   */
  async destination() {
    const { place, subfolder, overwrite } = this.model.get("fields");
    const [places, folder, replace] = await Promise.all(
      [place, subfolder, overwrite].map(
        (reference) => this.model.widget_manager.get_model(reference.slice("IPY_MODEL_".length))
      )
    );
    const label = places?.get("_options_labels")[places.get("index")];
    return {
      type: this.model.get("places")[label] ?? "",
      subfolder: folder?.get("value").trim().replace(/^\/+|\/+$/g, ""),
      overwrite: replace?.get("value"),
      machine: this.model.get("machine")
    };
  }
  startQueued() {
    const own = [...this.uploads.values()].filter(({ id }) => this.files.has(id));
    const busy = own.filter(({ state }) => state === "active" || state === "finishing").length;
    const queued = own.filter(({ state }) => state === "queued");
    for (const upload of queued.slice(0, Math.max(0, AT_ONCE - busy))) this.start(upload);
  }
  async start(upload) {
    const own = this.files.get(upload.id);
    if (!own) return;
    this.change(upload, { state: "active", sent: 0, error: null, result: null });
    const cancelled = new Promise((_, reject) => {
      own.abort = () => reject(new Cancelled());
    });
    cancelled.catch(() => {
    });
    try {
      const base = await Promise.race([this.findServer(), cancelled]);
      const result = await (base ? this.post(base, upload, own) : this.relay(upload, own));
      this.change(upload, { state: "done", sent: upload.size ?? 0, result });
      this.files.delete(upload.id);
    } catch (error) {
      if (error instanceof Cancelled) this.change(upload, { state: "cancelled" });
      else this.change(upload, { state: "failed", error: messageOf(error) });
      forgetPageServer();
    }
    this.flush();
    this.startQueued();
  }
  /** Return the address by which this page reaches the Jupyter server; wait until the kernel knows it. */
  async findServer() {
    const { model } = this;
    const instance = await new Promise((resolve) => {
      const check = () => {
        if (!model.get("instance")) return;
        model.off("change:instance", check);
        resolve(model.get("instance"));
      };
      model.on("change:instance", check);
      check();
    });
    return pageServer({ base: "", instance });
  }
  post(base, upload, own) {
    const progress = (fraction) => {
      const sent = Math.round((upload.size ?? 0) * fraction);
      this.change(upload, fraction < 1 ? { sent } : { sent, state: "finishing" });
    };
    const { done, abort } = postFile(base, own.file, own.destination, progress);
    own.abort = abort;
    return done;
  }
  /** Send a file through the kernel, with a limited number of chunks that it has not stored. */
  async relay(upload, own) {
    const { id, name } = upload;
    const { file, destination } = own;
    const relay = { stored: null, end: null, wake: () => {
    } };
    const reply = () => new Promise((resolve) => {
      relay.wake = resolve;
    });
    own.relay = relay;
    own.abort = () => {
      this.send({ type: "abort", id });
      relay.end = new Cancelled();
      relay.wake();
    };
    this.send({ type: "open", id, name, size: file.size, destination });
    const mayBeSent = (offset) => relay.stored !== null && offset - relay.stored < AHEAD * CHUNK;
    for (let offset = 0; offset < file.size; offset += CHUNK) {
      while (!relay.end && !mayBeSent(offset)) await reply();
      if (relay.end) break;
      const chunk = await file.slice(offset, offset + CHUNK).arrayBuffer();
      this.send({ type: "chunk", id, offset }, [chunk]);
    }
    while (!relay.end) await reply();
    if (relay.end instanceof Error) throw relay.end;
    return relay.end;
  }
  change(upload, fields) {
    Object.assign(upload, fields);
    this.changed.add(upload.id);
    this.timer ??= setTimeout(() => this.flush(), INTERVAL2);
  }
  /** Show the changes, and send them to the kernel. */
  flush() {
    clearTimeout(this.timer);
    this.timer = void 0;
    const changed = [...this.changed].flatMap((id) => this.uploads.get(id) ?? []);
    this.changed.clear();
    for (const list of this.lists) list.show(changed);
    const own = changed.filter(({ page }) => page === this.page);
    if (own.length > 0) this.send({ type: "uploads", uploads: own });
    const unfinished = [...this.uploads.values()].filter(isOpen);
    askBeforeLeaving(unfinished.some(({ id }) => this.files.has(id)));
  }
  send(message, buffers) {
    this.model.send(message, void 0, buffers);
  }
  onMessage(message) {
    const { id } = message;
    if (message.type === "uploads") {
      const foreign = message.uploads.filter(({ page }) => page !== this.page);
      for (const upload of foreign) this.uploads.set(upload.id, upload);
      for (const list of this.lists) list.show(foreign);
    } else if (message.type === "report") {
      for (const own of this.files.keys()) this.changed.add(own);
      this.flush();
    } else if (message.type === "cancel") {
      if (this.files.has(id)) this.cancel(id);
    } else if (message.type === "retry") {
      if (this.files.has(id)) this.retry(id);
    } else if (message.type === "forget") {
      this.forget(message.ids);
    } else {
      this.onRelayMessage(message);
    }
  }
  onRelayMessage({ id, type, bytes, error, result }) {
    const relay = this.files.get(id)?.relay;
    const upload = this.uploads.get(id);
    if (!relay || !upload) return;
    if (type === "opened") {
      relay.stored ??= 0;
    } else if (type === "stored") {
      relay.stored = bytes;
      const state = bytes < (upload.size ?? 0) ? "active" : "finishing";
      this.change(upload, { sent: bytes, state });
    } else {
      relay.end = error ? new Error(error) : result;
    }
    relay.wake();
  }
  forget(ids) {
    for (const id of ids) {
      this.uploads.delete(id);
      this.files.delete(id);
    }
    for (const list of this.lists) list.forget(ids);
  }
};
function onBeforeUnload(event) {
  event.preventDefault();
  event.returnValue = true;
}
function askBeforeLeaving(isAsked) {
  if (isAsked) window.addEventListener("beforeunload", onBeforeUnload);
  else window.removeEventListener("beforeunload", onBeforeUnload);
}
function randomHex(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

// src/views/transfers.ts
var transfers_default = () => {
  let uploads;
  function initialize({ model }) {
    uploads = new Uploads(model);
    return () => uploads.end();
  }
  function render({ model, el }) {
    const events = new Subscriptions(model);
    const list = new TransferList(el, {
      add: (chosen) => uploads.add(chosen),
      cancel: (id) => uploads.cancel(id),
      retry: (id) => uploads.retry(id),
      forget: (ids) => uploads.forgetEverywhere(ids)
    });
    const stopShowing = uploads.showIn(list);
    const showTransfers = () => list.showTransfers(model.get("transfers"));
    showTransfers();
    events.on("change:transfers", showTransfers);
    return () => {
      events.end();
      stopShowing();
    };
  }
  return { initialize, render };
};
export {
  transfers_default as default
};
