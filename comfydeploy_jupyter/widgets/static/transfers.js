// Choose or drop files, send them, and show what is on its way.
//
// Files go straight from the page to the route `upload-file`, whatever the kernel does. Where the
// page cannot reach the Jupyter server that the kernel uses, they go through the kernel in chunks.
// A page owns the uploads that were begun in it: it alone has the files. It tells the kernel of
// them, and the kernel tells the other pages.

const AT_ONCE = 3; // uploads
const INTERVAL = 150; // ms between two updates of the page and of the kernel
const OPEN = new Set(["queued", "active", "finishing", "retrying"]);

const FAILED = new Set(["failed"]);

const WORDS = {
  queued: "Waiting",
  active: "",
  finishing: "Being stored …",
  retrying: "Will be tried again",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  lost: "The page that sent it was left; choose the file again",
};

export default () => {
  const page = hex(8);
  const uploads = new Map(); // by id, in the order they were added; of all pages
  const files = new Map(); // by id: {file, destination, abort}; of this page
  const lists = new Set(); // the views
  const changed = new Set(); // ids
  let count = 0;
  let timer = null;
  let model = null;

  // Where files go, as the fields above say now: a kernel that is busy gets to know it later.
  async function aim() {
    const fields = model.get("fields");
    const named = ["place", "subfolder", "overwrite"].map((name) =>
      model.widget_manager.get_model(fields[name].slice("IPY_MODEL_".length)),
    );
    const [place, subfolder, overwrite] = await Promise.all(named);
    return {
      type: model.get("places")[place.get("_options_labels")[place.get("index")]],
      subfolder: subfolder.get("value").trim().replace(/^\/+|\/+$/g, ""),
      overwrite: overwrite.get("value"),
      machine: model.get("machine"),
    };
  }

  async function add(chosen) {
    const destination = await aim();
    for (const { file, folder } of chosen) {
      const id = `${page}-${(count += 1)}`;
      const subfolder = [destination.subfolder, folder].filter(Boolean).join("/");
      files.set(id, { file, destination: { ...destination, subfolder }, abort: null });
      uploads.set(id, {
        id,
        page,
        name: file.name,
        where: [destination.type, subfolder].filter(Boolean).join("/"),
        size: file.size,
        kept: true, // the file is at hand for another try
        sent: 0,
        state: "queued",
        error: null,
        result: null,
      });
      changed.add(id);
    }
    flush();
    pump();
  }

  function pump() {
    const own = [...uploads.values()].filter((upload) => files.has(upload.id));
    let free = AT_ONCE - own.filter((u) => u.state === "active" || u.state === "finishing").length;
    for (const upload of own) {
      if (free > 0 && upload.state === "queued") {
        free -= 1;
        start(upload);
      }
    }
  }

  async function start(upload) {
    const entry = files.get(upload.id);
    change(upload, { state: "active", sent: 0, error: null, result: null });
    const cancelled = new Promise((_, reject) => {
      entry.abort = () => reject(new Cancelled());
    });
    cancelled.catch(() => {});
    try {
      const base = await Promise.race([findBase(), cancelled]);
      const result = await (base ? post(base, upload, entry) : relay(upload, entry));
      change(upload, { state: "done", sent: upload.size, result });
      files.delete(upload.id);
    } catch (error) {
      if (error instanceof Cancelled) change(upload, { state: "cancelled" });
      else change(upload, { state: "failed", error: error.message });
      reached.clear(); // the way may be another one next time
    }
    flush();
    pump();
  }

  // Return where this page reaches the server that the kernel uses; null where it does not. The
  // kernel may still be looking for its server.
  async function findBase() {
    const instance = await new Promise((resolve) => {
      const look = () => {
        if (!model.get("instance")) return;
        model.off("change:instance", look);
        resolve(model.get("instance"));
      };
      model.on("change:instance", look);
      look();
    });
    return pageServer({ base: "", instance });
  }

  function post(base, upload, entry) {
    const sent = (fraction) => {
      const fields = { sent: Math.round(upload.size * fraction) };
      change(upload, fraction < 1 ? fields : { ...fields, state: "finishing" });
    };
    const { done, abort } = postFile(base, entry.file, entry.destination, sent);
    entry.abort = abort;
    return done;
  }

  // Through the kernel: a few chunks may be on their way at a time.
  async function relay(upload, entry) {
    const { id, name, size } = upload;
    const link = { stored: 0, end: null, wake: () => {} };
    entry.link = link;
    entry.abort = () => {
      send({ type: "abort", id });
      link.end = new Cancelled();
      link.wake();
    };
    send({ type: "open", id, name, size, destination: entry.destination });
    for (let offset = 0; offset < size; offset += CHUNK) {
      while (!link.end && offset - link.stored >= AHEAD * CHUNK) await moved(link);
      if (link.end) break;
      const chunk = await entry.file.slice(offset, offset + CHUNK).arrayBuffer();
      send({ type: "chunk", id }, [chunk]);
    }
    while (!link.end) await moved(link);
    if (link.end instanceof Error) throw link.end;
    return link.end;
  }

  function moved(link) {
    return new Promise((resolve) => {
      link.wake = resolve;
    });
  }

  function change(upload, fields) {
    Object.assign(upload, fields);
    changed.add(upload.id);
    timer ??= setTimeout(flush, INTERVAL);
  }

  // Show what has changed, and tell the kernel of it.
  function flush() {
    clearTimeout(timer);
    timer = null;
    const news = [...changed].map((id) => uploads.get(id)).filter(Boolean);
    changed.clear();
    for (const list of lists) list.show(news);
    const own = news.filter((upload) => upload.page === page);
    if (own.length > 0) send({ type: "uploads", uploads: own });
    guard([...uploads.values()].some((u) => files.has(u.id) && OPEN.has(u.state)));
  }

  function send(message, buffers) {
    model.send(message, undefined, buffers);
  }

  // Ask before a page is left that is still sending.
  function guard(busy) {
    window[busy ? "addEventListener" : "removeEventListener"]("beforeunload", ask);
  }

  function cancel(id) {
    const upload = uploads.get(id);
    if (!files.has(id)) return send({ type: "cancel", id });
    if (upload.state === "queued") {
      change(upload, { state: "cancelled" });
      flush();
    } else if (OPEN.has(upload.state)) {
      files.get(id).abort();
    }
  }

  function retry(id) {
    if (!files.has(id)) return send({ type: "retry", id });
    change(uploads.get(id), { state: "queued" });
    flush();
    pump();
  }

  function forget(ids) {
    for (const id of ids) {
      uploads.delete(id);
      files.delete(id);
    }
    for (const list of lists) list.forget(ids);
  }

  function hear(message) {
    if (message.type === "uploads") {
      const foreign = message.uploads.filter((upload) => upload.page !== page);
      for (const upload of foreign) uploads.set(upload.id, upload);
      for (const list of lists) list.show(foreign);
    } else if (message.type === "report") {
      for (const id of files.keys()) changed.add(id);
      flush();
    } else if (message.type === "cancel") {
      if (files.has(message.id)) cancel(message.id);
    } else if (message.type === "retry") {
      if (files.has(message.id)) retry(message.id);
    } else if (message.type === "forget") {
      forget(message.ids);
    } else {
      const link = files.get(message.id)?.link;
      if (!link) return;
      if (message.type === "stored") {
        link.stored = message.bytes;
        const sent = message.bytes;
        const upload = uploads.get(message.id);
        change(upload, { sent, state: sent < upload.size ? "active" : "finishing" });
      } else {
        link.end = message.error ? new Error(message.error) : message.result;
      }
      link.wake();
    }
  }

  function orderForgetting(ids) {
    flush(); // what the kernel hears later would bring them back
    send({ type: "forget", ids });
  }

  function initialize(context) {
    model = context.model;
    model.on("msg:custom", hear);
    send({ type: "hello" });
    return () => {
      for (const { abort } of files.values()) abort?.();
      guard(false);
    };
  }

  function render({ el }) {
    const list = new List(el, { add, cancel, retry, forget: orderForgetting });
    const transfers = () => list.showTransfers(model.get("transfers"));
    lists.add(list);
    list.show([...uploads.values()]);
    transfers();
    model.on("change:transfers", transfers);
    return () => {
      model.off("change:transfers", transfers);
      lists.delete(list);
    };
  }

  return { initialize, render };
};

