// Made from js/src/views/sheet.ts by `make js-build`; do not edit it here.

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
var RETRY = 1e3;
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
async function instanceOf(base, isPageOfIt) {
  for (; ; ) {
    try {
      const reply = await fetch(`${base}comfyui-deploy/check-status`, {
        headers: pageHeaders(),
        cache: "no-store",
        signal: AbortSignal.timeout(REACH_TIMEOUT)
      });
      return (await reply.json()).instance ?? null;
    } catch (error) {
      if (!isPageOfIt || error instanceof SyntaxError) return null;
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
}
var reached = /* @__PURE__ */ new Map();
function pageServer({ base: given, instance }) {
  const base = pageConfig().baseUrl || given;
  if (!instance || !base) return Promise.resolve(null);
  const key = `${base} ${instance}`;
  const known = reached.get(key);
  if (known) return known;
  const asked = instanceOf(base, Boolean(pageConfig().baseUrl)).then((found) => {
    if (found === null) reached.delete(key);
    return found === instance ? base : null;
  });
  reached.set(key, asked);
  return asked;
}

// src/files.ts
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
      return isSmall(side) ? this.smallCopy(query, side) : this.askForFile(query, side);
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
    const request = this.requested.get(key) ?? this.askForFile(query, side).then((url) => this.keep(key, url)).finally(() => this.requested.delete(key));
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
  askForFile(query, side) {
    const id = newId();
    const answer = new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, copyOf: side ? query : "" });
    });
    this.model.send({ kind: "file", id, query, side });
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
function saveFile(name, mime, buffers) {
  saveUrl(name, URL.createObjectURL(new Blob(buffers, { type: mime })));
}
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

// src/progress_bar.ts
function progressBar(label) {
  return h("div", { className: "cd-bar", role: "progressbar", "aria-label": label }, h("div"));
}
function setFraction(bar, fraction) {
  bar.querySelector("div")?.style.setProperty("width", `${100 * fraction}%`);
  bar.setAttribute("aria-valuenow", String(Math.round(100 * fraction)));
}

// src/sweep/point.ts
function itemOf(facts, label) {
  const [, , , name = "", query = "", kind = "image"] = facts ?? [];
  return { name: query ? name : label, kind, query, small: true, waits: false };
}
var AboutPoint = class {
  root = h("div", { className: "cd-about" });
  star;
  text = h("span");
  constructor(heads, index, facts, onstar) {
    const [status = "", seconds = null] = facts ?? [];
    const rows = heads.names.map((name, place) => [name, heads.values[index]?.[place] ?? ""]).filter(([, value]) => value);
    rows.push(["Point", String(index)], ["Status", status]);
    if (seconds !== null) rows.push(["Took", formatDuration(seconds)]);
    const list = rows.flatMap(([name, value]) => [
      h("dt", { dir: "auto" }, name),
      h("dd", { dir: "auto" }, value)
    ]);
    this.star = h(
      "button",
      { type: "button", className: "cd-button", title: "Key S", onclick: onstar },
      icon("star"),
      this.text
    );
    this.root.append(h("dl", {}, list), h("div", { className: "cd-line" }, this.star));
  }
  mark(isStarred) {
    this.star.setAttribute("aria-pressed", String(isStarred));
    setText(this.text, isStarred ? " Remove the star" : " Give it a star");
    const picture = this.star.querySelector("i");
    if (picture) picture.className = `fa fa-star${isStarred ? "" : "-o"}`;
  }
};

