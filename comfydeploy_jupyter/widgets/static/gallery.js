// Made from js/src/views/gallery.ts by `make js-build`; do not edit it here.

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
function unbroken(text) {
  const parts = text.split(/(--\w[\w-]*)/);
  return parts.map(
    (part, place) => place % 2 ? h("span", { className: "cd-unbroken" }, part) : part
  );
}
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// src/format.ts
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
  const above2 = h("img", { alt: nameOf(before) });
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
      above2,
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
    files.show(above2, before.query, LARGEST_COPY, failed);
  });
  return root;
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

// src/gallery/model_view.ts
var LARGEST = 64 << 20;
var READABLE = /\.(glb|gltf|ply)$/i;
var VIEWER = "model_viewer";
function canBeTurned(item) {
  return item.kind === "3d" && READABLE.test(item.name);
}
function turnButton(page, item, tile2) {
  const problem = h("div", { className: "cd-faint cd-error-text", role: "status" });
  const button = h(
    "button",
    {
      type: "button",
      className: "cd-button",
      title: `Show ${nameOf(item)} in 3D`,
      onclick: () => open()
    },
    icon("arrows"),
    " View in 3D"
  );
  const open = async () => {
    button.disabled = true;
    problem.textContent = "Loading …";
    tile2.append(problem);
    try {
      const view = await modelView(page, item, () => {
        view.replaceWith(tile2);
        button.focus();
      });
      tile2.replaceWith(view);
      problem.remove();
    } catch (error) {
      problem.textContent = `It cannot be shown in 3D. ${error.message}.`;
    } finally {
      button.disabled = false;
    }
  };
  return button;
}
async function modelView(page, item, closed) {
  const { files } = page;
  const size = await files.size(item.query);
  if (size > LARGEST) throw tooLarge(size);
  const reply = await files.read(item.query);
  if (!reply.ok) throw new Error("It is not available any more");
  const content = await reply.arrayBuffer();
  if (content.byteLength > LARGEST) throw tooLarge(content.byteLength);
  const script = String(await files.ask({ kind: "script", name: VIEWER }));
  const viewer = await import(script);
  files.revoke(script);
  const stage = h("div", { className: "cd-stage" });
  page.models.close();
  const shown = await viewer.show(stage, content);
  shown.canvas.tabIndex = 0;
  shown.canvas.setAttribute("role", "img");
  shown.canvas.setAttribute("aria-label", `${nameOf(item)}; arrow keys turn it, + and - zoom`);
  page.models.opened(() => {
    shown.close();
    closed();
  });
  return h(
    "figure",
    { className: "cd-model" },
    stage,
    h(
      "figcaption",
      { className: "cd-line" },
      h("span", { className: "cd-grow" }, downloadLink(files, item)),
      iconButton("times", "Close the 3D view", () => page.models.close())
    )
  );
}
function tooLarge(size) {
  return new Error(`It has ${formatBytes(size)}, but at most ${formatBytes(LARGEST)} are allowed`);
}
var OpenModel = class {
  end = null;
  /** Store the function that closes the model that is shown now. */
  opened(end) {
    this.end = end;
  }
  close() {
    const { end } = this;
    this.end = null;
    end?.();
  }
};

