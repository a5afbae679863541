/** Draws the form of a workflow's inputs. */

import { computed, effect, untracked } from "@preact/signals";
import { h, icon, iconButton, newId, setAttribute, setText } from "../dom.ts";
import { containsWords, searchWords } from "../format.ts";
import type { IconName } from "../icons.ts";
import { mediaOf } from "../media.tsx";
import type { FormState } from "../state/form.ts";
import type { Transport } from "../transport.ts";
import { Batches } from "./batches.ts";
import { makeControl } from "./controls.ts";
import type { Control, Field, Form, Value } from "./field.ts";
import { viewQuery } from "./media_control.ts";
import { modelsOf } from "./models.ts";
import { sizeTools } from "./size_tools.ts";
import { canVary, varyButton } from "./vary.ts";

const SEARCHED = 8; // "More inputs" with more fields than this have a search

/** One line of the form. */
type Row = Control & {
  /** The element that gets the focus. */
  input: HTMLElement;
  /** The value that the control shows, if it is known. */
  shown?: Value | undefined;
  /** Why the page does not accept a value. */
  refused: string;
  showProblem: () => void;
  showChanged: () => void;
};

/** Draw a form, and what changes in it; `focus` moves the focus to a field, wherever that is. */
export function drawForm(
  el: HTMLElement,
  state: FormState,
  transport: Transport,
  /** Called when the user wants to paint on the picture with this name, the value of a field. */
  paint: (key: string, name: string) => Promise<void> = async () => {},
): { focus: (key: string) => void; end: () => void } {
  const rows = new Map<string, Row>();
  /** What shows the tools for a size, by the keys of its width and its height. */
  const tools = new Map<string, () => void>();
  const media = mediaOf(transport);

  const watch = (key: string, action: (value: Value) => void) => {
    const value = computed(() => state.values.value[key] ?? null);
    return effect(() => {
      const now = value.value;
      untracked(() => action(now));
    });
  };
  /** What the form does for the control of a field. */
  const formOf = ({ key, remote = "" }: Field): Form => ({
    id: newId(),
    hintId: newId(),
    value: state.values.peek()[key] ?? null,
    change: (value) => {
      const row = rows.get(key);
      if (row) row.shown = value;
      state.change(key, value);
    },
    refuse: (text) => {
      const row = rows.get(key);
      if (!row || row.refused === text) return;
      row.refused = text;
      row.showProblem();
    },
    isLocked: () => state.locked.value.includes(key),
    lock: (isLocked) => state.lock(key, isLocked),
    draw: () => state.draw(key),
    options: () => {
      const query = Object.fromEntries(new URLSearchParams(remote));
      return transport.get("node-options", { ...query, machine: state.machine });
    },
    models: (folder) => modelsOf(transport, folder, state.machine),
    relist: () => state.relist(),
    upload: (file) => state.upload(key, file),
    giveUp: () => state.stopSending(key),
    store: (file, signal) => state.store(file, { signal }),
    present: () => state.values.peek()[key] ?? null,
    varied: () => state.varied.value[key]?.text,
    vary: (text) => state.vary(key, text),
    partners: () => {
      const own = state.leaderOf(key);
      return state.axes.value
        .filter(({ leader }) => leader !== key)
        .map(({ leader }) => ({
          key: leader,
          label: state.row(leader)?.label ?? leader,
          isWith: leader === own,
        }));
    },
    varyAlong: (other) => state.varyAlong(key, other),
    sending: () => state.uploads.value[key]?.text ?? "",
    paint: (name) => paint(key, name),
    media,
    query: (name) => viewQuery(name, state.machine),
    watch,
  });

  /** Where the focus goes when the rows of a group are shown in another order. */
  let focused: { key: string; place: number } | null = null;

  /** The buttons that add an input to a group, and remove the last one; rows have their own. */
  const groupRow = (field: Field): HTMLElement => {
    const button = (icon: IconName, label: string, action: () => void, isPossible = false) =>
      iconButton(icon, `${field.label}: ${label}`, action, { disabled: !isPossible });
    const grow = (more: boolean) => () => state.grow(field.key, more);
    const { rows: present } = field;
    const addRow = () =>
      state.arrange(field.key, (order) =>
        order.length < Number(field.most ?? Infinity) ? [...order, null] : order,
      );
    const add = present
      ? button("plus", "add a row", addRow, field.can_grow)
      : button("plus", "add a value", grow(true), field.can_grow);
    const less = present
      ? null
      : button("minus", "remove the last value", grow(false), field.can_shrink);
    const root = h(
      "div",
      { className: "cd-field cd-group", role: "group", "aria-label": field.label },
      h("span", { className: "cd-label", title: field.label }, labelOf(field)),
      h(
        "div",
        { className: "cd-line" },
        add,
        less,
        h("span", { className: "cd-faint", role: "status" }, field.hint),
      ),
    );
    rows.set(field.key, withoutValue(root, add));
    return root;
  };

  const withoutValue = (root: HTMLElement, input: HTMLElement): Row => {
    const nothing = () => {};
    return {
      root,
      input,
      refused: "",
      set: nothing,
      showProblem: nothing,
      showChanged: nothing,
    };
  };

  /** The box of a row of a group, with the buttons that move and remove it. */
  const rowBox = ({ group, place, title }: NonNullable<Field["row"]>): HTMLElement => {
    const facts = byKey.get(group);
    const count = facts?.rows?.length ?? 0;
    const least = Number(facts?.least ?? 0);
    // The row may have been moved or removed since it was drawn.
    const move = (by: number, button: number) => () =>
      state.arrange(group, (order) => {
        const to = order.indexOf(place) + by;
        if (!order.includes(place) || to < 0 || to >= order.length) return order;
        focused = { key: `${group} ${to}`, place: button };
        const others = order.filter((each) => each !== place);
        return [...others.slice(0, to), place, ...others.slice(to)];
      });
    const remove = () =>
      state.arrange(group, (order) => {
        const others = order.filter((each) => each !== place);
        if (others.length === order.length || others.length < least) return order;
        const next = Math.min(order.indexOf(place), others.length - 1);
        focused = others.length ? { key: `${group} ${next}`, place: 2 } : { key: group, place: 0 };
        return others;
      });
    const button = (icon: IconName, label: string, action: () => void, disabled: boolean) =>
      iconButton(icon, `${title}: ${label}`, action, { disabled });
    const up = button("arrow-up", "move up", move(-1, 0), place === 0);
    const down = button("arrow-down", "move down", move(1, 1), place >= count - 1);
    const away = button("times", "remove", remove, count <= least);
    const head = h(
      "div",
      { className: "cd-line cd-group-row-head" },
      h("span", { className: "cd-label cd-grow" }, title),
      up,
      down,
      away,
    );
    rows.set(`${group} ${place}`, withoutValue(head, away));
    return h("div", { className: "cd-group-row", role: "group", "aria-label": title }, head);
  };

  const fieldRow = (field: Field): HTMLElement => {
    const form = formOf(field);
    const { id, hintId } = form;
    const control = makeControl(form, field);
    const undo = iconButton("undo", `${field.label}: back to the value of the workflow`, () =>
      state.change(field.key, field.original),
    );
    undo.classList.add("cd-back");
    const help = [field.tooltip ?? "", field.hint].filter(Boolean);
    const hint = h(
      "div",
      { id: hintId, className: "cd-hint", hidden: !help.length },
      help.map((text) => h("div", {}, text)),
    );
    const problem = h("div", {
      id: newId(),
      className: "cd-problem",
      "aria-live": "polite",
      hidden: true,
    });
    const label = h(
      "label",
      { htmlFor: id, title: `${field.tooltip || field.label} (${field.key})` },
      labelOf(field),
      field.required ? h("span", { className: "cd-required", "aria-hidden": "true" }, " *") : null,
    );
    const controls = h("div", { className: "cd-control" }, control.root, undo);
    const root = h(
      "div",
      { className: `cd-field cd-${field.kind}` },
      label,
      controls,
      hint,
      problem,
    );
    const row: Row = {
      ...control,
      root,
      input: root.querySelector<HTMLElement>(`#${id}`) ?? root,
      shown: form.value,
      refused: "",
      showProblem() {
        const text = row.refused || (state.problems.peek()[field.key] ?? "");
        if (text === problem.textContent) return;
        problem.textContent = text;
        problem.hidden = !text;
        root.classList.toggle("cd-wrong", Boolean(text));
        setAttribute(row.input, "aria-invalid", text ? "true" : null);
        row.input.setAttribute("aria-describedby", text ? `${problem.id} ${hintId}` : hintId);
      },
      showChanged() {
        const isChanged = state.values.peek()[field.key] !== field.original;
        root.classList.toggle("cd-changed", isChanged);
        undo.disabled = !isChanged;
      },
    };
    rows.set(field.key, row);
    // A check box always has a value.
    if (field.required && field.kind !== "bool") row.input.setAttribute("aria-required", "true");
    if (canVary(field)) {
      const { input } = row;
      let shown: HTMLElement | null = null;
      const several = varyButton(form, field, (editor) => {
        shown?.remove();
        shown = editor?.root ?? null;
        if (shown) undo.before(shown);
        row.input = editor?.text ?? input;
        label.htmlFor = row.input.id;
        root.classList.toggle("cd-varied", editor !== null);
      });
      controls.after(several.button);
      row.end = () => {
        control.end?.();
        several.end();
      };
    }
    row.showProblem();
    row.showChanged();
    return root;
  };

  const makeRow = (field: Field) => (field.kind === "group" ? groupRow(field) : fieldRow(field));

  /** The label of a field; the part that repeats the heading is for screen readers only. */
  const labelOf = ({ label, parts }: Field) => {
    const [before, shown, after] = parts ?? ["", label, ""];
    const unseen = (text: string) => (text ? h("span", { className: "cd-unseen" }, text) : null);
    return [unseen(before), ...breakable(shown), unseen(after)];
  };

  const sizeRow = (width: Field, height: Field): HTMLElement => {
    const read = (): [number, number] => {
      const values = state.values.peek();
      return [Number(values[width.key]), Number(values[height.key])];
    };
    const made = sizeTools([width, height], read, (size) => {
      for (const [place, { key }] of [width, height].entries()) {
        state.change(key, String(size[place]));
      }
    });
    for (const { key } of [width, height]) tools.set(key, made.show);
    return made.root;
  };

  /** Puts the rows of fields into a list, with the headings of their sections. */
  const putter = () => {
    let section: { id: number; root: HTMLElement } | null = null;
    let box: { id: string; root: HTMLElement } | null = null;
    const begin = () => {
      section = null;
      box = null;
    };
    const put = (root: HTMLElement, field: Field) => {
      let target = root;
      if (!field.section) section = null;
      else if (section?.id === field.section.id) target = section.root;
      else {
        const { id, title } = field.section;
        const headingId = newId();
        target = h(
          "div",
          { className: "cd-section", role: "group", "aria-labelledby": headingId },
          h("div", { className: "cd-heading", id: headingId, title }, title),
        );
        root.append(target);
        section = { id, root: target };
      }
      if (!field.row) box = null;
      else {
        const id = `${field.row.group} ${field.row.place}`;
        if (box?.id !== id || !target.contains(box.root)) {
          box = { id, root: rowBox(field.row) };
          target.append(box.root);
        }
        target = box.root;
      }
      target.append(rows.get(field.key)?.root ?? makeRow(field));
      const width = byKey.get(field.width ?? "");
      if (width) target.append(sizeRow(width, field));
    };
    return { put, begin };
  };
  let byKey = new Map<string, Field>();

  /** The number of changed values, and a button that undoes all changes. */
  const count = h("span", { className: "cd-faint cd-grow", role: "status" });
  const reset = h(
    "button",
    {
      type: "button",
      className: "cd-button",
      title: "Set all inputs to the values of the workflow",
      onclick: () => state.reset(),
    },
    icon("undo"),
    " Reset all",
  );
  const head = h("div", { className: "cd-line cd-form-head" }, count, reset);
  const showCount = () => {
    const values = state.values.value;
    const varied = state.varied.value;
    const changed = Object.keys({ ...state.changed.value, ...varied }).filter((key) => {
      const row = state.row(key);
      return row && row.kind !== "group" && (values[key] !== row.original || key in varied);
    }).length;
    const number = changed + Object.keys(state.others.value).length;
    setText(count, number ? `${number} changed` : "As in the workflow");
    reset.disabled = !number;
  };

  /** The inputs without a field that code has set. */
  const others = h("div", { className: "cd-unshown cd-faint" });
  const showOthers = () => {
    const set = Object.entries(state.others.value);
    others.hidden = !set.length;
    others.textContent = `Also set: ${set.map(([key, value]) => `${key} = ${value}`).join(" · ")}`;
  };

  const lists: Batches<Field>[] = [];
  const list = (fields: Field[]): Batches<Field> => {
    const { put, begin } = putter();
    const made = new Batches<Field>(put, begin);
    lists.push(made);
    made.show(fields);
    return made;
  };
  let isOpened = false; // "More inputs"
  /** Show a field that is below "More inputs", or that is not in the page yet. */
  let reach = (_: Field) => {};

  /** "More inputs": fields that are created when they are first shown. */
  const moreInputs = (fields: Field[]): HTMLElement => {
    const search = h("input", {
      type: "search",
      placeholder: "Find an input",
      "aria-label": "Find an input",
      oninput: () => find(search.value),
    });
    const found = h("div", { className: "cd-faint", role: "status" });
    const details = h(
      "details",
      { className: "cd-others", open: isOpened },
      h("summary", {}, `More inputs (${fields.length})`),
    );
    let rest: Batches<Field> | null = null;
    const find = (text: string) => {
      const words = searchWords(text);
      const matches = fields.filter(({ label, key }) => containsWords(`${label} ${key}`, words));
      rest?.show(matches);
      setText(found, words.length ? `${matches.length} found` : "");
    };
    const fill = () => {
      if (!details.open || rest) return;
      if (fields.length > SEARCHED) {
        details.append(h("div", { className: "cd-line cd-search" }, search, found));
      }
      rest = list(fields);
      details.append(rest.root);
    };
    details.addEventListener("toggle", () => {
      fill();
      isOpened = details.open;
    });
    fill();
    reach = (field) => {
      details.open = true;
      fill();
      if (search.value) {
        search.value = "";
        find("");
      }
      rest?.reach(field);
    };
    return details;
  };

  const controlsIn = (root: HTMLElement) => [
    ...root.querySelectorAll<HTMLElement>("input, select, textarea, button"),
  ];
  const reachIn = (field: Field) => (field.more ? reach(field) : lists[0]?.reach(field));

  /** Let a button that does nothing more have the focus: the next key press must not use another. */
  const rest = (button: HTMLButtonElement) => {
    const is = (disabled: boolean) => {
      button.disabled = disabled;
      setAttribute(button, "aria-disabled", disabled ? null : "true");
    };
    is(false);
    button.addEventListener("blur", () => is(true), { once: true });
  };

  let built: Field[] | null = null;
  let shown: Record<string, Value> = {};

  const build = (fields: Field[]) => {
    // A value may determine which fields exist. The others stay, with what is typed in their tools,
    // and the one that has the focus keeps it.
    const active = document.activeElement as HTMLElement;
    const [found, row] = [...rows].find(([, { root }]) => root.contains(active)) ?? [];
    const key = focused?.key ?? found;
    const place = focused?.place ?? (row ? controlsIn(row.root).indexOf(active) : -1);
    const isPressed = focused !== null;
    focused = null;
    const before = byKey;
    byKey = new Map(fields.map((field) => [field.key, field]));
    for (const [key, each] of rows) {
      const isSame = byKey.has(key) && byKey.get(key) === before.get(key);
      if (isSame && (!each.refused || key in state.varied.peek())) continue;
      each.end?.();
      rows.delete(key);
    }
    tools.clear();
    for (const each of lists.splice(0)) each.end();
    reach = () => {};
    const more = fields.filter((field) => field.more);
    const first = list(fields.filter((field) => !field.more));
    el.replaceChildren(head, first.root);
    head.hidden = !fields.length;
    if (more.length) el.append(moreInputs(more));
    el.append(others);
    if (key === undefined) return;
    const isIts = ({ row }: Field) => row && `${row.group} ${row.place}` === key;
    const field = byKey.get(key) ?? fields.find(isIts);
    if (field && !el.contains(rows.get(key)?.root ?? null)) reachIn(field);
    const again = rows.get(key);
    if (!again) return;
    const usable = (control: HTMLElement) => !control.matches(":disabled");
    const controls = controlsIn(again.root);
    const same = controls[place];
    if (isPressed && same && !usable(same)) rest(same as HTMLButtonElement);
    (same && usable(same) ? same : (controls.find(usable) ?? again.input)).focus();
  };

  const showValues = (values: Record<string, Value>) => {
    for (const [key, row] of rows) {
      const value = values[key] ?? null;
      if (value === (shown[key] ?? null)) continue;
      // A control that already shows the value is not changed, so that the cursor stays.
      if (row.shown !== value) row.set(value);
      row.shown = value;
      row.showChanged();
      tools.get(key)?.();
    }
  };

  const show = () => {
    const fields = state.rows.value;
    const values = state.values.value;
    untracked(() => {
      if (fields !== built) build(fields);
      showValues(values);
    });
    built = fields;
    shown = values;
  };
  const showProblems = () => {
    state.problems.value; // each row reads its own
    for (const row of rows.values()) row.showProblem();
  };
  const ends = [show, showProblems, showCount, showOthers].map((part) => effect(part));
  return {
    focus(key) {
      const field = byKey.get(key);
      if (field) reachIn(field);
      const row = rows.get(key);
      if (!row) return;
      row.root.scrollIntoView({ block: "center" });
      row.input.focus({ preventScroll: true });
    },
    end() {
      for (const end of ends) end();
      for (const row of rows.values()) row.end?.();
      for (const each of lists) each.end();
    },
  };
}

/** Return a text that may be broken after each underscore; most names of inputs have no space. */
function breakable(text: string): (string | HTMLElement)[] {
  return text.split(/(?<=_)/).flatMap((part, place) => (place ? [h("wbr"), part] : [part]));
}