// src/gallery/move_focus.ts
function moveFocus(root, event) {
  const all = [...root.querySelectorAll(".cd-picture-button")].filter(
    (each) => !each.closest("details:not([open])")
  );
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

// src/sweep/sheet.ts
var SIDE = 192;
var MAIN = ".cd-picture-button";
var [NARROWEST, WIDEST] = [2 / 3, 2];
var Cell = class {
  constructor(index, label, page, actions, measured) {
    this.index = index;
    this.label = label;
    this.page = page;
    this.measured = measured;
    this.main = h("button", {
      type: "button",
      className: "cd-picture-button",
      title: label,
      tabIndex: -1,
      onclick: () => actions.open(index, this.main)
    });
    this.star = iconButton("star-o", "", () => actions.star(index), {
      className: "cd-icon cd-star",
      tabIndex: -1
    });
    this.root = h("div", { className: "cd-point" }, this.main, this.star);
  }
  index;
  label;
  page;
  measured;
  shown = "";
  main;
  star;
  root;
  show(facts, isStarred) {
    this.mark(isStarred);
    const key = JSON.stringify(facts);
    if (key === this.shown) return;
    this.shown = key;
    const [status = "", , text = "", , query = ""] = facts ?? [];
    this.root.className = `cd-point cd-is-${status}`;
    this.main.setAttribute("aria-label", `${this.label}: ${status}`);
    if (!query) {
      this.showText(text || status);
      return;
    }
    const image = h("img", { alt: this.label, onload: () => this.measured(image) });
    this.main.replaceChildren(image);
    const failed = () => this.showText("The picture is not available any more");
    this.page.seen.watch(this.main, () => this.page.files.show(image, query, SIDE, failed));
  }
  setTab(isActive) {
    for (const button of [this.main, this.star]) button.tabIndex = isActive ? 0 : -1;
  }
  showText(text) {
    this.main.replaceChildren(h("span", { className: "cd-says", dir: "auto" }, text));
  }
  mark(isStarred) {
    const name = `${isStarred ? "Remove the star of" : "Give a star to"} ${this.label}`;
    if (this.star.title === name) return;
    this.star.title = name;
    this.star.setAttribute("aria-label", name);
    this.star.setAttribute("aria-pressed", String(isStarred));
    const picture = this.star.querySelector("i");
    if (picture) picture.className = `fa fa-star${isStarred ? "" : "-o"}`;
  }
};
var Sheet = class {
  constructor(heads, page, actions) {
    this.heads = heads;
    this.page = page;
    this.actions = actions;
    this.root.addEventListener("keydown", (event) => this.react(event));
    this.root.addEventListener("focusin", (event) => {
      const index = this.indexOf(event.target);
      if (index !== null) this.activate(index);
    });
  }
  heads;
  page;
  actions;
  root = h("div", { className: "cd-sheet" });
  cells = /* @__PURE__ */ new Map();
  active = 0;
  /** Put these points into the page: all of them as a table, if they have headings. */
  build(indexes, isWhole) {
    const cell = (index) => {
      const made = new Cell(
        index,
        this.heads.labels[index] ?? "",
        this.page,
        this.actions,
        (image) => this.measure(image)
      );
      made.root.dataset.index = String(index);
      this.cells.set(index, made);
      return made.root;
    };
    this.cells = /* @__PURE__ */ new Map();
    const { columns } = this.heads;
    this.root.replaceChildren(
      isWhole && columns.length ? this.table(indexes.map(cell)) : this.list(indexes, cell)
    );
    this.active = this.cells.has(this.active) ? this.active : indexes[0] ?? 0;
    this.cells.get(this.active)?.setTab(true);
  }
  /** Show the present state of the points. */
  show(points, isStarred) {
    for (const [index, cell] of this.cells) cell.show(points[index], isStarred(index));
  }
  /** Give the focus to the point that the Tab key reaches. */
  focus() {
    this.cells.get(this.active)?.root.querySelector(MAIN)?.focus();
  }
  table(cells) {
    const { columns, column_title, rows, row_title } = this.heads;
    const head = (text, scope, colSpan = 1) => h("th", { scope, colSpan, dir: "auto", title: text }, h("span", {}, text));
    const starts = rows.length ? rows.map((_, row) => row * columns.length) : [0];
    return h(
      "table",
      {},
      h(
        "thead",
        {},
        h("tr", {}, rows.length ? h("td") : null, head(column_title, "colgroup", columns.length)),
        h(
          "tr",
          {},
          rows.length ? head(row_title, "col") : null,
          columns.map((text) => head(text, "col"))
        )
      ),
      h(
        "tbody",
        {},
        starts.map(
          (start, row) => h(
            "tr",
            {},
            rows.length ? head(rows[row] ?? "", "row") : null,
            cells.slice(start, start + columns.length).map((cell) => h("td", {}, cell))
          )
        )
      )
    );
  }
  list(indexes, cell) {
    const items = indexes.map((index) => {
      const label = this.heads.labels[index] ?? "";
      const caption = h("div", { className: "cd-caption", dir: "auto", title: label }, label);
      return h("li", {}, cell(index), caption);
    });
    return h("ul", { className: "cd-points" }, items);
  }
  /** Give all cells the shape of the first picture. */
  measure({ naturalWidth, naturalHeight }) {
    const { style } = this.root;
    if (style.getPropertyValue("--cd-ratio") || !naturalHeight) return;
    const ratio = Math.max(NARROWEST, Math.min(WIDEST, naturalWidth / naturalHeight));
    style.setProperty("--cd-ratio", String(ratio));
  }
  indexOf(target) {
    const point = target?.closest(".cd-point");
    return point?.dataset.index === void 0 ? null : Number(point.dataset.index);
  }
  activate(index) {
    if (index === this.active) return;
    this.cells.get(this.active)?.setTab(false);
    this.cells.get(index)?.setTab(true);
    this.active = index;
  }
  react(event) {
    const index = this.indexOf(event.target);
    if (index === null || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "s" || event.key === "S") {
      event.preventDefault();
      event.stopPropagation();
      this.actions.star(index);
      return;
    }
    moveFocus(this.root, event);
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

// src/views/sheet.ts
var EXPORTS = { png: "the sheet as a picture", csv: "the table for spreadsheets" };
function render({ model, el }) {
  setUpRoot(el, "sheet");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  const heads = model.get("heads");
  const all = heads.labels.map((_, index) => index);
  const labelOf = (index) => heads.labels[index] ?? "";
  const lightbox = new Lightbox();
  const wanted = /* @__PURE__ */ new Map();
  let seen = new WhenSeen();
  let onlyStarred = false;
  let inPage = all;
  let about = null;
  const isStarred = (index) => wanted.get(index) ?? model.get("stars").includes(index);
  const star = (index) => {
    const starred = !isStarred(index);
    wanted.set(index, starred);
    model.send({ kind: "star", index, starred });
    setText(announcement, `${labelOf(index)}: ${starred ? "star" : "no star"}`);
    showStars();
  };
  const open = (index, opener) => {
    const points = model.get("points");
    const indexes = inPage;
    const items = indexes.map((place) => itemOf(points[place], labelOf(place)));
    lightbox.open(
      files,
      items,
      Math.max(0, indexes.indexOf(index)),
      opener,
      (_, place) => {
        const shown = indexes[place] ?? index;
        const view = new AboutPoint(heads, shown, points[shown], () => star(shown));
        about = { index: shown, view };
        view.mark(isStarred(shown));
        return view.root;
      },
      (item, place) => {
        if (item.query) return null;
        const [status = "", , text2 = ""] = points[indexes[place] ?? index] ?? [];
        return h("pre", { className: "cd-said", tabIndex: 0, dir: "auto" }, text2 || status);
      }
    );
  };
  lightbox.root.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey }) => {
    const isPlain = !ctrlKey && !metaKey && !altKey;
    if (about && isPlain && key.toLowerCase() === "s") star(about.index);
  });
  const button = (iconName, title, onclick) => {
    const words = h("span");
    const className = "cd-button";
    const root = h("button", { type: "button", className, title, onclick }, icon(iconName), words);
    return { root, setLabel: (text2) => setText(words, ` ${text2}`) };
  };
  const stop = button("stop", "Cancel the queued runs; resume() continues", () => {
    stop.root.disabled = true;
    stop.setLabel("Stopping");
    model.send({ kind: "stop" });
  });
  stop.setLabel("Stop");
  const filter = button("star", "Show only the points with a star", () => {
    onlyStarred = !onlyStarred;
    build();
  });
  const busy = /* @__PURE__ */ new Set();
  const downloads = Object.entries(EXPORTS).map(([format, what]) => {
    const { root, setLabel } = button("download", `Download ${what}`, () => {
      busy.add(format);
      showProblem("");
      showDownloads();
      model.send({ kind: "export", format, starred: onlyStarred });
    });
    setLabel(format.toUpperCase());
    return [format, root];
  });
  const text = h("span", { className: "cd-grow" });
  const spoken = h("span", { className: "cd-unseen", role: "status" });
  const announcement = h("span", { className: "cd-unseen", role: "status" });
  const activity = h("div", { className: "cd-faint cd-cut" });
  const bar = progressBar("The sweep");
  const problem = h("div", { className: "comfydeploy-error", role: "alert", hidden: true });
  const unsaved = h("div", { className: "cd-faint" }, "Stars are saved when the sweep has ended.");
  const nothing = h("div", { className: "cd-faint" }, "No point has a star.");
  const watch = (element, action) => seen.watch(element, action);
  const sheet = new Sheet(heads, { files, seen: { watch } }, { open, star });
  el.append(
    spoken,
    announcement,
    h("div", { className: "cd-line" }, text, stop.root),
    activity,
    bar,
    h("div", { className: "cd-line" }, filter.root, ...downloads.map(([, root]) => root)),
    unsaved,
    problem,
    nothing,
    sheet.root,
    lightbox.root
  );
  const showProblem = (words) => {
    setText(problem, words);
    problem.hidden = !words;
  };
  const showProgress = () => {
    const progress = model.get("progress");
    const isRunning = progress.phase === "running";
    const parts = [progress.text];
    if (isRunning && progress.blocking) parts.push("interrupt the kernel to stop it");
    if (!isRunning && progress.saved) parts.push(`saved in ${progress.saved}`);
    setText(text, parts.join(" · "));
    setText(spoken, progress.spoken);
    setText(activity, progress.activity || " ");
    activity.hidden = bar.hidden = !isRunning;
    stop.root.hidden = !isRunning || progress.blocking;
    setFraction(bar, progress.fraction);
    showStars();
  };
  const showDownloads = () => {
    const { phase, blocking } = model.get("progress");
    const isKernelBlocked = phase === "running" && blocking;
    const isEmpty = onlyStarred && !all.some(isStarred);
    for (const [format, root] of downloads) {
      root.disabled = busy.has(format) || isEmpty || isKernelBlocked;
    }
  };
  const showStars = () => {
    const { phase, blocking } = model.get("progress");
    const count = all.filter(isStarred).length;
    filter.setLabel(`Starred only (${count})`);
    filter.root.setAttribute("aria-pressed", String(onlyStarred));
    filter.root.disabled = !count && !onlyStarred;
    unsaved.hidden = !wanted.size || !blocking || phase !== "running";
    about?.view.mark(isStarred(about.index));
    sheet.show(model.get("points"), isStarred);
    showDownloads();
  };
  const build = () => {
    seen.end();
    seen = new WhenSeen();
    inPage = onlyStarred ? all.filter(isStarred) : all;
    nothing.hidden = inPage.length > 0;
    sheet.build(inPage, !onlyStarred);
    showStars();
  };
  events.on("msg:custom", (message, buffers) => {
    if (message.kind === "problem") showProblem(message.problem);
    if (message.kind === "stars") {
      for (const [index, starred] of wanted) {
        const isSaved = model.get("stars").includes(index) === starred;
        if (isSaved || message.failed) wanted.delete(index);
      }
      showStars();
    }
    if (message.kind !== "export") return;
    busy.delete(message.format);
    showDownloads();
    if (message.problem) showProblem(message.problem);
    else saveFile(message.name, message.mime, buffers);
  });
  events.on("change:points change:stars", showStars);
  events.on("change:progress", showProgress);
  build();
  showProgress();
  return () => {
    seen.end();
    events.end();
    files.end();
  };
}
var sheet_default = { render };
export {
  sheet_default as default
};