// src/gallery/outputs.ts
var SIDE = 384;
var FEW = 4;
var MANY = 48;
var SIDE_OF_MANY = 224;
var ICONS = {
  image: "picture-o",
  hdr: "picture-o",
  video: "film",
  audio: "music",
  "3d": "cube",
  file: "file-o"
};
function pictures(page, items, players, enlarge) {
  const together = items.length + players.length <= FEW;
  const count = items.length + (together ? players.length : 0);
  const isFew = count <= FEW;
  const side = sideOf(count);
  const picture = (item, index) => {
    const image = h("img", { alt: nameOf(item) });
    const button = h(
      "button",
      {
        type: "button",
        className: "cd-picture-button",
        title: describe(item),
        "aria-label": `${describe(item)}: show in full size`,
        onclick: () => enlarge(index, button)
      },
      image,
      item.size ? h("span", { className: "cd-tag", "aria-hidden": "true" }, sizeText(item)) : null
    );
    const copySide = item.small === false ? 0 : side;
    if (item.size) {
      const [width, height] = item.size;
      const scale = copySide ? Math.min(1, copySide / Math.max(width, height)) : 1;
      button.classList.add("cd-sized");
      button.style.setProperty("--cd-width", `${Math.round(width * scale)}px`);
      button.style.setProperty("--cd-ratio", String(width / height));
    }
    const failed = async () => {
      const replacement = tile(page, item);
      button.replaceWith(replacement);
      const { reason } = await page.files.whyNoCopy(item.query, copySide);
      if (reason) replacement.append(h("span", { className: "cd-faint cd-error-text" }, reason));
    };
    page.seen.watch(button, () => page.files.show(image, item.query, copySide, failed));
    return button;
  };
  const size = count === 1 ? " cd-single" : isFew ? " cd-few" : "";
  const className = `cd-pictures${size}`;
  const root = h(
    "div",
    { className, onkeydown: (event) => moveFocus(root, event) },
    items.map(picture)
  );
  const below = h("div", { className: "cd-players" });
  (together && count > 1 ? root : below).append(...players);
  return [root, below].filter((part) => part.firstChild);
}
function sideOf(count) {
  if (count <= FEW) return 2 * SIDE;
  if (count <= MANY) return SIDE;
  return Math.min(SIDE, Math.ceil(SIDE_OF_MANY * window.devicePixelRatio));
}
function moveFocus(root, event) {
  const all = [...root.querySelectorAll(".cd-picture-button")];
  const place = all.indexOf(event.target);
  const targets = {
    ArrowLeft: place - 1,
    ArrowRight: place + 1,
    ArrowUp: above(all, place, -1),
    ArrowDown: above(all, place, 1),
    Home: 0,
    End: all.length - 1
  };
  const target = targets[event.key];
  if (place < 0 || target === void 0) return;
  event.preventDefault();
  event.stopPropagation();
  all[Math.max(0, Math.min(all.length - 1, target))]?.focus();
}
function above(all, place, step) {
  const leftOf = (at) => Math.round(all[at]?.getBoundingClientRect().left ?? 0);
  for (let at = place + step; at >= 0 && at < all.length; at += step) {
    if (leftOf(at) === leftOf(place)) return at;
  }
  return place;
}
function tile(page, item) {
  const size = h("span", { className: "cd-faint" }, sizeText(item));
  const root = h(
    "div",
    { className: "cd-tile", title: describe(item) },
    icon(ICONS[item.kind] ?? ICONS.file),
    h("span", { className: "cd-cut cd-grow" }, nameOf(item)),
    size,
    downloadLink(page.files, item, "")
  );
  if (canBeTurned(item)) root.append(turnButton(page, item, root));
  page.seen.watch(root, async () => {
    try {
      const bytes = await page.files.size(item.query);
      const facts = [sizeText(item), bytes < 0 ? "" : formatBytes(bytes)];
      size.textContent = facts.filter(Boolean).join(" · ");
    } catch {
      size.textContent = "gone";
    }
  });
  return root;
}
function player(page, item) {
  const element = h(item.kind === "video" ? "video" : "audio", {
    controls: true,
    preload: "metadata",
    title: describe(item),
    "aria-label": nameOf(item)
  });
  if (item.size) element.style.aspectRatio = item.size.join(" / ");
  const caption = h("figcaption", {}, downloadLink(page.files, item));
  if (item.size) caption.append(` · ${sizeText(item)}`);
  const figure = h("figure", {}, element, caption);
  const failed = () => figure.replaceChildren(tile(page, item));
  page.seen.watch(element, () => page.files.show(element, item.query, 0, failed));
  return figure;
}
function textFigure({ text, beginning, node }) {
  const whole = h("pre", { tabIndex: 0, dir: "auto" });
  const head = h("figcaption", {}, node);
  if (beginning === text) {
    whole.textContent = text;
    return h("figure", {}, head, whole);
  }
  const start = h("pre", { dir: "auto" }, `${beginning} …`);
  const details = h(
    "details",
    {},
    h("summary", {}, `All ${text.length.toLocaleString()} characters`),
    whole
  );
  details.addEventListener("toggle", () => {
    whole.textContent = details.open ? text : "";
    start.hidden = details.open;
  });
  return h("figure", {}, head, start, details);
}

