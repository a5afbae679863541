/** The earlier runs of a workflow, newest first. */

import { h, icon, iconButton, setText, setUpRoot } from "../dom.ts";
import { Files, type FilesTraits } from "../files.ts";
import { counted, formatDuration } from "../format.ts";
import type { Item } from "../gallery/item.ts";
import { Lightbox } from "../gallery/lightbox.ts";
import { About, type Actions, type Facts } from "../history/about.ts";
import { asItem, CompareDialog, DeleteDialog, type Difference } from "../history/dialogs.ts";
import { Filters, isFiltered } from "../history/filters.ts";
import { type EarlierRun, type Filter, formatTime } from "../history/run.ts";
import { Wall } from "../history/wall.ts";
import { type Context, Subscriptions } from "../model.ts";
import { WhenSeen } from "../when_seen.ts";

const SIDE = 192; // pixels of a small copy

type Traits = FilesTraits & {
  runs: EarlierRun[];
  more: boolean;
  chosen: string;
  opened: boolean;
  filter: Filter;
  labels: string[][];
  inputs: string[][];
};

type Message = Facts & {
  kind: string;
  text: string;
  prompt_id: string;
  query: string;
  prompt_ids: string[];
  lines: Difference[];
};

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "history");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  const seen = new WhenSeen();
  const selected = new Set<string>();
  const lightbox = new Lightbox();
  const deleting = new DeleteDialog();
  const comparing = new CompareDialog();
  const notice = h("div", { className: "cd-message", role: "status" });
  const selection = h("div", { className: "cd-line cd-selection" });
  const nothing = h("div", { className: "cd-faint", hidden: true }, "No runs match.");
  let about: { query: string; view: About } | null = null;
  let askedAt = -1; // number of runs when more were requested

  const filters = new Filters((filter) => {
    model.set("filter", filter);
    model.save_changes();
  });
  const runOf = (promptId: string) => model.get("runs").find((run) => run.prompt_id === promptId);
  const nameOf = (run: EarlierRun) => `run of ${new Date(run.created_at).toLocaleString()}`;

  const pin = (runs: EarlierRun[], pinned: boolean) => {
    model.send({ kind: "pin", prompt_ids: runs.map((run) => run.prompt_id), pinned });
  };
  const ask = (question: string, promptIds: string[] | null) => {
    deleting.ask(question, document.activeElement, (withFiles) => {
      setText(notice, "Deleting …");
      notice.classList.remove("cd-problem-text");
      model.send({ kind: "delete", prompt_ids: promptIds, files: withFiles });
    });
  };
  const askAboutOne = (run: EarlierRun) => ask(`Delete the ${nameOf(run)}?`, [run.prompt_id]);
  const actions: Actions = {
    reuse: (run) => model.send({ kind: "reuse", prompt_id: run.prompt_id }),
    use: ({ prompt_id }, { query }, key) => model.send({ kind: "use", prompt_id, query, key }),
    pin: (run) => pin([run], !run.pinned),
    remove: askAboutOne,
  };

  /** Show a picture in full size; the arrow keys show the pictures of other runs. */
  const enlarge = (run: EarlierRun, opener: HTMLElement) => {
    const owners: EarlierRun[] = [];
    const items: Item[] = [];
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
  /** The actions beside a picture; their effects are visible behind it. */
  const closing: Actions = {
    reuse: (run) => after(() => actions.reuse(run)),
    use: (run, item, key) => after(() => actions.use(run, item, key)),
    pin: (run) => after(() => actions.pin(run)),
    remove: (run) => after(() => actions.remove(run)),
  };
  const after = (act: () => void) => {
    lightbox.close();
    act();
  };

  /** What a card shows if there is no picture: why the run failed or waits, or the kind of its outputs. */
  const instead = ({ status, problem, kind }: EarlierRun): HTMLElement => {
    if ((status === "failed" || status === "queued") && problem)
      return h("span", { className: "cd-why" }, problem);
    if (status === "success") return h("span", {}, kind);
    return icon(status === "cancelled" ? "ban" : "exclamation-triangle");
  };

  const card = (run: EarlierRun): HTMLElement[] => {
    const [picture] = run.pictures;
    const image = h("img", { alt: "" });
    const frame = h("span", { className: "cd-frame" }, picture ? image : instead(run));
    const failed = () => frame.replaceChildren(h("span", {}, "gone"));
    if (picture) seen.watch(frame, () => files.show(image, picture.query, SIDE, failed));
    const time = run.seconds === null ? "" : formatDuration(run.seconds);
    const facts = [run.title, run.from_editor ? "Editor" : "", time].filter(Boolean);
    const name = nameOf(run);
    const hint = [run.problem, run.summary].filter(Boolean).join("\n\n");
    const main = h(
      "button",
      {
        type: "button",
        className: "cd-run",
        title: hint.slice(0, 2000),
        "aria-pressed": String(run.prompt_id === model.get("chosen")),
        "aria-label": `${name}: ${facts.join(", ")}${run.pinned ? ", pinned" : ""}`,
        onclick: () => model.send({ kind: "show", prompt_id: run.prompt_id }),
      },
      frame,
      h("span", { className: "cd-when" }, formatTime(run.created_at)),
      h("span", { className: `cd-status cd-${run.status}` }, facts.join(" · ")),
    );
    const check = h("input", {
      type: "checkbox",
      className: "cd-select",
      checked: selected.has(run.prompt_id),
      title: "Select",
      "aria-label": `Select ${name}`,
      onchange: () => select(run, check.checked),
    });
    main.addEventListener("keydown", (event) => {
      if (event.key === "Delete") askAboutOne(run);
      else if (event.key === " ") select(run, !selected.has(run.prompt_id));
      else return;
      event.preventDefault();
      event.stopPropagation();
      check.checked = selected.has(run.prompt_id);
    });
    const pinning = iconButton(
      "thumb-tack",
      run.pinned ? `Unpin ${name}` : `Pin ${name}`,
      () => pin([run], !run.pinned),
      { className: "cd-icon cd-pin", "aria-pressed": String(run.pinned) },
    );
    const parts: HTMLElement[] = [main, check, pinning];
    if (picture) {
      const larger: HTMLButtonElement = iconButton(
        "expand",
        `Show the picture of the ${name} in full size`,
        () => enlarge(run, larger),
        { className: "cd-icon cd-larger" },
      );
      parts.push(larger);
    }
    return parts;
  };

  const wall = new Wall<EarlierRun>({
    make: card,
    free: (item) => files.free(item),
    id: (run) => run.prompt_id,
    key: (run) =>
      [run.pinned, run.prompt_id === model.get("chosen"), selected.has(run.prompt_id)].join(),
    near_end: () => {
      const { length } = model.get("runs");
      if (!model.get("more") || askedAt === length) return;
      askedAt = length;
      model.send({ kind: "more" });
    },
    main: ".cd-run",
  });

  const select = (run: EarlierRun, isSelected: boolean) => {
    if (isSelected) selected.add(run.prompt_id);
    else selected.delete(run.prompt_id);
    showSelection();
  };
  const button = (iconName: string, text: string, onclick: () => void) =>
    h("button", { type: "button", className: "cd-button", onclick }, icon(iconName), ` ${text}`);

  /** Show the buttons for the selected runs, or for the failed runs. */
  const showSelection = () => {
    const runs = model.get("runs").filter(({ prompt_id }) => selected.has(prompt_id));
    const [first, second] = runs;
    const ids = runs.map(({ prompt_id }) => prompt_id);
    const focus = selection.contains(document.activeElement);
    const parts: HTMLElement[] = [];
    if (first) {
      parts.push(h("b", {}, counted(runs.length, "run"), " selected"));
      if (second && runs.length === 2) {
        parts.push(
          button("columns", "Compare", () => {
            // The older one is "before".
            comparing.show({ files, seen }, second, first, document.activeElement);
            model.send({ kind: "compare", prompt_ids: [second.prompt_id, first.prompt_id] });
          }),
        );
      }
      if (!second) parts.push(button("reply", "Use these values", () => actions.reuse(first)));
      const all = runs.every(({ pinned }) => pinned);
      parts.push(
        button("thumb-tack", all ? "Unpin" : "Pin", () => pin(runs, !all)),
        button("trash-o", "Delete …", () => ask(`Delete ${counted(ids.length, "run")}?`, ids)),
        button("times", "Select none", () => {
          selected.clear();
          for (const box of wall.root.querySelectorAll<HTMLInputElement>(".cd-select")) {
            box.checked = false;
          }
          show();
        }),
      );
    } else if (model.get("runs").some(({ status }) => status === "failed")) {
      const question = "Delete all failed runs of this workflow?";
      parts.push(button("trash-o", "Delete all failed …", () => ask(question, null)));
    }
    selection.replaceChildren(...parts);
    if (focus) selection.querySelector("button")?.focus();
  };

  const summary = h("summary", {}, "History");
  const refresh = iconButton("refresh", "Refresh the list of runs", () =>
    model.send({ kind: "refresh" }),
  );
  const details = h(
    "details",
    { open: model.get("opened") },
    summary,
    h("div", { className: "cd-line cd-top" }, filters.root, refresh),
    selection,
    notice,
    nothing,
    wall.root,
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
  events.on("msg:custom", (message: Message & { problem?: boolean | string }) => {
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

export default { render };