// One view: where files are dropped, and the rows.
class List {
  constructor(el, actions) {
    this.actions = actions;
    this.rows = new Map(); // by id: {item, data, …}
    el.classList.add("comfydeploy-transfers");
    this.input = h("input", { type: "file", multiple: true, hidden: true, tabIndex: -1 });
    this.input.setAttribute("aria-label", "Files to upload");
    this.input.addEventListener("change", () => {
      actions.add([...this.input.files].map((file) => ({ file, folder: "" })));
      this.input.value = "";
    });
    const choose = button("Choose files", () => this.input.click(), "mod-primary");
    const hint = h("span", { className: "comfydeploy-note", textContent: "or drop them here" });
    this.zone = h("div", { className: "comfydeploy-zone" }, choose, hint, this.input);
    this.listen();
    this.summary = h("span", { className: "comfydeploy-summary" });
    this.summary.setAttribute("role", "status");
    this.stopAll = button("Cancel all", () => this.each(OPEN, actions.cancel));
    this.again = button("Retry failed", () => this.each(FAILED, actions.retry));
    this.clear = button("Clear finished", () => this.clearFinished());
    this.bar = h(
      "div",
      { className: "comfydeploy-bar", hidden: true },
      this.summary,
      this.stopAll,
      this.again,
      this.clear,
    );
    this.items = h("ul", { className: "comfydeploy-rows", hidden: true });
    this.items.setAttribute("aria-label", "Transfers");
    el.append(this.zone, this.bar, this.items);
  }

