// Made from js/src/views/models.ts by `make js-build`; do not edit it here.

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
function setChildren(parent, wanted) {
  const kept = new Set(wanted);
  for (const child of [...parent.children]) {
    if (!kept.has(child)) child.remove();
  }
  wanted.forEach((child, place) => {
    const there = parent.children[place];
    if (there !== child) parent.insertBefore(child, there ?? null);
  });
}
var idsMade = 0;
function newId() {
  idsMade += 1;
  return `comfydeploy-${Math.random().toString(36).slice(2, 10)}-${idsMade}`;
}
function textButton(text, onclick, ...classes) {
  const names = ["jupyter-widgets", "jupyter-button", "comfydeploy-button", ...classes];
  return h("button", { type: "button", textContent: text, className: names.join(" "), onclick });
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
function formatBytes(size) {
  let value = size;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (value < 1024)
      return unit === "B" ? `${Math.round(value)} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} GiB`;
}
function searchWords(search) {
  return search.toLowerCase().split(/\s+/).filter(Boolean);
}
function containsWords(text, words) {
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}
function counted(count, noun) {
  return `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;
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

// src/transfers/model_dialog.ts
var DOING = { delete: "Deleting", move: "Moving" };
var NAMED = 8;
function sentences(uses) {
  const { workflows, run_count, unfinished } = uses;
  const names = workflows.slice(0, NAMED).map(({ name }) => `“${name}”`);
  if (workflows.length > NAMED) names.push("…");
  const ended = run_count - unfinished;
  const all = [
    [
      workflows.length,
      `${counted(workflows.length, "stored workflow")} ${workflows.length === 1 ? "uses" : "use"} it: ${names.join(", ")}.`
    ],
    [ended, `${counted(ended, "earlier run")} used it.`]
  ];
  const lines = all.filter(([count]) => count).map(([, text]) => text);
  if (uses.in_use) return lines;
  return lines.length ? lines : ["No stored workflow and no recent run uses it."];
}
function warning({ unfinished, transfers, queued }) {
  const parts = [
    unfinished ? counted(unfinished, "run") : "",
    transfers.length ? counted(transfers.length, "transfer") : ""
  ].filter(Boolean);
  if (!parts.length && queued === null)
    return "ComfyUI does not answer: it is not known whether a prompt in its queue needs it.";
  if (!parts.length) return queued ? "A prompt in ComfyUI's queue needs it now." : "";
  const isOne = unfinished + transfers.length === 1;
  return `${parts.join(" and ")} that ${isOne ? "has not ended needs" : "have not ended need"} it now.`;
}
var ModelDialog = class {
  constructor(send) {
    this.send = send;
  }
  send;
  root = h("dialog", { className: "cd-dialog" });
  entry = null;
  inUse = false;
  action = "";
  confirm = h("button", { type: "button" });
  used = h("ul", { className: "cd-uses" });
  warned = h("div", { className: "comfydeploy-error", role: "alert" });
  problem = h("div", { className: "comfydeploy-error", role: "alert" });
  /** Ask whether a model is to be deleted. */
  askDelete(entry, opener) {
    const text = `It is in ${entry.folder}. The file is deleted from the disk; this cannot be undone.`;
    this.show(entry, `Delete ${entry.name}?`, "Delete", opener, [h("div", {}, text)], () => ({
      type: "delete",
      folder: entry.folder,
      name: entry.name
    }));
    this.confirm.classList.add("cd-danger");
  }
  /** Ask for the new folder and the new name of a model. */
  askMove(entry, folders, opener) {
    const choices = folders.includes(entry.folder) ? folders : [entry.folder, ...folders];
    const folder = h(
      "select",
      { className: "comfydeploy-control" },
      choices.map((name2) => h("option", { value: name2 }, name2))
    );
    folder.value = entry.folder;
    const name = h("input", {
      type: "text",
      className: "comfydeploy-control",
      value: entry.name,
      required: true,
      spellcheck: false
    });
    const fields = [
      h("label", { className: "cd-field" }, "Models folder", folder),
      h("label", { className: "cd-field" }, "Name, with its subfolder", name),
      h(
        "div",
        { className: "cd-faint" },
        "Existing files are not replaced. Workflows keep the old name and will not find the model."
      )
    ];
    this.show(entry, `Move or rename ${entry.name}`, "Move", opener, fields, () => ({
      type: "move",
      folder: entry.folder,
      name: entry.name,
      to_folder: folder.value,
      to_name: name.value.trim()
    }));
    const same = () => folder.value === entry.folder && name.value.trim() === entry.name;
    const check = () => {
      this.confirm.disabled = same() || !name.value.trim();
    };
    name.oninput = check;
    folder.onchange = check;
    name.onkeydown = (event) => {
      if (event.key === "Enter") this.confirm.click();
    };
    check();
    name.select();
  }
  /** Show what uses the model, once that is known. */
  showUses(folder, name, uses, problem) {
    if (!this.isAbout(folder, name)) return;
    if (problem) this.problem.textContent = problem;
    this.used.replaceChildren(...(uses ? sentences(uses) : []).map((text) => h("li", {}, text)));
    this.inUse = uses !== null && (uses.in_use || uses.queued === null);
    this.warned.textContent = uses ? warning(uses) : "";
    this.used.removeAttribute("aria-busy");
    if (this.confirm.classList.contains("cd-danger")) this.confirm.disabled = uses === null;
  }
  /** Show why the model was not changed; return whether the dialog is open and about this model. */
  refuse(folder, name, problem) {
    if (!this.isAbout(folder, name)) return false;
    this.problem.textContent = problem;
    this.confirm.textContent = this.action;
    this.confirm.disabled = false;
    this.send({ type: "uses", folder, name });
    return true;
  }
  /** Close the dialog about a model. */
  done(folder, name) {
    if (this.isAbout(folder, name)) this.end();
  }
  end() {
    if (this.root.open) this.root.close();
  }
  isAbout(folder, name) {
    return this.root.open && this.entry?.folder === folder && this.entry.name === name;
  }
  show(entry, title, action, opener, content, order) {
    const id = newId();
    this.entry = entry;
    this.inUse = false;
    this.action = action;
    this.confirm = h(
      "button",
      {
        type: "button",
        className: "cd-button",
        disabled: true,
        onclick: () => {
          this.confirm.disabled = true;
          this.problem.textContent = "";
          const sent = order();
          if (sent.type !== "uses") this.confirm.textContent = `${DOING[sent.type]} …`;
          this.send({ ...sent, in_use: this.inUse });
        }
      },
      action
    );
    const cancel = h(
      "button",
      { type: "button", className: "cd-button", onclick: () => this.end() },
      "Cancel"
    );
    this.warned.textContent = "";
    this.problem.textContent = "";
    this.used.setAttribute("aria-busy", "true");
    this.used.replaceChildren(h("li", { className: "cd-faint" }, "Looking for what uses it …"));
    this.root.setAttribute("aria-labelledby", id);
    this.root.replaceChildren(
      h("div", { id, className: "cd-question" }, title),
      ...content,
      this.used,
      this.warned,
      this.problem,
      h("div", { className: "cd-line cd-end" }, cancel, this.confirm)
    );
    openDialog(this.root, opener);
    cancel.focus();
    this.send({ type: "uses", folder: entry.folder, name: entry.name });
  }
};

// src/views/models.ts
var READING = "!";
var SHOWN = 500;
var BY_NAME = { key: "name", title: "Name", read: (entry) => entry.name.toLowerCase() };
var COLUMNS = [
  BY_NAME,
  { key: "folder", title: "Folder", read: (entry) => entry.folder.toLowerCase() },
  { key: "size", title: "Size", read: (entry) => entry.size ?? -1 },
  { key: "modified", title: "Changed", read: (entry) => entry.modified ?? 0 }
];
function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}
function render({ model, el }) {
  el.classList.add("comfydeploy-models");
  const events = new Subscriptions(model);
  const search = h("input", {
    type: "search",
    className: "comfydeploy-control",
    placeholder: "Search models",
    "aria-label": "Search models"
  });
  const folder = h("select", {
    className: "comfydeploy-control",
    "aria-label": "Show the models folder"
  });
  const refresh = textButton("Refresh", () => model.send({ type: "refresh" }));
  const count = h("div", { className: "comfydeploy-note", role: "status" });
  const head = h("tr");
  const body = h("tbody");
  const scroller = h(
    "div",
    { className: "comfydeploy-scroller", tabIndex: 0, role: "region", "aria-label": "Models" },
    h("table", {}, h("thead", {}, head), body)
  );
  const note = h("div", { className: "comfydeploy-note", "aria-live": "polite" });
  const failed = h("div", { className: "comfydeploy-error", role: "alert", hidden: true });
  const unfinished = /* @__PURE__ */ new Map();
  const dialog = new ModelDialog((order) => {
    model.send(order);
    if (order.type === "uses") return;
    const key = `${order.folder}/${order.name}`;
    unfinished.set(key, `${DOING[order.type]} ${key} …`);
    showNote("");
    fail("");
  });
  el.append(
    h("div", { className: "comfydeploy-bar" }, search, folder, refresh),
    scroller,
    count,
    note,
    failed,
    h("div", { className: "comfydeploy-view" }, dialog.root)
  );
  let sorting = { column: BY_NAME, descending: false };
  for (const column of COLUMNS) {
    const { key, title } = column;
    const onclick = () => {
      sorting = { column, descending: sorting.column === column && !sorting.descending };
      draw();
    };
    const sort = h("button", { type: "button", textContent: title, onclick });
    const cell = h("th", { scope: "col" }, sort);
    cell.dataset.key = key;
    head.append(cell);
  }
  head.append(h("th", { scope: "col", textContent: "SHA-256" }));
  const actions = h("th", { scope: "col", textContent: "Actions" });
  head.append(actions);
  const showNote = (text) => {
    note.textContent = [text, ...unfinished.values()].filter(Boolean).join(" ");
  };
  const fail = (text) => {
    failed.textContent = text;
    failed.hidden = !text;
  };
  const fillFolders = () => {
    const chosen = folder.value;
    const names = [...new Set(model.get("models").map((entry) => entry.folder))].sort();
    folder.replaceChildren(
      h("option", { value: "", textContent: "All folders" }),
      ...names.map((name) => h("option", { value: name, textContent: name }))
    );
    folder.value = names.includes(chosen) ? chosen : "";
  };
  const draw = () => {
    actions.hidden = !model.get("folders").length;
    const words = searchWords(search.value);
    const { column, descending } = sorting;
    const sign = descending ? -1 : 1;
    const all = model.get("models");
    const found = all.filter((entry) => !folder.value || entry.folder === folder.value).filter((entry) => containsWords(`${entry.folder}/${entry.name}`, words)).sort((a, b) => sign * compare(column.read(a), column.read(b)));
    drawRows(found.slice(0, SHOWN));
    for (const cell of head.querySelectorAll("th[data-key]")) {
      const isSorted = cell.dataset.key === column.key;
      const order = descending ? "descending" : "ascending";
      cell.setAttribute("aria-sort", isSorted ? order : "none");
    }
    scroller.hidden = found.length === 0;
    const size = found.reduce((sum, entry) => sum + (entry.size ?? 0), 0);
    const more = found.length > SHOWN ? `, the first ${SHOWN} are shown` : "";
    const many = `${found.length} model${found.length === 1 ? "" : "s"}, ${formatBytes(size)}${more}`;
    const none = all.length === 0 ? "ComfyUI has no models yet" : "No model matches the search";
    const { free, total } = model.get("disk");
    const isKnown = free !== void 0 && total !== void 0;
    const space = isKnown ? ` · ${formatBytes(free)} of ${formatBytes(total)} free` : "";
    const summary = found.length ? many : none;
    count.textContent = model.get("loaded") ? `${summary}${space}` : "Loading …";
  };
  let rows = /* @__PURE__ */ new Map();
  const drawRows = (entries) => {
    const before = rows;
    const canChange = model.get("folders").length > 0;
    rows = /* @__PURE__ */ new Map();
    for (const entry of entries) {
      const hash = model.get("hashes")[`${entry.folder}/${entry.name}`];
      const shown = JSON.stringify([entry, hash, canChange]);
      rows.set(shown, before.get(shown) ?? row(entry));
    }
    setChildren(body, [...rows.values()]);
  };
  const row = (entry) => {
    const changed = entry.modified === null ? null : new Date(1e3 * entry.modified);
    return h(
      "tr",
      {},
      h("td", { textContent: entry.name, className: "comfydeploy-name" }),
      h("td", { textContent: entry.folder }),
      h("td", { textContent: entry.size === null ? "" : formatBytes(entry.size) }),
      h("td", {
        textContent: changed?.toLocaleDateString() ?? "",
        title: changed?.toLocaleString() ?? ""
      }),
      h("td", {}, hashButton(entry)),
      model.get("folders").length ? h("td", {}, changeButtons(entry)) : null
    );
  };
  const changeButtons = (entry) => {
    const move = textButton("Move …", () => dialog.askMove(entry, model.get("folders"), move));
    move.setAttribute("aria-label", `Move or rename ${entry.name}`);
    const remove = textButton("Delete …", () => dialog.askDelete(entry, remove));
    remove.setAttribute("aria-label", `Delete ${entry.name}`);
    return [move, " ", remove];
  };
  const hashButton = (entry) => {
    const key = `${entry.folder}/${entry.name}`;
    const known = model.get("hashes")[key];
    if (known && known !== READING) {
      const copy = textButton(`${known.slice(0, 10)}… copy`, () => copyText(known, copy));
      copy.title = known;
      copy.setAttribute("aria-label", `Copy the hash of ${entry.name}`);
      return copy;
    }
    const text = known === READING ? "Reading …" : "Compute";
    const compute = textButton(text, () => model.send({ type: "hash", key }));
    compute.disabled = known === READING;
    compute.setAttribute("aria-label", `Compute the hash of ${entry.name}`);
    return compute;
  };
  const show = () => {
    fillFolders();
    draw();
  };
  search.addEventListener("input", draw);
  folder.addEventListener("change", draw);
  events.on("change:models change:loaded change:hashes change:disk change:folders", show);
  events.on("msg:custom", ({ type, folder: folder2, name, text, uses, problem }) => {
    if (type === "uses") dialog.showUses(folder2, name, uses, problem);
    if (type !== "refused" && type !== "done") return;
    const key = `${folder2}/${name}`;
    unfinished.delete(key);
    showNote(type === "done" ? text : "");
    if (type === "done") dialog.done(folder2, name);
    else if (!dialog.refuse(folder2, name, problem)) fail(`${key}: ${problem}`);
  });
  show();
  return () => {
    dialog.end();
    events.end();
  };
}
var models_default = { render };
export {
  models_default as default
};
