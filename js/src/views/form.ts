/** The form of a workflow's inputs. */

import { h, icon, iconButton, newId, setAttribute, setText, setUpRoot } from "../dom.ts";
import { Files } from "../files.ts";
import { Batches } from "../form/batches.ts";
import { makeControl } from "../form/controls.ts";
import type { Control, Field, Form, FormTraits, Typed, Value } from "../form/field.ts";
import type { RemoteOptions } from "../form/remote_list.ts";
import { sizeTools } from "../form/size_tools.ts";
import { offerUnconfirmed } from "../form/unconfirmed.ts";
import { containsWords, searchWords } from "../format.ts";
import { type Context, Subscriptions } from "../model.ts";
import { getJson, pageServer } from "../server.ts";

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

type Message = { kind: string; id: string; key: string; reply?: RemoteOptions; error?: string };

function render({ model, el }: Context<FormTraits>) {
  setUpRoot(el, "form");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  const rows = new Map<string, Row>();

  // Values go to the kernel as messages: changes of the model's state may be delayed. The messages
  // have numbers, because JupyterLab sends some to the kernel's main thread, others to a subshell.
  const page = newId();
  let typed = 0;
  const unconfirmed = new Map<string, Typed>(); // by the id of the message
  const setValues = (values: Record<string, Value>) =>
    model.set("values", { ...model.get("values"), ...values });
  const change = (key: string, value: Value) => {
    const row = rows.get(key);
    if (row) row.shown = value;
    const values = { [key]: value };
    typed += 1;
    const message: Typed = { kind: "typed", id: newId(), page, number: typed, values };
    unconfirmed.set(message.id, message);
    setValues(values);
    model.send(message);
  };
  offerUnconfirmed(el, unconfirmed);
  const refuse = (key: string, text: string) => {
    const row = rows.get(key);
    if (!row) return;
    row.refused = text;
    row.showProblem();
  };
  /** The requests for options that the kernel has not answered yet. */
  const asked = new Map<string, (message: Message) => void>();
  const options = async ({ key, remote }: Field): Promise<RemoteOptions> => {
    const machine = model.get("machine");
    const base = await pageServer(model.get("server"));
    if (base !== null) {
      const query = machine ? `${remote}&${new URLSearchParams({ machine })}` : remote;
      return getJson(`${base}comfyui-deploy/node-options?${query}`);
    }
    const id = newId();
    const { reply, error } = await new Promise<Message>((resolve) => {
      asked.set(id, resolve);
      model.send({ kind: "options", id, key });
    });
    if (!reply) throw new Error(error);
    return reply;
  };
  const watched = new Map<string, Set<(value: Value) => void>>();
  const watch = (key: string, action: (value: Value) => void) => {
    const actions = watched.get(key) ?? new Set();
    watched.set(key, actions.add(action));
    action(model.get("values")[key] ?? null);
    return () => actions.delete(action);
  };
  const play = async (query: string, media: HTMLMediaElement, failed: () => void) => {
    if ((await pageServer(model.get("server"))) === null) failed();
    else files.show(media, query, 0, failed);
  };
  const form: Form = { model, events, files, change, options, play, refuse, watch };

  /** Where the focus goes when the rows of a group are shown in another order. */
  let focused: { key: string; place: number } | null = null;
  const arrange = (key: string, order: (number | null)[]) =>
    model.send({ kind: "arrange", key, order, typed: [...unconfirmed.values()] });

  /** The buttons that add an input to a group, and remove the last one; rows have their own. */
  const groupRow = (field: Field): HTMLElement => {
    const button = (icon: string, label: string, action: () => void, isPossible = false) =>
      iconButton(icon, `${field.label}: ${label}`, action, { disabled: !isPossible });
    const grow = (more: boolean) => () => model.send({ kind: "grow", key: field.key, more });
    const { rows: present } = field;
    const addRow = () => arrange(field.key, [...(present ?? []).keys(), null]);
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
    const others = [...Array(count).keys()].filter((each) => each !== place);
    const move = (to: number, button: number) => () => {
      focused = { key: `${group} ${to}`, place: button };
      arrange(group, [...others.slice(0, to), place, ...others.slice(to)]);
    };
    const remove = () => {
      focused = { key: `${group} ${Math.min(place, count - 2)}`, place: 2 };
      arrange(group, others);
    };
    const button = (icon: string, label: string, action: () => void, disabled: boolean) =>
      iconButton(icon, `${title}: ${label}`, action, { disabled });
    const up = button("arrow-up", "move up", move(place - 1, 0), place === 0);
    const down = button("arrow-down", "move down", move(place + 1, 1), place >= count - 1);
    const least = Number(facts?.least ?? 0);
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
    const id = newId();
    const hintId = newId();
    const control = makeControl(form, field, { id, hintId });
    const undo = iconButton("undo", `${field.label}: back to the value of the workflow`, () => {
      control.set(field.original);
      change(field.key, field.original);
    });
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
    const root = h(
      "div",
      { className: `cd-field cd-${field.kind}` },
      h(
        "label",
        { htmlFor: id, title: `${field.tooltip || field.label} (${field.key})` },
        labelOf(field),
        field.required
          ? h("span", { className: "cd-required", "aria-hidden": "true" }, " *")
          : null,
      ),
      h("div", { className: "cd-control" }, control.root, undo),
      hint,
      problem,
    );
    const row: Row = {
      ...control,
      root,
      input: root.querySelector<HTMLElement>(`#${id}`) ?? root,
      shown: model.get("values")[field.key],
      refused: "",
      showProblem() {
        const text = row.refused || (model.get("problems")[field.key] ?? "");
        problem.textContent = text;
        problem.hidden = !text;
        root.classList.toggle("cd-wrong", Boolean(text));
        setAttribute(row.input, "aria-invalid", text ? "true" : null);
        row.input.setAttribute("aria-describedby", text ? `${problem.id} ${hintId}` : hintId);
      },
      showChanged() {
        const isChanged = model.get("values")[field.key] !== field.original;
        root.classList.toggle("cd-changed", isChanged);
        undo.disabled = !isChanged;
      },
    };
    rows.set(field.key, row);
    // A check box always has a value.
    if (field.required && field.kind !== "bool") row.input.setAttribute("aria-required", "true");
    row.showProblem();
    row.showChanged();
    return root;
  };

  const makeRow = (field: Field) => (field.kind === "group" ? groupRow(field) : fieldRow(field));

  /** The label of a field; the part that repeats the heading is for screen readers only. */
  const labelOf = ({ label, parts }: Field) => {
    const [before, shown, after] = parts ?? ["", label, ""];
    const unseen = (text: string) => (text ? h("span", { className: "cd-unseen" }, text) : null);
    return [unseen(before), shown, unseen(after)];
  };

  /** The tools for sizes, by the key of the width. */
  const tools = new Map<string, () => void>();
  const sizeRow = (width: Field, height: Field): HTMLElement => {
    const read = (): [number, number] => {
      const values = model.get("values");
      return [Number(values[width.key]), Number(values[height.key])];
    };
    const made = sizeTools([width, height], read, (size) => {
      for (const [place, { key }] of [width, height].entries()) {
        const value = String(size[place]);
        rows.get(key)?.set(value);
        change(key, value);
      }
    });
    tools.set(width.key, made.show);
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
      onclick: () => model.send({ kind: "reset" }),
    },
    icon("undo"),
    " Reset all",
  );
  const head = h("div", { className: "cd-line cd-form-head" }, count, reset);
  const showCount = () => {
    const values = model.get("values");
    const changed = model
      .get("fields")
      .filter(({ key, kind, original }) => kind !== "group" && values[key] !== original).length;
    const number = changed + model.get("others").length;
    setText(count, number ? `${number} changed` : "As in the workflow");
    reset.disabled = !number;
  };

  /** The inputs without a field that code has set. */
  const others = h("div", { className: "cd-unshown cd-faint" });
  const showOthers = () => {
    const set = model.get("others");
    others.hidden = !set.length;
    others.textContent = `Also set: ${set.map(({ key, value }) => `${key} = ${value}`).join(" · ")}`;
  };

  const lists: Batches<Field>[] = [];
  const list = (fields: Field[]): Batches<Field> => {
    const { put, begin } = putter();
    const made = new Batches<Field>(put, begin);
    lists.push(made);
    made.show(fields);
    return made;
  };
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
      { className: "cd-others", open: model.get("opened") },
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
      model.set("opened", details.open);
      model.send({ kind: "open", opened: details.open });
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

  const build = () => {
    // A value may determine which fields exist. The field that has the focus keeps it.
    const active = document.activeElement as HTMLElement;
    const [found, row] = [...rows].find(([, { root }]) => root.contains(active)) ?? [];
    const key = focused?.key ?? found;
    const place = focused?.place ?? (row ? controlsIn(row.root).indexOf(active) : -1);
    focused = null;
    for (const each of rows.values()) each.end?.();
    rows.clear();
    tools.clear();
    for (const each of lists.splice(0)) each.end();
    reach = () => {};
    const fields = model.get("fields");
    byKey = new Map(fields.map((field) => [field.key, field]));
    const more = fields.filter((field) => field.more);
    const first = list(fields.filter((field) => !field.more));
    el.replaceChildren(head, first.root);
    head.hidden = !fields.length;
    if (more.length) el.append(moreInputs(more));
    el.append(others);
    showOthers();
    showCount();
    const again = key === undefined ? undefined : rows.get(key);
    if (!again) return;
    const usable = (control: HTMLElement) => !control.matches(":disabled");
    const controls = controlsIn(again.root);
    const same = controls[place];
    (same && usable(same) ? same : (controls.find(usable) ?? again.input)).focus();
  };
  const controlsIn = (root: HTMLElement) => [
    ...root.querySelectorAll<HTMLElement>("input, select, textarea, button"),
  ];

  const showValues = () => {
    // Later input of the user is newer than these values of the kernel.
    const newer: Record<string, Value> = {};
    for (const { values } of unconfirmed.values()) Object.assign(newer, values);
    const values = model.get("values");
    if (Object.keys(newer).some((key) => key in values && values[key] !== newer[key])) {
      return setValues(newer);
    }
    for (const [key, row] of rows) {
      const value = values[key];
      // A control that already shows the value is not changed, so that the cursor stays.
      if (row.shown !== value) row.set(value ?? null);
      row.shown = value;
      row.showChanged();
    }
    for (const show of tools.values()) show();
    for (const [key, actions] of watched) {
      for (const action of actions) action(values[key] ?? null);
    }
    showCount();
  };
  const focus = (key: string) => {
    const field = byKey.get(key);
    if (field?.more) reach(field);
    else if (field) lists[0]?.reach(field);
    const row = rows.get(key);
    if (!row) return;
    row.root.scrollIntoView({ block: "center" });
    row.input.focus({ preventScroll: true });
  };

  events.on("change:fields", build);
  events.on("change:values", showValues);
  events.on("change:problems", () => {
    for (const row of rows.values()) row.showProblem();
  });
  events.on("change:others", () => {
    showOthers();
    showCount();
  });
  events.on("msg:custom", (message: Message) => {
    if (message.kind === "took") unconfirmed.delete(message.id);
    if (message.kind === "options") {
      asked.get(message.id)?.(message);
      asked.delete(message.id);
    }
    if (message.kind === "focus") focus(message.key);
  });
  build();
  return () => {
    for (const row of rows.values()) row.end?.();
    for (const each of lists) each.end();
    events.end();
    files.end();
  };
}

export default { render };
