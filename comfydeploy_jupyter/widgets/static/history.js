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
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
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
function counted(count, noun) {
  return `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;
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
function folderAddress(folder) {
  const { baseUrl, serverRoot } = pageConfig();
  const root = serverRoot?.replace(/\/+$/, "");
  if (!baseUrl || root === void 0 || !`${folder}/`.startsWith(`${root}/`)) return null;
  const parts = folder.slice(root.length + 1).split("/");
  return `${baseUrl}lab/tree/${parts.map(encodeURIComponent).join("/")}`;
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

// src/save_file.ts
var KEPT_FOR = 6e4;
function saveUrl(name, url) {
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR);
}

// src/gallery/item.ts
var LARGEST_COPY = 1024;
var INVISIBLE = /[\p{Cc}\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;
function sizeText({ size }) {
  return size ? `${size[0]} × ${size[1]}` : "";
}
function nameOf(item) {
  return item.name.replace(INVISIBLE, "�");
}
function describe(item) {
  return [nameOf(item), sizeText(item)].filter(Boolean).join(" · ");
}

// src/gallery/download_link.ts
function downloadLink(files, item, text = nameOf(item)) {
  const download = async (event) => {
    event.preventDefault();
    const url = await files.url(item.query);
    const xsrf = url.startsWith("blob:") ? null : pageHeaders()["X-XSRFToken"];
    saveUrl(item.name, xsrf ? `${url}&_xsrf=${encodeURIComponent(xsrf)}` : url);
  };
  return h(
    "a",
    {
      href: "#",
      className: "cd-download",
      title: `Download ${nameOf(item)}`,
      onclick: download
    },
    icon("download"),
    text ? ` ${text}` : ""
  );
}

// src/gallery/lightbox.ts
var Lightbox = class {
  root = h("dialog", { className: "cd-lightbox", "aria-label": "Picture in full size" });
  close() {
    if (this.root.open) this.root.close();
  }
  /** Show a picture; the arrow keys show the others. When it is closed, `opener` gets the focus. */
  open(files, items, start, opener, beside, instead = () => null) {
    if (!items.length) return;
    const { root } = this;
    let index = start;
    const image = h("img");
    const name = h("span", { className: "cd-grow cd-cut" });
    const full = h("div", { className: "cd-full" });
    const line = h("div", { className: "cd-line" });
    const panel = h("div", { className: "cd-side" });
    const show = (step) => {
      index = (index + step + items.length) % items.length;
      const item = items[index];
      if (!item) return;
      files.free(image);
      image.alt = nameOf(item);
      const position = items.length > 1 ? `  (${index + 1} of ${items.length})` : "";
      name.textContent = `${describe(item)}${position}`;
      const other = instead(item, index);
      full.replaceChildren(other ?? image);
      const side = item.kind === "hdr" ? LARGEST_COPY : 0;
      if (!other) {
        files.show(image, item.query, side, () => {
          image.alt = `${nameOf(item)} is not available any more`;
        });
      }
      if (beside) panel.replaceChildren(beside(item, index, image));
      const download = other ? [] : [downloadLink(files, item, "Download")];
      line.replaceChildren(name, ...turn, ...download, close);
    };
    const turn = items.length > 1 ? [
      iconButton("chevron-left", "Previous picture", () => show(-1)),
      iconButton("chevron-right", "Next picture", () => show(1))
    ] : [];
    const close = iconButton("times", "Close", () => root.close());
    root.onkeydown = (event) => {
      event.stopPropagation();
      if (event.target instanceof HTMLSelectElement) return;
      if (event.key === "ArrowLeft") show(-1);
      if (event.key === "ArrowRight") show(1);
    };
    root.onclick = (event) => {
      if (event.target === root) root.close();
    };
    root.onclose = () => {
      files.free(image);
      opener.focus();
    };
    root.replaceChildren(line, beside ? h("div", { className: "cd-sides" }, full, panel) : full);
    root.showModal();
    show(0);
  }
};

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

// src/history/run.ts
function formatTime(iso, withSeconds = false) {
  const date = new Date(iso);
  const isToday = date.toDateString() === (/* @__PURE__ */ new Date()).toDateString();
  const time = date.toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: withSeconds ? "2-digit" : void 0
  });
  if (isToday) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}

// src/history/about.ts
function action(iconName, text, onclick) {
  return h(
    "button",
    { type: "button", className: "cd-button", onclick },
    icon(iconName),
    ` ${text}`
  );
}
function copyButton(text, label) {
  const button = action(
    "clipboard",
    label,
    () => copyText(text, button, () => button.replaceChildren(icon("clipboard"), ` ${label}`))
  );
  return button;
}
async function copyPicture(image) {
  const canvas = h("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  canvas.getContext("2d")?.drawImage(image, 0, 0);
  const content = new Promise((resolve, reject) => {
    canvas.toBlob((blob) => blob ? resolve(blob) : reject(new Error("no picture")), "image/png");
  });
  await navigator.clipboard.write([new ClipboardItem({ "image/png": content })]);
}
var About = class {
  constructor(run, item, image, files, inputs, actions) {
    this.run = run;
    this.item = item;
    this.image = image;
    image.addEventListener("load", () => this.measure(), { once: true });
    this.measure();
    files.size(item.query).then(
      (size) => {
        this.bytes.textContent = size < 0 ? "–" : formatBytes(size);
      },
      () => {
        this.bytes.textContent = "gone";
      }
    );
    const labels = Object.entries(run.labels).map((label) => label.join(": "));
    const facts = [
      ["Size", this.size],
      ["File", this.bytes],
      ["Seed", run.seeds.join(", ") || "–"],
      ["Made", formatTime(run.created_at)],
      ["Took", run.seconds === null ? "–" : formatDuration(run.seconds)],
      ["From", run.from_editor ? "ComfyUI's editor" : ""],
      ["Labels", labels.join(", ")]
    ];
    const rows = facts.filter(([, value]) => value).flatMap(([name, value]) => [
      h("dt", {}, name),
      value instanceof HTMLElement ? value : h("dd", { dir: "auto" }, value)
    ]);
    this.root.replaceChildren(
      h("dl", {}, rows),
      h("div", { className: "cd-line" }, this.buttons(inputs, actions)),
      this.more
    );
    this.more.replaceChildren(h("span", { className: "cd-faint" }, "…"));
  }
  run;
  item;
  image;
  root = h("div", { className: "cd-about" });
  size = h("dd");
  bytes = h("dd");
  more = h("div", { className: "cd-prompts" });
  /** Show the data from the kernel. */
  show({ prompts, folder, problem }) {
    const parts = prompts.map(
      ([label = "", text = ""]) => h(
        "figure",
        {},
        h(
          "figcaption",
          { className: "cd-line cd-spread" },
          h("b", { dir: "auto" }, label),
          copyButton(text, "Copy")
        ),
        h("div", { className: "cd-prompt", tabIndex: 0, dir: "auto" }, text)
      )
    );
    this.more.replaceChildren(...parts);
    if (problem) this.more.append(h("div", { className: "comfydeploy-error" }, problem));
    if (!folder) return;
    const address = folderAddress(folder);
    const link = address ? h(
      "a",
      { href: address, target: "_blank", rel: "noopener" },
      icon("folder-open-o"),
      " Open in JupyterLab"
    ) : null;
    this.more.append(
      h(
        "figure",
        {},
        h(
          "figcaption",
          { className: "cd-line cd-spread" },
          h("b", {}, "Folder"),
          link,
          copyButton(folder, "Copy")
        ),
        h("div", { className: "cd-prompt", tabIndex: 0 }, folder)
      )
    );
  }
  measure() {
    const { naturalWidth, naturalHeight } = this.image;
    this.size.textContent = naturalWidth ? `${naturalWidth} × ${naturalHeight}` : "…";
  }
  buttons(inputs, actions) {
    const { run, item } = this;
    const buttons = [
      action("reply", "Use these values", () => actions.reuse(run)),
      action("thumb-tack", run.pinned ? "Unpin" : "Pin", () => actions.pin(run)),
      action("trash-o", "Delete …", () => actions.remove(run))
    ];
    if (item.kind === "image" && "ClipboardItem" in window && window.isSecureContext) {
      const copy = action("clone", "Copy picture", async () => {
        try {
          await copyPicture(this.image);
          copy.lastChild?.replaceWith(" Copied");
        } catch {
          copy.lastChild?.replaceWith(" Not copied");
        }
      });
      buttons.push(copy);
    }
    const [first] = inputs;
    if (inputs.length === 1 && first?.[0]) {
      const [key, label = key] = first;
      buttons.push(action("sign-in", `Use as ${label}`, () => actions.use(run, item, key)));
      return buttons;
    }
    if (!inputs.length) return buttons;
    const choice = h(
      "select",
      { "aria-label": "Use this picture as an input" },
      h("option", { value: "" }, "Use as input …"),
      inputs.map(([key = "", label = key]) => h("option", { value: key }, label))
    );
    choice.onchange = () => {
      if (choice.value) actions.use(run, item, choice.value);
      choice.value = "";
    };
    return [...buttons, choice];
  }
};

// src/dialog.ts
function openDialog(dialog, opener) {
  dialog.onkeydown = (event) => event.stopPropagation();
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
  dialog.onclose = () => {
    if (opener instanceof HTMLElement) opener.focus();
  };
  dialog.showModal();
}

// src/gallery/comparison.ts
var STEPS = {
  ArrowLeft: -1,
  ArrowDown: -1,
  ArrowRight: 1,
  ArrowUp: 1,
  PageDown: -10,
  PageUp: 10,
  Home: -100,
  End: 100
};
function comparison({ files, seen }, before, after, otherwise) {
  const below = h("img", { alt: nameOf(after) });
  const above = h("img", { alt: nameOf(before) });
  const slider = h("input", {
    type: "range",
    min: 0,
    max: 100,
    value: 50,
    title: "Before and after",
    "aria-label": `Compare ${nameOf(before)} with ${nameOf(after)}`
  });
  const move = () => {
    root.style.setProperty("--cd-cut", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % before`);
  };
  slider.addEventListener("input", move);
  slider.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (step === void 0) return;
    event.preventDefault();
    event.stopPropagation();
    slider.value = String(Number(slider.value) + step);
    move();
  });
  const root = h(
    "div",
    { className: "cd-compare" },
    h(
      "div",
      { className: "cd-stack" },
      below,
      above,
      h("span", { className: "cd-tag" }, "before"),
      h("span", { className: "cd-tag cd-after" }, "after"),
      slider
    ),
    h("div", { className: "cd-line" }, downloadLink(files, before), downloadLink(files, after))
  );
  move();
  const failed = () => root.replaceChildren(...otherwise());
  seen.watch(root, () => {
    files.show(below, after.query, LARGEST_COPY, failed);
    files.show(above, before.query, LARGEST_COPY, failed);
  });
  return root;
}