  listen() {
    const { zone } = this;
    const over = (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      event.dataTransfer.dropEffect = "copy";
      zone.classList.add("mod-over");
    };
    zone.addEventListener("dragenter", over);
    zone.addEventListener("dragover", over);
    zone.addEventListener("dragleave", (event) => {
      if (!zone.contains(event.relatedTarget)) zone.classList.remove("mod-over");
    });
    zone.addEventListener("drop", async (event) => {
      event.preventDefault();
      event.stopPropagation();
      zone.classList.remove("mod-over");
      this.actions.add(await dropped(event.dataTransfer));
    });
  }

  show(uploads) {
    for (const upload of uploads) this.row(upload.id).update(upload);
    this.count();
  }

  showTransfers(transfers) {
    const here = new Set(transfers.map((transfer) => transfer.id));
    for (const [id, row] of this.rows) if (row.data.direction && !here.has(id)) this.drop(id);
    for (const transfer of transfers) {
      const name = transfer.filename;
      const where = transfer.direction === "up" ? "from ComfyUI" : "to ComfyUI";
      this.row(transfer.id).update({ ...transfer, name, where });
    }
    this.count();
  }

  row(id) {
    if (!this.rows.has(id)) {
      const row = new Row(id, this.actions);
      this.rows.set(id, row);
      this.items.prepend(row.item);
    }
    return this.rows.get(id);
  }

  drop(id) {
    this.rows.get(id)?.item.remove();
    this.rows.delete(id);
  }

  forget(ids) {
    ids.forEach((id) => this.drop(id));
    this.count();
  }

  each(states, action) {
    for (const [id, row] of this.rows) {
      const { data } = row;
      if (states.has(data.state) && (states !== FAILED || retryable(data))) action(id);
    }
  }

  clearFinished() {
    const ended = [...this.rows].filter(([, row]) => !OPEN.has(row.data.state));
    this.actions.forget(ended.map(([id]) => id));
  }

  count() {
    const states = [...this.rows.values()].map((row) => row.data.state);
    const open = states.filter((state) => OPEN.has(state)).length;
    const counts = ["done", "failed", "cancelled", "lost"]
      .map((state) => [states.filter((other) => other === state).length, state])
      .filter(([number]) => number > 0)
      .map(([number, state]) => `${number} ${state}`);
    const text = [...(open ? [`${open} on the way`] : []), ...counts].join(", ");
    if (this.summary.textContent !== text) this.summary.textContent = text;
    this.bar.hidden = states.length === 0;
    this.items.hidden = states.length === 0;
    this.stopAll.disabled = open === 0;
    const failed = [...this.rows.values()].filter((row) => FAILED.has(row.data.state));
    this.again.disabled = !failed.some((row) => retryable(row.data));
    this.clear.disabled = open === states.length;
  }
}

