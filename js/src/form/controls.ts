/** The controls of a form, by the kind of their field. */

import { effect } from "@preact/signals";
import { comboBox, type Option } from "../combo_box.ts";
import { h, iconButton } from "../dom.ts";
import { formatBytes, messageOf } from "../format.ts";
import { loadScript } from "../load_panels.ts";
import type { videoEdit } from "../viewers/video_edit.ts";
import type { Control, Field, Form, ModelFacts, Value } from "./field.ts";
import { isMedia, mediaControl } from "./media_control.ts";
import { remoteChoice } from "./remote_list.ts";
import { slider } from "./slider.ts";

const FOLDER = /^(.*)[/\\]([^/\\]+)$/;
const LONG_LIST = 8; // a list with so many choices can be searched

type Shared = { id: string; "aria-describedby": string };

/** Create the control of a field; a group has none. */
export function makeControl(form: Form, field: Field): Control {
  if (field.kind === "bool") return checkBox(form);
  if (field.kind === "multiline") return textArea(form);
  if (field.kind === "video_edit") return partOfVideo(form, field);
  if (isMedia(field.kind)) return mediaControl(form, field, field.kind);
  if (field.remote) return remoteChoice(form, field);
  if (field.options) return choice(form, field, field.options);
  if (field.kind === "color") return colorPicker(form, field);
  if (field.kind === "seed") return seedInput(form, field);
  return textInput(form, field);
}

/** Return the text for a value in a text element. */
function textOf(value: Value): string {
  return String(value ?? "");
}

function shared({ id, hintId }: Form): Shared {
  return { id, "aria-describedby": hintId };
}

/** Return the control of a text element, and send the text that users type. */
function typedInto(
  form: Form,
  input: HTMLInputElement | HTMLTextAreaElement,
  root: HTMLElement = input,
): Control {
  input.addEventListener("input", () => form.change(input.value));
  const set = (value: Value) => {
    input.value = textOf(value);
  };
  return { root, set };
}

/** The control for a part of a video, whose script is loaded when it is first needed. */
function partOfVideo(form: Form, field: Field): Control {
  const root = h("div");
  let { value } = form;
  let control: Control | null = null;
  let isOver = false;
  loadScript<{ videoEdit: typeof videoEdit }>(form.media.transport, "video_edit").then(
    (script) => {
      if (isOver) return;
      control = script.videoEdit({ ...form, value }, field);
      root.replaceChildren(control.root);
    },
    (error) => root.append(messageOf(error)),
  );
  return {
    root,
    set(now) {
      value = now;
      control?.set(now);
    },
    end() {
      isOver = true;
      control?.end?.();
    },
  };
}

function checkBox(form: Form): Control {
  const onchange = () => form.change(box.checked);
  const box = h("input", {
    ...shared(form),
    type: "checkbox",
    checked: Boolean(form.value),
    onchange,
  });
  const set = (now: Value) => {
    box.checked = Boolean(now);
  };
  return { root: box, set };
}

function textArea(form: Form): Control {
  return typedInto(
    form,
    h("textarea", { ...shared(form), dir: "auto", rows: 3, value: textOf(form.value) }),
  );
}

function textInput(form: Form, field: Field): Control {
  const isNumber = field.kind === "int" || field.kind === "float";
  const range = isNumber
    ? { min: field.min ?? undefined, max: field.max ?? undefined, step: field.step || "any" }
    : {};
  const input = h("input", {
    ...shared(form),
    type: isNumber ? "number" : "text",
    dir: isNumber ? undefined : "auto",
    className: isNumber ? "cd-short" : "",
    placeholder: field.range ?? "",
    ...range,
    value: textOf(form.value),
  });
  if (!field.slider) return typedInto(form, input);
  const slide = slider(field, input);
  const root = h("div", { className: "cd-line cd-slide" }, slide.root, input);
  const { set } = typedInto(form, input, root);
  return {
    root,
    set(now) {
      set(now);
      slide.show();
    },
  };
}

