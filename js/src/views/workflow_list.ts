/** The list of WorkflowPanel: stored workflows, files, and workflows of ComfyUI's editor. */

import { h, icon, newId, setAttribute, setText, setUpRoot } from "../dom.ts";
import { Files, type FilesTraits, sendFile } from "../files.ts";
import { messageOf } from "../format.ts";
import { type Context, Subscriptions } from "../model.ts";
import { pageServer } from "../server.ts";
import { WhenSeen } from "../when_seen.ts";

const SIDE = 96; // pixels of a small copy

type Entry = {
  id: string;
  name: string;
  note: string;
  tags: string[];
  group: string;
  kept: boolean;
  turn: number; // changes when the picture must be requested again
};

type Notice = { text?: string; undo?: boolean; problem?: boolean };

type Traits = FilesTraits & {
  entries: Entry[];
  value: string | null;
  message: Notice;
  editable: boolean;
};

type Item = { key: string; option: HTMLElement; frame: HTMLElement };

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "workflow-list");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  const seen = new WhenSeen();
  const items = new Map<string, Item>();
  let active: string | null = null;
  // The tabs that were opened for workflows, until the address of their page is known.
  const tabs = new Map<string, Window | null>();
  let edits = false; // whether a workflow was opened in ComfyUI's page

  const list = h("div", {
    className: "cd-workflows",
    role: "listbox",
    tabIndex: 0,
    "aria-label": "Workflows",
  });
  const actions = h("div", { className: "cd-line cd-actions" });
  const editor = h("div", { className: "cd-edit", hidden: true });
  const messageText = h("span", { className: "cd-grow" });
  const undo = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => model.send({ kind: "undo" }) },
    icon("undo"),
    " Undo",
  );
  const line = h("div", { className: "cd-line cd-message", role: "status" }, messageText, undo);
  const hint = h("div", { className: "cd-faint" }, "Drop workflow files here to store them.");
  el.append(list, hint, actions, editor, line);

  const entryOf = (id: string | null) => model.get("entries").find((entry) => entry.id === id);

  const choose = (id: string) => {
    activate(id);
    model.set("value", id);
    model.save_changes();
  };
  const activate = (id: string | null) => {
    active = id;
    for (const [key, { option }] of items) option.classList.toggle("cd-active", key === id);
    const option = id === null ? undefined : items.get(id)?.option;
    setAttribute(list, "aria-activedescendant", option?.id ?? null);
    option?.scrollIntoView({ block: "nearest" });
  };

  const makeItem = (entry: Entry, key: string): Item => {
    const picture = h("span", { className: "cd-frame" }, icon(entry.kept ? "sitemap" : "file-o"));
    const option = h(
      "div",
      {
        id: newId(),
        role: "option",
        className: "cd-workflow",
        title: entry.name,
      },
      picture,
      h(
        "span",
        { className: "cd-names" },
        h("span", { className: "cd-name" }, entry.name),
        h(
          "span",
          { className: "cd-faint" },
          entry.note,
          entry.tags.map((tag) => h("span", { className: "cd-tag" }, tag)),
        ),
      ),
    );
    setAttribute(option, "data-entry", entry.id);
    if (entry.kept) seen.watch(picture, () => model.send({ kind: "picture", id: entry.id }));
    return { key, option, frame: picture };
  };

  const showPicture = (id: string, query: string) => {
    const item = items.get(id);
    if (!item || !query) return;
    const image = h("img", { alt: "" });
    const before = [...item.frame.childNodes];
    item.frame.replaceChildren(image);
    files.show(image, query, SIDE, () => item.frame.replaceChildren(...before));
  };

  /** Show a text field in a line below the list. */
  const ask = (label: string, value: string, most: number, done: (text: string) => void) => {
    const input = h("input", { type: "text", value, maxLength: most, "aria-label": label });
    const close = () => {
      editor.hidden = true;
      editor.replaceChildren();
      list.focus();
    };
    const form = h(
      "form",
      { className: "cd-line" },
      input,
      h("button", { type: "submit", className: "cd-button cd-primary" }, "Save"),
      h("button", { type: "button", className: "cd-button", onclick: close }, "Cancel"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      done(input.value.trim());
      close();
    });
    form.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close();
    });
    editor.replaceChildren(h("span", { className: "cd-faint" }, label), form);
    editor.hidden = false;
    input.select();
    input.focus();
  };
  const rename = ({ id, name }: Entry) =>
    ask(`New name of ${name}`, name, 255, (text) => {
      if (text && text !== name) model.send({ kind: "rename", id, name: text });
    });
  const retag = ({ id, name, tags }: Entry) =>
    ask(`Tags of ${name}, separated by commas`, tags.join(", "), 3000, (text) => {
      const given = text.split(",").map((tag) => tag.trim());
      model.send({ kind: "tag", id, tags: given.filter(Boolean) });
    });
  /** Open a tab at once: a browser refuses it after the event. */
  const edit = ({ id }: Entry) => {
    tabs.set(id, window.open("", "_blank"));
    model.send({ kind: "edit", id });
  };
  const showEditor = async (id: string, url: string) => {
    const tab = tabs.get(id);
    tabs.delete(id);
    if (!url) {
      tab?.close();
      return;
    }
    edits = true;
    // The page may use another address of the server than the kernel.
    const base = await pageServer(model.get("server"));
    const address = base === null ? url : `${base}comfyui/${new URL(url).search}`;
    if (tab) tab.location.href = new URL(address, location.href).href;
    else window.open(address, "_blank");
  };
  const lookForVersions = () => {
    if (edits) model.send({ kind: "edited" });
  };
  window.addEventListener("focus", lookForVersions);
  const remove = ({ id }: Entry) => model.send({ kind: "delete", id });

  const action = (iconName: string, text: string, label: string, onclick: () => void) =>
    h(
      "button",
      { type: "button", className: "cd-button", title: label, onclick },
      icon(iconName),
      ` ${text}`,
    );
  const showActions = () => {
    const entry = entryOf(model.get("value"));
    const focus = actions.contains(document.activeElement);
    const parts: HTMLElement[] = [];
    if (entry?.kept && model.get("editable")) {
      parts.push(
        action("sitemap", "Edit in ComfyUI", `Open ${entry.name} in ComfyUI's page`, () =>
          edit(entry),
        ),
        action("pencil", "Rename …", `Rename ${entry.name} (F2)`, () => rename(entry)),
        action("tags", "Tags …", `Change the tags of ${entry.name}`, () => retag(entry)),
        action("trash-o", "Delete", `Delete ${entry.name} (Del); can be undone`, () =>
          remove(entry),
        ),
      );
    } else if (entry && !entry.kept) {
      const keep = () => model.send({ kind: "keep", id: entry.id });
      parts.push(action("bookmark-o", "Keep", `Keep ${entry.name} on the server`, keep));
    }
    actions.replaceChildren(...parts);
    if (focus) (actions.querySelector("button") ?? list).focus();
  };

  const show = () => {
    const entries = model.get("entries");
    const groups = new Map<string, HTMLElement>();
    const ids = new Set(entries.map(({ id }) => id));
    for (const id of items.keys()) if (!ids.has(id)) items.delete(id);
    for (const entry of entries) {
      const key = JSON.stringify(entry);
      const known = items.get(entry.id);
      const item = known?.key === key ? known : makeItem(entry, key);
      items.set(entry.id, item);
      let group = groups.get(entry.group);
      if (!group) {
        const title = h("div", { className: "cd-group" }, entry.group);
        title.setAttribute("role", "presentation");
        group = h("div", { role: "group", "aria-label": entry.group }, title);
        groups.set(entry.group, group);
      }
      group.append(item.option);
    }
    const { scrollTop } = list;
    list.replaceChildren(...groups.values());
    list.scrollTop = scrollTop;
    if (active !== null && !ids.has(active)) activate(null);
    showValue();
  };
  const showValue = () => {
    const value = model.get("value");
    for (const [id, { option }] of items)
      option.setAttribute("aria-selected", String(id === value));
    if (value !== null && items.has(value)) activate(value);
    showActions();
  };
  const showMessage = ({ text = "", undo: canUndo = false, problem = false }: Notice) => {
    setText(messageText, text);
    line.classList.toggle("cd-problem", problem);
    undo.hidden = !canUndo;
    line.hidden = !text;
  };

  const STEPS: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
  list.addEventListener("keydown", (event) => {
    const entries = model.get("entries");
    const at = entries.findIndex(({ id }) => id === active);
    const entry = entries[at];
    const step = STEPS[event.key];
    let next: number | null = null;
    if (step !== undefined) next = at < 0 ? 0 : at + step;
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = entries.length - 1;
    if (next !== null) {
      activate(entries[Math.max(0, Math.min(entries.length - 1, next))]?.id ?? null);
    } else if ((event.key === "Enter" || event.key === " ") && entry) choose(entry.id);
    else if (entry?.kept && model.get("editable") && event.key === "F2") rename(entry);
    else if (entry?.kept && model.get("editable") && event.key === "Delete") remove(entry);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const entryAt = ({ target }: Event) =>
    (target as Element).closest("[data-entry]")?.getAttribute("data-entry") ?? null;
  const chooseAt = (event: Event) => {
    const id = entryAt(event);
    if (id !== null) choose(id);
  };
  // No click event follows if the list is drawn again while the button of the mouse is down.
  let pressed: string | null = null;
  list.addEventListener("pointerdown", (event) => {
    pressed = event.button === 0 ? entryAt(event) : null;
  });
  list.addEventListener("pointercancel", () => {
    pressed = null;
  });
  list.addEventListener("pointerup", (event) => {
    if (pressed === entryAt(event)) chooseAt(event);
  });
  list.addEventListener("click", chooseAt);
  list.addEventListener("focus", () => {
    if (active === null) activate(model.get("entries")[0]?.id ?? null);
  });

  /** Send files one after another; a file that the browser cannot read, such as a folder, is named. */
  const keepAll = async (dropped: File[]) => {
    let first = true;
    for (const file of dropped) {
      try {
        await sendFile(model, file, { first });
        first = false;
      } catch (error) {
        showMessage({ text: `${file.name} cannot be read: ${messageOf(error)}`, problem: true });
      }
    }
  };
  const carriesFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  el.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    list.classList.add("cd-drop-here");
  });
  el.addEventListener("dragleave", () => list.classList.remove("cd-drop-here"));
  el.addEventListener("drop", (event) => {
    list.classList.remove("cd-drop-here");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    keepAll([...(event.dataTransfer?.files ?? [])]);
  });

  type Message = { kind: string; id: string; query: string; url: string };
  events.on("msg:custom", (message: Message) => {
    if (message.kind === "picture") showPicture(message.id, message.query);
    if (message.kind === "edit") showEditor(message.id, message.url);
  });
  events.on("change:entries", show);
  events.on("change:value change:editable", showValue);
  events.on("change:message", () => showMessage(model.get("message")));
  show();
  showMessage(model.get("message"));
  return () => {
    window.removeEventListener("focus", lookForVersions);
    seen.end();
    events.end();
    files.end();
  };
}

export default { render };