// One transfer. What does not change is not touched, so that the focus stays where it is.
class Row {
  constructor(id, actions) {
    this.data = {};
    this.speed = new Speed();
    this.name = h("span", { className: "comfydeploy-name" });
    this.where = h("span", { className: "comfydeploy-note" });
    this.cancel = button("Cancel", () => actions.cancel(id));
    this.retry = button("Retry", () => actions.retry(id));
    this.progress = h("progress", { max: 1 });
    this.note = h("span", { className: "comfydeploy-note" });
    this.hash = h("code", { className: "comfydeploy-hash" });
    this.copy = button("Copy hash", () => copyText(this.data.result.file_hash, this.copy));
    this.item = h(
      "li",
      {},
      h("div", { className: "comfydeploy-line" }, this.name, this.where, this.retry, this.cancel),
      this.progress,
      h("div", { className: "comfydeploy-line" }, this.note, this.hash, this.copy),
    );
  }

  update(data) {
    const { name, where, size, sent, state, error, result } = data;
    this.data = data;
    this.item.dataset.state = state;
    put(this.name, result && result.name !== name ? `${name} as ${result.name}` : name);
    this.name.title = name;
    put(this.where, where);
    const open = OPEN.has(state);
    this.progress.hidden = !open;
    const fraction = size ? sent / size : state === "finishing" ? 1 : 0;
    this.progress.value = fraction;
    const percent = `${Math.floor(100 * fraction)} %`;
    this.progress.setAttribute("aria-label", `${name}: ${percent}`);
    const rate = state === "active" ? this.speed.of(sent) : this.speed.reset();
    const bytes = !size ? "" : open ? `${human(sent)} of ${human(size)}` : human(size);
    const word = result?.reused ? "Was there already" : WORDS[state];
    const parts = open
      ? [state === "active" ? percent : word, bytes, rate, error]
      : [error ? `${word}: ${error}` : word, bytes];
    put(this.note, parts.filter(Boolean).join(" · "));
    const hash = result?.file_hash ?? "";
    put(this.hash, hash ? `SHA-256 ${hash.slice(0, 12)}…` : "");
    this.hash.title = hash;
    this.copy.hidden = !hash;
    this.cancel.hidden = !open || state === "finishing";
    this.retry.hidden = !retryable(data);
    this.cancel.setAttribute("aria-label", `Cancel ${name}`);
    this.retry.setAttribute("aria-label", `Retry ${name}`);
    this.copy.setAttribute("aria-label", `Copy the hash of ${name}`);
  }
}

// The server can try again what failed; a page what it still has.
function retryable({ state, direction, kept }) {
  return state === "failed" ? Boolean(direction || kept) : state === "cancelled" && Boolean(kept);
}

// Bytes a second, smoothed.
class Speed {
  reset() {
    this.at = this.rate = null;
    return "";
  }

  of(sent) {
    const now = performance.now();
    if (this.at == null) {
      this.at = now;
      this.sent = sent;
      return "";
    }
    const seconds = (now - this.at) / 1000;
    if (seconds >= 0.5) {
      const rate = (sent - this.sent) / seconds;
      this.rate = this.rate == null ? rate : 0.7 * this.rate + 0.3 * rate;
      this.at = now;
      this.sent = sent;
    }
    return this.rate ? `${human(this.rate)}/s` : "";
  }
}

// The files in a drop, folders opened. What is dropped must be asked for before the event is over.
async function dropped(transfer) {
  const entries = [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) await collect(entry, "", found);
  return found;
}

async function collect(entry, folder, found) {
  if (!entry) return;
  if (entry instanceof File) {
    found.push({ file: entry, folder });
  } else if (entry.isFile) {
    found.push({ file: await new Promise((yes, no) => entry.file(yes, no)), folder });
  } else {
    const inner = folder ? `${folder}/${entry.name}` : entry.name;
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((yes, no) => reader.readEntries(yes, no));
      if (some.length === 0) break;
      for (const child of some) await collect(child, inner, found);
    }
  }
}

function ask(event) {
  event.preventDefault();
  event.returnValue = true; // what older browsers look at
}

function hex(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}
