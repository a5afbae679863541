/** The models of ComfyUI: a table that is searched, sorted and filtered in the page. */

import { copyText } from "../clipboard.ts";
import { h, setChildren, textButton } from "../dom.ts";
import { containsWords, formatBytes, searchWords } from "../format.ts";
import { type Context, Subscriptions } from "../model.ts";
import { DOING, type Entry, ModelDialog, type Uses } from "../transfers/model_dialog.ts";

const READING = "!"; // the hash of a model whose file is being read
const SHOWN = 500; // rows that are shown; a search shows the others

type Traits = {
  models: Entry[];
  loaded: boolean;
  hashes: Record<string, string>;
  disk: { free?: number; total?: number };
  /** The models folders that a model can be moved to; none if the files are not on this machine. */
  folders: string[];
};

/** A message of the kernel about a model; which of its fields are used depends on `type`. */
type Message = {
  type: string;
  folder: string;
  name: string;
  text: string;
  uses: Uses | null;
  problem: string;
};

type Column = { key: string; title: string; read: (entry: Entry) => string | number };

const BY_NAME: Column = { key: "name", title: "Name", read: (entry) => entry.name.toLowerCase() };
const COLUMNS: Column[] = [
  BY_NAME,
  { key: "folder", title: "Folder", read: (entry) => entry.folder.toLowerCase() },
  { key: "size", title: "Size", read: (entry) => entry.size ?? -1 },
  { key: "modified", title: "Changed", read: (entry) => entry.modified ?? 0 },
];

function compare(a: string | number, b: string | number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function render({ model, el }: Context<Traits>) {
  el.classList.add("comfydeploy-models");
  const events = new Subscriptions(model);
  const search = h("input", {
    type: "search",
    className: "comfydeploy-control",
    placeholder: "Search models",
    "aria-label": "Search models",
  });
  const folder = h("select", {
    className: "comfydeploy-control",
    "aria-label": "Show the models folder",
  });
  const refresh = textButton("Refresh", () => model.send({ type: "refresh" }));
  const count = h("div", { className: "comfydeploy-note", role: "status" });
  const head = h("tr");
  const body = h("tbody");
  const scroller = h(
    "div",
    { className: "comfydeploy-scroller", tabIndex: 0, role: "region", "aria-label": "Models" },
    h("table", {}, h("thead", {}, head), body),
  );
  const note = h("div", { className: "comfydeploy-note", "aria-live": "polite" });
  const failed = h("div", { className: "comfydeploy-error", role: "alert", hidden: true });
  /** The texts about unfinished deletions and moves, by the folder and name of the model. */
  const unfinished = new Map<string, string>();
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
    h("div", { className: "comfydeploy-view" }, dialog.root),
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

  /** Show what was done, and what is being done. */
  const showNote = (text: string) => {
    note.textContent = [text, ...unfinished.values()].filter(Boolean).join(" ");
  };
  const fail = (text: string) => {
    failed.textContent = text;
    failed.hidden = !text;
  };

  const fillFolders = () => {
    const chosen = folder.value;
    const names = [...new Set(model.get("models").map((entry) => entry.folder))].sort();
    folder.replaceChildren(
      h("option", { value: "", textContent: "All folders" }),
      ...names.map((name) => h("option", { value: name, textContent: name })),
    );
    folder.value = names.includes(chosen) ? chosen : "";
  };

  const draw = () => {
    actions.hidden = !model.get("folders").length;
    const words = searchWords(search.value);
    const { column, descending } = sorting;
    const sign = descending ? -1 : 1;
    const all = model.get("models");
    const found = all
      .filter((entry) => !folder.value || entry.folder === folder.value)
      .filter((entry) => containsWords(`${entry.folder}/${entry.name}`, words))
      .sort((a, b) => sign * compare(column.read(a), column.read(b)));
    drawRows(found.slice(0, SHOWN));
    for (const cell of head.querySelectorAll<HTMLElement>("th[data-key]")) {
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
    const isKnown = free !== undefined && total !== undefined;
    const space = isKnown ? ` · ${formatBytes(free)} of ${formatBytes(total)} free` : "";
    const summary = found.length ? many : none;
    count.textContent = model.get("loaded") ? `${summary}${space}` : "Loading …";
  };

  /** The rows in the table, by what they show: one that has not changed is not made again. */
  let rows = new Map<string, HTMLTableRowElement>();

  const drawRows = (entries: Entry[]) => {
    const before = rows;
    const canChange = model.get("folders").length > 0;
    rows = new Map();
    for (const entry of entries) {
      const hash = model.get("hashes")[`${entry.folder}/${entry.name}`];
      const shown = JSON.stringify([entry, hash, canChange]);
      rows.set(shown, before.get(shown) ?? row(entry));
    }
    setChildren(body, [...rows.values()]);
  };

  const row = (entry: Entry) => {
    const changed = entry.modified === null ? null : new Date(1000 * entry.modified);
    return h(
      "tr",
      {},
      h("td", { textContent: entry.name, className: "comfydeploy-name" }),
      h("td", { textContent: entry.folder }),
      h("td", { textContent: entry.size === null ? "" : formatBytes(entry.size) }),
      h("td", {
        textContent: changed?.toLocaleDateString() ?? "",
        title: changed?.toLocaleString() ?? "",
      }),
      h("td", {}, hashButton(entry)),
      model.get("folders").length ? h("td", {}, changeButtons(entry)) : null,
    );
  };

  const changeButtons = (entry: Entry) => {
    const move = textButton("Move …", () => dialog.askMove(entry, model.get("folders"), move));
    move.setAttribute("aria-label", `Move or rename ${entry.name}`);
    const remove = textButton("Delete …", () => dialog.askDelete(entry, remove));
    remove.setAttribute("aria-label", `Delete ${entry.name}`);
    return [move, " ", remove];
  };

  const hashButton = (entry: Entry) => {
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
  events.on("msg:custom", ({ type, folder, name, text, uses, problem }: Message) => {
    if (type === "uses") dialog.showUses(folder, name, uses, problem);
    if (type !== "refused" && type !== "done") return;
    const key = `${folder}/${name}`;
    unfinished.delete(key);
    showNote(type === "done" ? text : "");
    if (type === "done") dialog.done(folder, name);
    else if (!dialog.refuse(folder, name, problem)) fail(`${key}: ${problem}`);
  });
  show();
  return () => {
    dialog.end();
    events.end();
  };
}

export default { render };