// src/gallery/timings.ts
function timings(times) {
  const longest = Math.max(...times.map(({ seconds }) => seconds), 1e-9);
  const row = ({ label, title, seconds }) => {
    const bar = h("div", { className: "cd-fill" });
    bar.style.width = `${Math.max(0.5, 100 * seconds / longest)}%`;
    return h(
      "tr",
      {},
      h("th", { scope: "row", title }, label),
      h("td", {}, bar),
      h("td", { className: "cd-number" }, `${seconds.toFixed(2)} s`)
    );
  };
  return h(
    "details",
    { className: "cd-timings" },
    h("summary", {}, "Node timings"),
    h(
      "table",
      { className: "cd-chart" },
      h("caption", { className: "cd-unseen" }, "How long each node took"),
      h("tbody", {}, times.map(row))
    )
  );
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

// src/views/gallery.ts
function render({ model, el }) {
  setUpRoot(el, "gallery");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  let seen = new WhenSeen();
  const content = h("div");
  const lightbox = new Lightbox();
  const models = new OpenModel();
  const spoken = h("span", { className: "cd-unseen", role: "status" });
  el.append(spoken, content, lightbox.root);
  const outputs = ({ items, pairs, texts }, waits) => {
    const page = { files, seen, models };
    const compared = new Set(pairs.flat());
    const own = items.filter((item, place) => item.waits === waits && !compared.has(place));
    const of = (...kinds) => own.filter(({ kind }) => kinds.includes(kind));
    const parts = [];
    for (const [first, second] of pairs) {
      const [before, after] = [items[first], items[second]];
      if (before && after && before.waits === waits) {
        const otherwise = () => [tile(page, before), tile(page, after)];
        parts.push(comparison(page, before, after, otherwise));
      }
    }
    const images = of("image", "hdr");
    const players = of("video", "audio").map((item) => player(page, item));
    const enlarge = (index, opener) => lightbox.open(files, images, index, opener);
    parts.push(...pictures(page, images, players, enlarge));
    parts.push(...texts.filter((text) => text.waits === waits).map(textFigure));
    const others = of("3d", "file").map((item) => tile(page, item));
    if (others.length) parts.push(h("div", { className: "cd-tiles" }, others));
    return parts;
  };
  const reuseButton = (promptId) => h(
    "button",
    {
      type: "button",
      className: "cd-button",
      title: "Put the values of this run, and its seeds, into the form",
      onclick: () => model.send({ kind: "reuse", prompt_id: promptId })
    },
    icon("reply"),
    " Use these values again"
  );
  const reused = h("span", { className: "cd-reused", role: "status" });
  const head = (result) => {
    reused.textContent = "";
    return h(
      "div",
      { className: "cd-line cd-head" },
      h("b", { className: `cd-status cd-${result.status}` }, result.title),
      result.facts.map((fact) => h("span", {}, fact)),
      result.seeds.length ? h("span", {}, `seed ${result.seeds.join(", ")}`) : null,
      h("span", { className: "cd-grow" }),
      result.reusable ? reuseButton(result.prompt_id) : null,
      reused
    );
  };
  const log = h("pre", { tabIndex: 0, className: "cd-code" });
  const freed = h("span", { className: "cd-faint", role: "status" });
  const causes = ({ failed, traceback, no_memory }) => {
    if (!failed) return [];
    const folded = (title, content2, onopen = () => {
    }) => {
      const details = h("details", {}, h("summary", {}, title), content2);
      details.addEventListener("toggle", () => details.open && onopen());
      return details;
    };
    const parts = [];
    if (no_memory) {
      const free = h(
        "button",
        { type: "button", className: "cd-button", onclick: () => model.send({ kind: "free" }) },
        icon("eraser"),
        " Free ComfyUI's memory"
      );
      freed.textContent = "";
      parts.push(h("div", { className: "cd-line" }, free, freed));
    }
    if (traceback) {
      parts.push(folded("Traceback", h("pre", { tabIndex: 0, className: "cd-code" }, traceback)));
    }
    log.textContent = "…";
    parts.push(folded("The last lines of ComfyUI's log", log, () => model.send({ kind: "log" })));
    return parts;
  };
  const otherOutputs = (result) => {
    const count = [...result.items, ...result.texts].filter(({ waits }) => waits).length;
    if (!count) return null;
    const summary = h("summary", {}, `Other outputs (${count})`);
    const details = h("details", { className: "cd-rest" }, summary);
    details.addEventListener("toggle", () => {
      if (details.children.length === 1) details.append(...outputs(result, true));
    });
    return details;
  };
  const show = () => {
    const result = model.get("result");
    seen.end();
    seen = new WhenSeen();
    lightbox.close();
    models.close();
    el.hidden = !result.prompt_id;
    files.free(content);
    const count = result.prompt_id ? result.items.length : 0;
    setText(spoken, result.status ? `${result.title}: ${counted(count, "file")}` : "");
    if (el.hidden) return content.replaceChildren();
    const problem = (text) => h("div", { className: "comfydeploy-error", role: "alert" }, unbroken(text));
    content.replaceChildren(
      head(result),
      ...result.problems.map(problem),
      ...causes(result),
      ...outputs(result, false)
    );
    const others = otherOutputs(result);
    if (others) content.append(others);
    if (result.times.length) content.append(timings(result.times));
  };
  const showBusy = () => {
    el.classList.toggle("cd-busy", model.get("busy"));
    el.setAttribute("aria-busy", String(model.get("busy")));
  };
  events.on("msg:custom", ({ kind, text }) => {
    if (kind === "log") log.textContent = text;
    if (kind === "freed") freed.textContent = text;
    if (kind === "reused") reused.textContent = text;
  });
  events.on("change:result", show);
  events.on("change:busy", showBusy);
  showBusy();
  show();
  return () => {
    models.close();
    seen.end();
    events.end();
    files.end();
  };
}
var gallery_default = { render };
export {
  gallery_default as default
};
