// Made from js/src/views/presets.ts by `make js-build`; do not edit it here.

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
function searchWords(search) {
  return search.toLowerCase().split(/\s+/).filter(Boolean);
}
function containsWords(text, words) {
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}

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
  const textOf = (wanted) => options.find((option) => option.value === wanted)?.text ?? String(wanted ?? "");
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
    if (free && input.value !== textOf(value)) {
      const option = options.find((each) => each.text === input.value);
      set(option ? option.value : input.value, true);
    } else input.value = textOf(value);
  };
  const set = (wanted, isChosen) => {
    const changed = wanted !== value;
    value = wanted;
    input.value = textOf(value);
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
      input.value = textOf(value);
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
      const isTyped = open && input.value !== textOf(value);
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

// src/form/unconfirmed.ts
var EVENT = "comfydeploy-typed";
function unconfirmedIn(element) {
  const found = [];
  const panel = element.closest(".comfydeploy-panel");
  for (const form of panel?.querySelectorAll(".comfydeploy-form") ?? []) {
    form.dispatchEvent(new CustomEvent(EVENT, { detail: found }));
  }
  return found;
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

// src/views/presets.ts
function render({ model, el }) {
  setUpRoot(el, "presets");
  const events = new Subscriptions(model);
  const id = newId();
  let name = model.get("chosen");
  const options = () => model.get("names").map((each) => ({ value: each, text: each }));
  const combo = comboBox({
    id,
    label: "Preset",
    value: name,
    options: options(),
    free: true,
    hint: "Choose or name",
    choose: (value) => take(value),
    // Leaving the field does not replace the values of the form: the user may be about to save.
    picked: (value) => {
      take(value);
      if (model.get("names").includes(name)) model.send({ kind: "use", name });
    }
  });
  const take = (value) => {
    name = String(value ?? "").trim();
    showButtons();
  };
  combo.input.maxLength = 255;
  combo.input.addEventListener("input", () => take(combo.input.value));
  combo.input.addEventListener("focus", () => model.send({ kind: "refresh" }));
  const saveValues = () => model.send({ kind: "save", name, typed: unconfirmedIn(el) });
  const save = h(
    "button",
    { type: "button", className: "cd-button", onclick: saveValues },
    icon("bookmark-o"),
    " Save"
  );
  const remove = iconButton(
    "trash-o",
    "Delete this preset",
    () => model.send({ kind: "delete", name })
  );
  const text = h("span", { className: "cd-grow" });
  const useTheirs = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => model.send({ kind: "use", name }) },
    "Use the other values"
  );
  const replace = h(
    "button",
    { type: "button", className: "cd-button", onclick: saveValues },
    "Replace them with mine"
  );
  const message = h(
    "div",
    { className: "cd-line cd-message", role: "status", "aria-live": "polite" },
    text,
    useTheirs,
    replace
  );
  el.append(
    h("label", { htmlFor: id }, "Preset"),
    h(
      "div",
      { className: "cd-line" },
      h("div", { className: "cd-grow" }, combo.root),
      save,
      remove
    ),
    message
  );
  const showButtons = () => {
    save.disabled = !name;
    save.title = model.get("stored") ? "Save the present values under this name" : "Save the present values under this name; this also stores the workflow on the server";
    remove.disabled = !model.get("names").includes(name);
  };
  const showMessage = () => {
    const { text: words = "", kind = "" } = model.get("message");
    setText(text, words);
    message.classList.toggle("cd-problem", kind !== "");
    message.classList.toggle("cd-faint", kind === "");
    useTheirs.hidden = replace.hidden = kind !== "conflict";
  };
  const show = () => {
    el.hidden = !model.get("shown");
    showButtons();
    showMessage();
  };
  events.on("change:names", () => {
    if (document.activeElement !== combo.input) combo.setOptions(options(), name);
    else combo.setOptions(options(), combo.input.value);
    showButtons();
  });
  events.on("change:chosen", () => {
    name = model.get("chosen");
    combo.set(name);
    showButtons();
  });
  events.on("change:shown change:stored", show);
  events.on("change:message", showMessage);
  show();
  return () => {
    combo.end();
    events.end();
  };
}
var presets_default = { render };
export {
  presets_default as default
};
