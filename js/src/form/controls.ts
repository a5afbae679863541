/** The controls of a form, by the kind of their field. */

import { comboBox } from "../combo_box.ts";
import { h, iconButton } from "../dom.ts";
import type { Control, Field, Form, Ids, Value } from "./field.ts";
import { isMedia, mediaControl } from "./media_control.ts";
import { remoteChoice } from "./remote_list.ts";
import { slider } from "./slider.ts";
import { videoEdit } from "./video_edit.ts";

const LONG_LIST = 8; // a list with so many choices can be searched

type Shared = { id: string; "aria-describedby": string };

/** Create the control of a field; a group has none. */
export function makeControl(form: Form, field: Field, ids: Ids): Control {
  const value = form.model.get("values")[field.key] ?? null;
  if (field.kind === "bool") return checkBox(form, field, ids, value);
  if (field.kind === "multiline") return textArea(form, field, ids, value);
  if (field.kind === "video_edit") return videoEdit(form, field, ids, value);
  if (isMedia(field.kind)) return mediaControl(form, field, field.kind, ids, value);
  if (field.remote) return remoteChoice(form, field, ids, value);
  if (field.options) return choice(form, field, field.options, ids, value);
  if (field.kind === "color") return colorPicker(form, field, ids, value);
  if (field.kind === "seed") return seedInput(form, field, ids, value);
  return textInput(form, field, ids, value);
}

/** Return the text for a value in a text element. */
function textOf(value: Value): string {
  return String(value ?? "");
}

function shared({ id, hintId }: Ids): Shared {
  return { id, "aria-describedby": hintId };
}

/** Return the control of a text element, and send the text that users type. */
function typedInto(
  form: Form,
  field: Field,
  input: HTMLInputElement | HTMLTextAreaElement,
  root: HTMLElement = input,
): Control {
  input.addEventListener("input", () => form.change(field.key, input.value));
  const set = (value: Value) => {
    input.value = textOf(value);
  };
  return { root, set };
}

function checkBox(form: Form, field: Field, ids: Ids, value: Value): Control {
  const onchange = () => form.change(field.key, box.checked);
  const box = h("input", {
    ...shared(ids),
    type: "checkbox",
    checked: Boolean(value),
    onchange,
  });
  const set = (now: Value) => {
    box.checked = Boolean(now);
  };
  return { root: box, set };
}

function textArea(form: Form, field: Field, ids: Ids, value: Value): Control {
  return typedInto(
    form,
    field,
    h("textarea", { ...shared(ids), dir: "auto", rows: 3, value: textOf(value) }),
  );
}

function textInput(form: Form, field: Field, ids: Ids, value: Value): Control {
  const isNumber = field.kind === "int" || field.kind === "float";
  const range = isNumber
    ? { min: field.min ?? undefined, max: field.max ?? undefined, step: field.step || "any" }
    : {};
  const input = h("input", {
    ...shared(ids),
    type: isNumber ? "number" : "text",
    dir: isNumber ? undefined : "auto",
    className: isNumber ? "cd-short" : "",
    placeholder: field.range ?? "",
    ...range,
    value: textOf(value),
  });
  if (!field.slider) return typedInto(form, field, input);
  const slide = slider(field, input);
  const root = h("div", { className: "cd-line cd-slide" }, slide.root, input);
  const { set } = typedInto(form, field, input, root);
  return {
    root,
    set(now) {
      set(now);
      slide.show();
    },
  };
}

function choice(form: Form, field: Field, options: Value[], ids: Ids, value: Value): Control {
  const all = options.includes(value) ? [...options] : [value, ...options];
  if (all.length >= LONG_LIST) {
    return comboBox({
      id: ids.id,
      label: field.label,
      value,
      options: all.map((option) => ({ value: option, text: textOf(option) })),
      describedBy: ids.hintId,
      choose: (now) => form.change(field.key, now as Value),
    });
  }
  const onchange = () => form.change(field.key, all[select.selectedIndex] ?? null);
  const select = h(
    "select",
    { ...shared(ids), onchange },
    all.map((option) => h("option", {}, textOf(option))),
  );
  const set = (now: Value) => {
    if (!all.includes(now)) {
      all.push(now);
      select.append(h("option", {}, textOf(now)));
    }
    select.selectedIndex = all.indexOf(now);
  };
  set(value);
  return { root: select, set };
}

function colorPicker(form: Form, field: Field, ids: Ids, value: Value): Control {
  const picker = h("input", {
    type: "color",
    value: textOf(value),
    "aria-label": `${field.label}: pick a colour`,
    oninput: () => {
      text.value = picker.value;
      form.change(field.key, picker.value);
    },
  });
  const text = h("input", {
    ...shared(ids),
    type: "text",
    value: textOf(value),
    spellcheck: false,
    className: "cd-short",
    oninput: () => {
      if (/^#[0-9a-f]{6}$/i.test(text.value)) picker.value = text.value;
      form.change(field.key, text.value);
    },
  });
  const set = (now: Value) => {
    picker.value = text.value = textOf(now);
  };
  return { root: h("div", { className: "cd-line" }, picker, text), set };
}

function seedInput(form: Form, field: Field, ids: Ids, value: Value): Control {
  const { model, events } = form;
  const input = h("input", {
    ...shared(ids),
    type: "text",
    inputMode: "numeric",
    className: "cd-short",
    spellcheck: false,
    value: textOf(value),
  });
  const draw = iconButton("random", `${field.label}: choose a random number`, () =>
    model.send({ kind: "draw", key: field.key }),
  );
  const isLocked = () => model.get("locked").includes(field.key);
  const lock = iconButton("lock", `${field.label}: keep for every run`, () => {
    const others = model.get("locked").filter((key) => key !== field.key);
    const locked = !isLocked();
    model.set("locked", locked ? [...others, field.key] : others);
    model.send({ kind: "lock", key: field.key, locked });
  });
  const state = h("span", { className: "cd-faint" });
  const show = () => {
    const locked = isLocked();
    const picture = lock.querySelector("i");
    if (picture) picture.className = `fa fa-${locked ? "lock" : "unlock-alt"}`;
    lock.setAttribute("aria-pressed", String(locked));
    state.textContent = locked ? "kept" : "new for each run";
  };
  show();
  events.on("change:locked", show);
  return typedInto(
    form,
    field,
    input,
    h("div", { className: "cd-line" }, input, draw, lock, state),
  );
}