function choice(form: Form, field: Field, options: Value[]): Control {
  const { value } = form;
  if (field.models) return modelPicker(form, field, field.models, options);
  const all = options.includes(value) ? [...options] : [value, ...options];
  if (all.length >= LONG_LIST) {
    return comboBox({
      id: form.id,
      label: field.label,
      value,
      options: all.map((option) => ({ value: option, text: textOf(option) })),
      describedBy: form.hintId,
      choose: (now) => form.change(now as Value),
    });
  }
  const onchange = () => form.change(all[select.selectedIndex] ?? null);
  const select = h(
    "select",
    { ...shared(form), onchange },
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

/**
 * A list of models by their folders, each with its size and the picture beside it. If there are
 * models that `listed` lacks, it is read again when the user opens it.
 */
function modelPicker(form: Form, field: Field, folder: string, listed: Value[]): Control {
  let facts = new Map<string, ModelFacts>();
  let present = form.value;
  const nameOf = (value: Value) => textOf(value).replaceAll("\\", "/");
  const known = new Set(listed.map(nameOf));
  const inFolders = (name: Value) => {
    const [, group = "", short = ""] = FOLDER.exec(textOf(name)) ?? [];
    return group ? { group, short } : {};
  };
  const options = () => {
    const names = listed.includes(present) ? listed : [present, ...listed];
    const hasFolders = names.some((name) => FOLDER.test(textOf(name)));
    const all = names.map((value): Option => {
      const text = textOf(value);
      const { size = null, picture } = facts.get(nameOf(value)) ?? {};
      const note = size === null ? undefined : formatBytes(size);
      return { value, text, note, picture, ...(hasFolders && inFolders(value)) };
    });
    // those of one folder stand together, after those of no folder
    const groups = [...new Set(all.map(({ group = "" }) => group))].sort();
    return groups.flatMap((name) => all.filter(({ group = "" }) => group === name));
  };
  const combo = comboBox({
    id: form.id,
    label: field.label,
    value: form.value,
    options: options(),
    describedBy: form.hintId,
    choose: (now) => {
      present = now as Value;
      form.change(present);
    },
    opened: async () => {
      facts = await form.models(folder).catch(() => facts); // the names are known nevertheless
      combo.setOptions(options(), present);
      const added = [...facts.keys()].filter((name) => !known.has(name));
      if (!added.length) return;
      for (const name of added) known.add(name); // also if the field does not offer it
      await form.relist().catch(() => {});
      combo.setOptions(options(), present);
    },
  });
  return {
    ...combo,
    set(now) {
      present = now;
      combo.setOptions(options(), now);
    },
  };
}

function colorPicker(form: Form, field: Field): Control {
  const picker = h("input", {
    type: "color",
    value: textOf(form.value),
    "aria-label": `${field.label}: pick a colour`,
    oninput: () => {
      text.value = picker.value;
      form.change(picker.value);
    },
  });
  const text = h("input", {
    ...shared(form),
    type: "text",
    value: textOf(form.value),
    spellcheck: false,
    className: "cd-short",
    oninput: () => {
      if (/^#[0-9a-f]{6}$/i.test(text.value)) picker.value = text.value;
      form.change(text.value);
    },
  });
  const set = (now: Value) => {
    picker.value = text.value = textOf(now);
  };
  return { root: h("div", { className: "cd-line" }, picker, text), set };
}

function seedInput(form: Form, field: Field): Control {
  const input = h("input", {
    ...shared(form),
    type: "text",
    inputMode: "numeric",
    className: "cd-short",
    spellcheck: false,
    value: textOf(form.value),
  });
  const draw = iconButton("random", `${field.label}: choose a random number`, form.draw);
  const lock = iconButton("lock", `${field.label}: keep for every run`, () =>
    form.lock(!form.isLocked()),
  );
  const state = h("span", { className: "cd-faint" });
  const end = effect(() => {
    const isLocked = form.isLocked();
    const picture = lock.querySelector("i");
    if (picture) picture.className = `fa fa-${isLocked ? "lock" : "unlock-alt"}`;
    lock.setAttribute("aria-pressed", String(isLocked));
    state.textContent = isLocked ? "kept" : "new for each run";
  });
  const root = h("div", { className: "cd-line" }, input, draw, lock, state);
  return { ...typedInto(form, input, root), end };
}