// src/history/dialogs.ts
var DeleteDialog = class {
  root = h("dialog", { className: "cd-dialog" });
  /** Ask; `confirmed` is called with whether to delete output files, too. */
  ask(question, opener, confirmed) {
    const id = newId();
    const files = h("input", { type: "checkbox", checked: false });
    const cancel = h(
      "button",
      { type: "button", className: "cd-button", onclick: () => this.root.close() },
      "Cancel"
    );
    const confirm = h(
      "button",
      {
        type: "button",
        className: "cd-button cd-danger",
        onclick: () => {
          this.root.close();
          confirmed(files.checked);
        }
      },
      "Delete"
    );
    this.root.setAttribute("aria-labelledby", id);
    this.root.replaceChildren(
      h("div", { id, className: "cd-question" }, question),
      h("label", { className: "cd-check" }, files, "Delete their output files from the disk, too"),
      h(
        "div",
        { className: "cd-faint" },
        "Pinned runs stay. Files stay if another run, a workflow or an upload uses them."
      ),
      h("div", { className: "cd-line cd-end" }, cancel, confirm)
    );
    openDialog(this.root, opener);
    cancel.focus();
  }
  end() {
    if (this.root.open) this.root.close();
  }
};
var CompareDialog = class {
  root = h("dialog", { className: "cd-dialog cd-wide-dialog" });
  table = h("div", { className: "cd-differences" });
  pair = "";
  times = [];
  // of both runs, as displayed
  step = () => {
  };
  constructor() {
    this.root.addEventListener("keydown", ({ key, altKey, ctrlKey, metaKey }) => {
      if (altKey || ctrlKey || metaKey) return;
      if (key === "ArrowLeft") this.step(-1);
      if (key === "ArrowRight") this.step(1);
    });
  }
  show(page, first, second, opener) {
    this.pair = [first.prompt_id, second.prompt_id].join();
    const id = newId();
    const close = iconButton("times", "Close", () => this.root.close());
    this.times = [first, second].map((run) => formatTime(run.created_at, true));
    const title = `Run of ${this.times[0]} (before) and run of ${this.times[1]} (after)`;
    this.table.replaceChildren(h("span", { className: "cd-faint" }, "Comparing …"));
    const pictures = h("div", { className: "cd-pair" });
    this.showPictures(pictures, page, first.pictures, second.pictures);
    this.root.setAttribute("aria-labelledby", id);
    this.root.replaceChildren(
      h("div", { className: "cd-line" }, h("b", { id, className: "cd-grow" }, title), close),
      h("div", { className: "cd-columns" }, pictures, this.table)
    );
    openDialog(this.root, opener);
    this.root.addEventListener("close", () => page.files.free(this.root), { once: true });
    close.focus();
  }
  /** Show the first pictures of two runs, and buttons for the others, if there are any. */
  showPictures(root, page, before, after) {
    const count = Math.max(before.length, after.length);
    const canTurn = count > 1 && before.length > 0 && after.length > 0;
    const position = h("span", { className: "cd-faint", role: "status" });
    const next = iconButton("chevron-right", "Next pictures (right arrow key)", () => this.step(1));
    const turn = h(
      "div",
      { className: "cd-line", role: "group", "aria-label": "Pictures of both runs" },
      iconButton("chevron-left", "Previous pictures (left arrow key)", () => this.step(-1)),
      position,
      next
    );
    const frame = h("div");
    let index = 0;
    const show = (by) => {
      index = (index + by + count) % (count || 1);
      const places = [before, after].map(({ length }) => Math.min(index, length - 1));
      const [old, present] = [before[places[0] ?? 0], after[places[1] ?? 0]];
      if (!old || !present) {
        frame.textContent = "Not both of these runs have a picture.";
        return;
      }
      setText(position, positionOf(places, [before.length, after.length]));
      page.files.free(frame);
      const hadFocus = frame.contains(document.activeElement);
      const gone = () => [h("div", {}, "A picture is not available any more.")];
      frame.replaceChildren(comparison(page, asItem(old), asItem(present), gone));
      if (hadFocus) next.focus();
    };
    this.step = canTurn ? show : () => {
    };
    show(0);
    root.replaceChildren(...canTurn ? [turn] : [], frame);
  }
  /** Show the values that differ, when they are known. */
  showDifferences(promptIds, lines, problem = "") {
    if (promptIds.join() !== this.pair) return;
    if (problem || !lines.length) {
      this.table.replaceChildren(h("div", {}, problem || "All values are the same."));
      return;
    }
    const cell = (text, kind) => h("td", { dir: "auto" }, swatch(text, kind), text);
    const rows = lines.map(
      ([what = "", before = "", after = "", kind = ""]) => before || after ? h(
        "tr",
        {},
        h("th", { scope: "row", dir: "auto" }, what),
        cell(before, kind),
        cell(after, kind)
      ) : h("tr", {}, h("td", { colSpan: 3, dir: "auto" }, what))
    );
    const [first, second] = this.times;
    const heads = ["", `before: run of ${first}`, `after: run of ${second}`].map(
      (text) => h("th", { scope: "col" }, text)
    );
    this.table.replaceChildren(
      h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows))
    );
  }
  end() {
    if (this.root.open) this.root.close();
  }
};
function positionOf([before = 0, after = 0], [many = 0, others = 0]) {
  if (many === others) return `Picture ${before + 1} of ${many}`;
  return `Before: picture ${before + 1} of ${many}, after: picture ${after + 1} of ${others}`;
}
function swatch(text, kind) {
  if (kind !== "color" || !/^#[0-9a-f]{6}$/.test(text)) return null;
  const square = h("span", { className: "cd-swatch", "aria-hidden": "true" });
  square.style.backgroundColor = text;
  return square;
}
function asItem(picture) {
  return { ...picture, small: true, waits: false };
}

// src/history/filters.ts
var WAIT = 300;
var STATUSES = [
  ["", "Any status"],
  ["success", "Success"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"]
];
var DAYS = [
  [0, "Any time"],
  [1, "Last 24 hours"],
  [7, "Last 7 days"],
  [30, "Last 30 days"],
  ["dates", "From … to …"]
];
var Filters = class {
  constructor(change) {
    this.change = change;
    for (const each of [this.status, this.days, this.label]) {
      each.onchange = () => this.notify();
    }
    for (const each of [this.search, this.first, this.last]) {
      each.oninput = () => {
        clearTimeout(this.timer);
        this.timer = window.setTimeout(() => this.notify(), WAIT);
      };
    }
    for (const each of [this.first, this.last]) {
      each.setAttribute("aria-describedby", this.problem.id);
    }
    this.pinned.setAttribute("aria-pressed", "false");
    this.showLabels([]);
    this.showDates();
  }
  change;
  search = h("input", {
    type: "search",
    placeholder: "Search",
    "aria-label": "Search inputs, seeds, labels, errors and file names"
  });
  status = select("Status", STATUSES);
  days = select("Time", DAYS);
  first = dateInput();
  last = dateInput();
  problem = h("span", { id: newId(), className: "cd-failed", role: "alert" });
  dates = h(
    "span",
    { className: "cd-line cd-dates", role: "group", "aria-label": "Dates", hidden: true },
    h("label", {}, h("span", {}, "From"), this.first),
    h("label", {}, h("span", {}, "to"), this.last),
    this.problem
  );
  label = h("select", { "aria-label": "Label" });
  pinned = iconButton("thumb-tack", "Only pinned runs", () => this.togglePinned());
  reset = iconButton("times", "Show all runs again", () => this.clear());
  labelOf = /* @__PURE__ */ new Map();
  timer = 0;
  filter = {};
  root = h(
    "div",
    { className: "cd-line cd-filters", role: "search" },
    h("span", { className: "cd-grow" }, this.search),
    this.status,
    this.days,
    this.dates,
    this.label,
    this.pinned,
    this.reset
  );
  /** Whether the user is choosing conditions. */
  get isInUse() {
    return !this.dates.hidden || this.root.contains(document.activeElement);
  }
  /** Show a filter, unless it is the one that was chosen here. */
  show(filter) {
    if (conditionsOf(filter) === conditionsOf(this.filter)) return;
    this.filter = filter;
    setValue(this.search, filter.search ?? "");
    this.status.value = filter.status ?? "";
    const { after, before, days = 0 } = filter;
    this.days.value = after || before ? "dates" : String(days);
    setValue(this.first, after ? localDate(new Date(after)) : "");
    setValue(this.last, before ? localDate(new Date(Date.parse(before) - 1)) : "");
    this.label.value = filter.label?.join(": ") ?? "";
    this.pinned.setAttribute("aria-pressed", String(filter.pinned ?? false));
    this.showDates();
  }
  /** Set the list of labels, each with its name and value. */
  showLabels(labels) {
    const { value } = this.label;
    this.labelOf.clear();
    for (const label of labels) this.labelOf.set(label.join(": "), label);
    this.label.replaceChildren(
      h("option", { value: "" }, "Any label"),
      ...[...this.labelOf.keys()].map((text) => h("option", { value: text }, text))
    );
    this.label.value = this.labelOf.has(value) ? value : "";
    setAttribute(this.label, "hidden", labels.length ? null : "");
  }
  /** Remove all conditions. */
  clear() {
    for (const each of [this.search, this.status, this.first, this.last, this.label]) {
      each.value = "";
    }
    this.days.value = "0";
    this.pinned.setAttribute("aria-pressed", "false");
    this.notify();
  }
  end() {
    clearTimeout(this.timer);
  }
  togglePinned() {
    const isOn = this.pinned.getAttribute("aria-pressed") === "true";
    this.pinned.setAttribute("aria-pressed", String(!isOn));
    this.notify();
  }
  /** Show the fields of the dates if they are used, what is wrong with them, and the reset. */
  showDates() {
    this.dates.hidden = this.days.value !== "dates";
    const problem = problemOf(this.first.value, this.last.value);
    setText(this.problem, problem);
    this.problem.hidden = !problem;
    for (const each of [this.first, this.last]) {
      setAttribute(each, "aria-invalid", problem ? "true" : null);
    }
    this.reset.hidden = this.dates.hidden && !isFiltered(this.filter);
  }
  /** Return the times of the dates; those before if the dates cannot be used yet. */
  times() {
    const { first, last, filter } = this;
    const isUnfinished = first.validity.badInput || last.validity.badInput;
    if (isUnfinished || problemOf(first.value, last.value)) {
      return { after: filter.after ?? "", before: filter.before ?? "" };
    }
    return { after: startOfDay(first.value), before: startOfDay(last.value, 1) };
  }
  notify() {
    clearTimeout(this.timer);
    const isDated = this.days.value === "dates";
    const filter = {
      search: this.search.value.trim(),
      status: this.status.value,
      days: isDated ? 0 : Number(this.days.value),
      ...isDated && this.times(),
      label: this.labelOf.get(this.label.value) ?? [],
      pinned: this.pinned.getAttribute("aria-pressed") === "true"
    };
    const isSame = conditionsOf(filter) === conditionsOf(this.filter);
    this.filter = filter;
    this.showDates();
    if (!isSame) this.change(filter);
  }
};
function conditionsOf({ search, status, days, after, before, label, pinned }) {
  const texts = [search, status, after, before].map((text) => text ?? "");
  return JSON.stringify([texts, days ?? 0, label ?? [], pinned ?? false]);
}
function isFiltered(filter) {
  const { search, status, days, after, before, label, pinned } = filter;
  return Boolean(search || status || days || after || before || label?.length || pinned);
}
function dateInput() {
  return h("input", { type: "date" });
}
function setValue(input, value) {
  if (document.activeElement !== input) input.value = value;
}
function problemOf(first, last) {
  if ([first, last].some((date) => date && !/^[1-9]\d{3}-/.test(date))) {
    return "A year has four digits";
  }
  return first && last && first > last ? "The first date is after the second" : "";
}
function localDate(time) {
  const parts = [time.getFullYear(), time.getMonth() + 1, time.getDate()];
  return parts.map((part, place) => String(part).padStart(place ? 2 : 4, "0")).join("-");
}
function startOfDay(date, later = 0) {
  if (!date) return "";
  const time = /* @__PURE__ */ new Date(`${date}T00:00`);
  time.setDate(time.getDate() + later);
  return time.toISOString();
}
function select(name, options) {
  return h(
    "select",
    { "aria-label": name },
    options.map(([value, text]) => h("option", { value: String(value) }, text))
  );
}

// src/history/wall.ts
var HEIGHT = 148;
var LEAST_WIDTH = 128;
var GAP = 8;
var MOST_HEIGHT = 3 * (HEIGHT + GAP) + HEIGHT / 2;
var SPARE = 2;
var Wall = class {
  constructor(card) {
    this.card = card;
    this.root.addEventListener("scroll", () => this.soon());
    this.root.addEventListener("keydown", (event) => this.moveFocus(event));
    this.root.addEventListener("focusin", (event) => this.note(event.target));
    this.observer = new ResizeObserver(() => this.soon());
    this.observer.observe(this.root);
  }
  card;
  list = h("ul", { className: "cd-runs" });
  root = h("div", { className: "cd-wall" }, this.list);
  entries = [];
  places = /* @__PURE__ */ new Map();
  // by the id of the entry
  cards = /* @__PURE__ */ new Map();
  columns = 1;
  active = 0;
  // the place of the card that the Tab key reaches
  chosen = "";
  // the id of its entry, once the user has been there
  frame = 0;
  observer;
  /** Show other entries. The focus stays with its entry; if that is gone, the next one gets it. */
  show(entries) {
    const hadFocus = this.focused() !== null;
    this.entries = entries;
    this.places = new Map(entries.map((entry, place) => [this.card.id(entry), place]));
    const last = Math.max(0, entries.length - 1);
    this.active = this.places.get(this.chosen) ?? Math.min(this.active, last);
    this.draw();
    if (hadFocus && this.focused() === null) this.focus(this.active);
  }
  end() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    this.remove(() => true);
  }
  soon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }
  draw() {
    const { root, list, entries } = this;
    const width = root.clientWidth;
    this.columns = Math.max(1, Math.floor((width + GAP) / (LEAST_WIDTH + GAP)));
    const rows = Math.ceil(entries.length / this.columns);
    const total = Math.max(0, rows * (HEIGHT + GAP) - GAP);
    root.style.height = `${Math.min(total + 4, MOST_HEIGHT)}px`;
    list.style.height = `${total}px`;
    const shown = Math.ceil(MOST_HEIGHT / (HEIGHT + GAP));
    const top = Math.floor(root.scrollTop / (HEIGHT + GAP));
    const first = Math.max(0, top - SPARE) * this.columns;
    const last = Math.min(entries.length, (top + shown + SPARE) * this.columns);
    const isNear = (place) => place >= first && place < last;
    const focused = this.places.get(this.focused() ?? "") ?? first;
    this.remove((place) => !isNear(place) && place !== focused);
    let before = null;
    if (focused < first) before = this.put(focused, before);
    for (let place = first; place < last; place += 1) before = this.put(place, before);
    if (focused >= last) this.put(focused, before);
    if (last === entries.length) this.card.near_end();
  }
  /** Put a card at its place, after the one before; create it if it is missing or has another content. */
  put(place, before) {
    const entry = this.entries[place];
    if (entry === void 0) return before;
    const id = this.card.id(entry);
    const key = this.card.key(entry);
    const layout = `${place} ${this.columns} ${this.entries.length} ${place === this.active}`;
    const present = this.cards.get(id);
    const item = present?.item ?? h("li");
    if (!present || item.previousElementSibling !== before) {
      this.list.insertBefore(item, before ? before.nextSibling : this.list.firstChild);
    }
    if (present?.key === key && present.layout === layout) return item;
    this.cards.set(id, { key, layout, item });
    if (present?.key !== key) {
      const hadFocus = item.contains(document.activeElement);
      if (present) this.card.free(item);
      item.replaceChildren(...this.card.make(entry));
      if (hadFocus) this.main(item)?.focus({ preventScroll: true });
    }
    item.setAttribute("aria-posinset", String(place + 1));
    item.setAttribute("aria-setsize", String(this.entries.length));
    const column = place % this.columns;
    const row = Math.floor(place / this.columns);
    const part = 100 / this.columns;
    item.style.width = `calc(${part}% - ${GAP - GAP / this.columns}px)`;
    item.style.insetInlineStart = `calc(${column * part}% + ${column * GAP / this.columns}px)`;
    item.style.top = `${row * (HEIGHT + GAP)}px`;
    this.setTabs(item, place === this.active);
    return item;
  }
  remove(when) {
    for (const [id, { item }] of this.cards) {
      const place = this.places.get(id);
      if (place !== void 0 && !when(place)) continue;
      this.card.free(item);
      item.remove();
      this.cards.delete(id);
    }
  }
  main(item) {
    return item.querySelector(this.card.main);
  }
  /** Return the id of the entry whose card contains the focus, or null. */
  focused(element = document.activeElement) {
    for (const [id, { item }] of this.cards) if (item.contains(element)) return id;
    return null;
  }
  setTabs(item, isActive) {
    for (const each of item.querySelectorAll("button, input")) {
      each.tabIndex = isActive ? 0 : -1;
    }
  }
  /** Make the card that has the focus the one that the Tab key reaches. */
  note(target) {
    const found = this.focused(target);
    if (found === null) return;
    this.chosen = found;
    this.active = this.places.get(found) ?? this.active;
    for (const [id, { item }] of this.cards) this.setTabs(item, id === found);
  }
  /** Move the focus with the arrow keys, Home, End, Page Up and Page Down. */
  moveFocus(event) {
    const page = 3 * this.columns;
    const start = this.entries.length;
    const isRightToLeft = getComputedStyle(this.root).direction === "rtl";
    const forward = isRightToLeft ? -1 : 1;
    const steps = {
      ArrowLeft: -forward,
      ArrowRight: forward,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -page,
      PageDown: page,
      Home: -start,
      End: start
    };
    const step = steps[event.key];
    if (step === void 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const inRange = Math.max(0, Math.min(start - 1, this.active + step));
    const leaves = Math.abs(step) === this.columns && this.active + step !== inRange;
    this.focus(leaves ? this.active : inRange);
  }
  /** Give the focus to a card, after scrolling to it. */
  focus(place) {
    this.active = Math.max(0, Math.min(place, this.entries.length - 1));
    const entry = this.entries[this.active];
    if (entry === void 0) return;
    this.chosen = this.card.id(entry);
    const top = Math.floor(this.active / this.columns) * (HEIGHT + GAP);
    const { scrollTop, clientHeight } = this.root;
    if (top < scrollTop) this.root.scrollTop = top;
    else if (top + HEIGHT > scrollTop + clientHeight) {
      this.root.scrollTop = top + HEIGHT - clientHeight + 4;
    }
    this.draw();
    const card = this.cards.get(this.chosen);
    if (card) this.main(card.item)?.focus({ preventScroll: true });
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
  on(events, action2) {
    this.model.on(events, action2);
    this.added.push([events, action2]);
  }
  end() {
    for (const [events, action2] of this.added) this.model.off(events, action2);
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
  watch(element, action2) {
    this.actions.set(element, action2);
    this.observer.observe(element);
  }
  end() {
    this.observer.disconnect();
  }
};

// src/views/history.ts
var SIDE = 192;
function render({ model, el }) {
  setUpRoot(el, "history");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  const seen = new WhenSeen();
  const selected = /* @__PURE__ */ new Set();
  const lightbox = new Lightbox();
  const deleting = new DeleteDialog();
  const comparing = new CompareDialog();
  const notice = h("div", { className: "cd-message", role: "status" });
  const selection = h("div", { className: "cd-line cd-selection" });
  const nothing = h("div", { className: "cd-faint", hidden: true }, "No runs match.");
  let about = null;
  let askedAt = -1;
  const filters = new Filters((filter) => {
    model.set("filter", filter);
    model.save_changes();
  });
  const runOf = (promptId) => model.get("runs").find((run) => run.prompt_id === promptId);
  const nameOf2 = (run) => `run of ${new Date(run.created_at).toLocaleString()}`;
  const pin = (runs, pinned) => {
    model.send({ kind: "pin", prompt_ids: runs.map((run) => run.prompt_id), pinned });
  };
  const ask = (question, promptIds) => {
    deleting.ask(question, document.activeElement, (withFiles) => {
      setText(notice, "Deleting …");
      notice.classList.remove("cd-problem-text");
      model.send({ kind: "delete", prompt_ids: promptIds, files: withFiles });
    });
  };
  const askAboutOne = (run) => ask(`Delete the ${nameOf2(run)}?`, [run.prompt_id]);
  const actions = {
    reuse: (run) => model.send({ kind: "reuse", prompt_id: run.prompt_id }),
    use: ({ prompt_id }, { query }, key) => model.send({ kind: "use", prompt_id, query, key }),
    pin: (run) => pin([run], !run.pinned),
    remove: askAboutOne
  };
  const enlarge = (run, opener) => {
    const owners = [];
    const items = [];
    for (const each of model.get("runs")) {
      for (const picture of each.pictures) {
        owners.push(each);
        items.push(asItem(picture));
      }
    }
    const start = owners.findIndex(({ prompt_id }) => prompt_id === run.prompt_id);
    lightbox.open(files, items, start, opener, (item, index, image) => {
      const shown = owners[index] ?? run;
      const present = runOf(shown.prompt_id) ?? shown;
      const view = new About(present, item, image, files, model.get("inputs"), closing);
      about = { query: item.query, view };
      model.send({ kind: "facts", prompt_id: shown.prompt_id, query: item.query });
      return view.root;
    });
  };
  const closing = {
    reuse: (run) => after(() => actions.reuse(run)),
    use: (run, item, key) => after(() => actions.use(run, item, key)),
    pin: (run) => after(() => actions.pin(run)),
    remove: (run) => after(() => actions.remove(run))
  };
  const after = (act) => {
    lightbox.close();
    act();
  };
  const instead = ({ status, problem, kind }) => {
    if ((status === "failed" || status === "queued") && problem)
      return h("span", { className: "cd-why" }, problem);
    if (status === "success") return h("span", {}, kind);
    return icon(status === "cancelled" ? "ban" : "exclamation-triangle");
  };
  const card = (run) => {
    const [picture] = run.pictures;
    const image = h("img", { alt: "" });
    const frame = h("span", { className: "cd-frame" }, picture ? image : instead(run));
    const failed = () => frame.replaceChildren(h("span", {}, "gone"));
    if (picture) seen.watch(frame, () => files.show(image, picture.query, SIDE, failed));
    const time = run.seconds === null ? "" : formatDuration(run.seconds);
    const facts = [run.title, run.from_editor ? "Editor" : "", time].filter(Boolean);
    const name = nameOf2(run);
    const hint = [run.problem, run.summary].filter(Boolean).join("\n\n");
    const main = h(
      "button",
      {
        type: "button",
        className: "cd-run",
        title: hint.slice(0, 2e3),
        "aria-pressed": String(run.prompt_id === model.get("chosen")),
        "aria-label": `${name}: ${facts.join(", ")}${run.pinned ? ", pinned" : ""}`,
        onclick: () => model.send({ kind: "show", prompt_id: run.prompt_id })
      },
      frame,
      h("span", { className: "cd-when" }, formatTime(run.created_at)),
      h("span", { className: `cd-status cd-${run.status}` }, facts.join(" · "))
    );
    const check = h("input", {
      type: "checkbox",
      className: "cd-select",
      checked: selected.has(run.prompt_id),
      title: "Select",
      "aria-label": `Select ${name}`,
      onchange: () => select2(run, check.checked)
    });
    main.addEventListener("keydown", (event) => {
      if (event.key === "Delete") askAboutOne(run);
      else if (event.key === " ") select2(run, !selected.has(run.prompt_id));
      else return;
      event.preventDefault();
      event.stopPropagation();
      check.checked = selected.has(run.prompt_id);
    });
    const pinning = iconButton(
      "thumb-tack",
      run.pinned ? `Unpin ${name}` : `Pin ${name}`,
      () => pin([run], !run.pinned),
      { className: "cd-icon cd-pin", "aria-pressed": String(run.pinned) }
    );
    const parts = [main, check, pinning];
    if (picture) {
      const larger = iconButton(
        "expand",
        `Show the picture of the ${name} in full size`,
        () => enlarge(run, larger),
        { className: "cd-icon cd-larger" }
      );
      parts.push(larger);
    }
    return parts;
  };
  const wall = new Wall({
    make: card,
    free: (item) => files.free(item),
    id: (run) => run.prompt_id,
    key: (run) => [run.pinned, run.prompt_id === model.get("chosen"), selected.has(run.prompt_id)].join(),
    near_end: () => {
      const { length } = model.get("runs");
      if (!model.get("more") || askedAt === length) return;
      askedAt = length;
      model.send({ kind: "more" });
    },
    main: ".cd-run"
  });
  const select2 = (run, isSelected) => {
    if (isSelected) selected.add(run.prompt_id);
    else selected.delete(run.prompt_id);
    showSelection();
  };
  const button = (iconName, text, onclick) => h("button", { type: "button", className: "cd-button", onclick }, icon(iconName), ` ${text}`);
  const showSelection = () => {
    const runs = model.get("runs").filter(({ prompt_id }) => selected.has(prompt_id));
    const [first, second] = runs;
    const ids = runs.map(({ prompt_id }) => prompt_id);
    const focus = selection.contains(document.activeElement);
    const parts = [];
    if (first) {
      parts.push(h("b", {}, counted(runs.length, "run"), " selected"));
      if (second && runs.length === 2) {
        parts.push(
          button("columns", "Compare", () => {
            comparing.show({ files, seen }, second, first, document.activeElement);
            model.send({ kind: "compare", prompt_ids: [second.prompt_id, first.prompt_id] });
          })
        );
      }
      if (!second) parts.push(button("reply", "Use these values", () => actions.reuse(first)));
      const all = runs.every(({ pinned }) => pinned);
      parts.push(
        button("thumb-tack", all ? "Unpin" : "Pin", () => pin(runs, !all)),
        button("trash-o", "Delete …", () => ask(`Delete ${counted(ids.length, "run")}?`, ids)),
        button("times", "Select none", () => {
          selected.clear();
          for (const box of wall.root.querySelectorAll(".cd-select")) {
            box.checked = false;
          }
          show();
        })
      );
    } else if (model.get("runs").some(({ status }) => status === "failed")) {
      const question = "Delete all failed runs of this workflow?";
      parts.push(button("trash-o", "Delete all failed …", () => ask(question, null)));
    }
    selection.replaceChildren(...parts);
    if (focus) selection.querySelector("button")?.focus();
  };
  const summary = h("summary", {}, "History");
  const refresh = iconButton(
    "refresh",
    "Refresh the list of runs",
    () => model.send({ kind: "refresh" })
  );
  const details = h(
    "details",
    { open: model.get("opened") },
    summary,
    h("div", { className: "cd-line cd-top" }, filters.root, refresh),
    selection,
    notice,
    nothing,
    wall.root
  );
  details.addEventListener("toggle", () => {
    model.set("opened", details.open);
    model.save_changes();
  });
  el.append(details, lightbox.root, comparing.root, deleting.root);
  const show = () => {
    const runs = model.get("runs");
    const ids = new Set(runs.map(({ prompt_id }) => prompt_id));
    for (const id of selected) if (!ids.has(id)) selected.delete(id);
    const filtered = isFiltered(model.get("filter"));
    el.hidden = !runs.length && !filtered && !filters.isInUse;
    nothing.hidden = runs.length > 0 || !filtered;
    wall.root.hidden = !runs.length;
    setText(summary, `History (${runs.length}${model.get("more") ? "+" : ""})`);
    if (runs.length < askedAt) askedAt = -1;
    wall.show(runs);
    showSelection();
  };
  events.on("msg:custom", (message) => {
    if (message.kind === "notice") {
      setText(notice, message.text);
      notice.classList.toggle("cd-problem-text", Boolean(message.problem));
    } else if (message.kind === "facts" && about?.query === message.query) {
      about.view.show(message);
    } else if (message.kind === "differences") {
      comparing.showDifferences(message.prompt_ids, message.lines, message.problem);
    }
  });
  events.on("change:runs change:more change:chosen", show);
  events.on("change:filter", () => {
    filters.show(model.get("filter"));
    show();
  });
  events.on("change:labels", () => filters.showLabels(model.get("labels")));
  filters.showLabels(model.get("labels"));
  filters.show(model.get("filter"));
  show();
  return () => {
    wall.end();
    filters.end();
    deleting.end();
    comparing.end();
    seen.end();
    events.end();
    files.end();
  };
}
var history_default = { render };
export {
  history_default as default
};
