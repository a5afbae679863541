/** Lets an input take several values, each on its own line of a text. */

import { effect, untracked } from "@preact/signals";
import { comboBox } from "../combo_box.ts";
import { fileButton, h, iconButton, isAccepted, newId, setText } from "../dom.ts";
import { counted, messageOf } from "../format.ts";
import { isListed, linesOf } from "../state/form.ts";
import { droppedFiles } from "../transfers/dropped_files.ts";
import type { Field, Form } from "./field.ts";
import { isMedia, MEDIA } from "./media_control.ts";

const MOST = 10_000; // values of a range; more are likely a mistake

/** What takes the values. */
type Editor = {
  root: HTMLElement;
  text: HTMLTextAreaElement;
  show: (now: string) => void;
  end: () => void;
};

/** Whether an input can take several values: not if it determines which inputs there are. */
export function canVary({ kind, dynamic }: Field): boolean {
  return kind !== "group" && kind !== "video_edit" && !dynamic;
}

/** Create the button that lets a field take several values; `show` puts them into its place. */
export function varyButton(
  form: Form,
  field: Field,
  show: (editor: Editor | null) => void,
): { button: HTMLButtonElement; end: () => void } {
  let made: Editor | null = null;
  let isOn: boolean | null = null;
  const button = iconButton("clone", "", () => {
    form.vary(form.varied() === undefined ? firstOf(form.present(), field) : null);
    (isOn ? made?.text : button)?.focus();
  });
  button.classList.add("cd-vary");
  const stop = effect(() => {
    const now = form.varied();
    untracked(() => {
      if (now !== undefined) made ??= editorOf(form, field);
      made?.show(now ?? "");
      if (isOn === (now !== undefined)) return;
      isOn = now !== undefined;
      const what = isOn ? "only one value" : "several values, each of which runs";
      button.title = `${field.label}: ${what}`;
      button.setAttribute("aria-label", button.title);
      button.setAttribute("aria-pressed", String(isOn));
      show(isOn ? made : null);
    });
  });
  return {
    button,
    end() {
      stop();
      made?.end();
    },
  };
}

function editorOf(form: Form, field: Field): Editor {
  const text = h("textarea", {
    id: newId(),
    rows: 4,
    dir: "auto",
    spellcheck: false,
    placeholder: "one value on each line",
    "aria-describedby": form.hintId,
    oninput: () => form.vary(text.value),
  });
  const add = (...values: string[]) => {
    const before = text.value.replace(/\n*$/, "");
    form.vary([...(before ? [before] : []), ...values].join("\n"));
  };
  const state = h("span", { className: "cd-faint", role: "status" });
  const tools = toolsOf(form, field, add);
  tools.root.append(state);
  const root = h("div", { className: "cd-several" }, text, tools.root);
  const along = alongChoice(form, field);
  root.append(along.root);
  if (tools.take) takeDropped(root, tools.take);
  return {
    root,
    text,
    show(now) {
      if (text.value !== now) text.value = now;
      setText(state, counted(linesOf(now).length, "value"));
    },
    end() {
      along.end();
      tools.end?.();
    },
  };
}

/** Whether the values are combined with all others, or change together with those of one input. */
function alongChoice(form: Form, { label }: Field) {
  const select = h("select", {
    "aria-label": `${label}: how its values are combined`,
    onchange: () => form.varyAlong(select.value),
  });
  const root = h("label", { className: "cd-line cd-along" }, "combined", select);
  const end = effect(() => {
    const partners = form.varied() === undefined ? [] : form.partners();
    root.hidden = !partners.length;
    select.replaceChildren(
      h("option", { value: "" }, "with every other value"),
      ...partners.map(({ key, label: other, isWith: selected }) =>
        h("option", { value: key, selected }, `line by line with ${other}`),
      ),
    );
  });
  return { root, end };
}

function takeDropped(root: HTMLElement, take: (files: File[]) => void): void {
  const mark = (isOver: boolean) => root.classList.toggle("cd-drop", isOver);
  root.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    mark(true);
  });
  root.addEventListener("dragleave", () => mark(false));
  root.addEventListener("drop", async (event) => {
    mark(false);
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    take((await droppedFiles(event.dataTransfer)).map(({ file }) => file));
  });
}

/** The text at first: the present value, and of a check box both. */
function firstOf(value: unknown, { kind }: Field): string {
  if (kind === "bool") return "true\nfalse";
  return String(value ?? "").replace(/\s*\n\s*/g, " ");
}

type Tools = {
  root: HTMLElement;
  end?: () => void;
  /** Adds files that were dropped. */
  take?: (files: File[]) => void;
};

function toolsOf(form: Form, field: Field, add: (...values: string[]) => void): Tools {
  if (isMedia(field.kind)) return fileTools(form, field, field.kind, add);
  if (isListed(field)) return choiceTools(field, add);
  if (["int", "float", "seed"].includes(field.kind)) return rangeTools(field, form);
  return { root: h("div", { className: "cd-line" }) };
}

function choices(field: Field, hint: string, add: (value: string) => void) {
  const options = () =>
    (field.options ?? []).map((value) => ({ value, text: String(value ?? "") }));
  const combo = comboBox({
    id: newId(),
    label: `${field.label}: ${hint}`,
    value: "",
    options: options(),
    hint,
    choose: () => {},
    picked: (value) => {
      if (value === "") return;
      add(String(value));
      combo.set("");
    },
    opened: () => combo.setOptions(options(), ""),
  });
  return combo;
}

function choiceTools(field: Field, add: (...values: string[]) => void) {
  const combo = choices(field, "add a choice", add);
  const all = h(
    "button",
    {
      type: "button",
      className: "cd-button",
      title: `${field.label}: add all choices`,
      "aria-label": `${field.label}: add all choices`,
      onclick: () => add(...(field.options ?? []).map(String)),
    },
    "All",
  );
  return { root: h("div", { className: "cd-line" }, combo.root, all), end: combo.end };
}

/** Adds files of ComfyUI, and others that are sent to it, one after the other. */
function fileTools(
  form: Form,
  field: Field,
  kind: keyof typeof MEDIA,
  add: (...values: string[]) => void,
): Tools {
  const { accept, word } = MEDIA[kind];
  const combo = choices(field, "add a file", add);
  const problem = h("div", { className: "cd-problem-text", role: "status" });
  const refused: string[] = []; // the names of files that are of another kind
  let waiting: File[] = [];
  let done = 0;
  let stop = new AbortController();
  const end = (text: string) => {
    waiting = [];
    done = 0;
    cancel.hidden = true;
    setText(problem, text);
  };
  const cancel = iconButton(
    "times",
    `${field.label}: send no more files`,
    () => {
      stop.abort();
      end("");
    },
    { hidden: true },
  );
  const send = async () => {
    stop = new AbortController();
    const { signal } = stop;
    cancel.hidden = false;
    for (let file = waiting[0]; file; file = waiting[0]) {
      const total = done + waiting.length;
      setText(problem, `Sending ${file.name}${total > 1 ? ` (${done + 1} of ${total})` : ""} …`);
      try {
        const name = await form.store(file, signal);
        if (signal.aborted) return;
        add(name);
      } catch (error) {
        if (!signal.aborted) end(`${file.name} was not uploaded: ${messageOf(error)}`);
        return;
      }
      waiting.shift();
      done += 1;
    }
    const [first, ...others] = refused.splice(0);
    const more = others.length ? ` and ${others.length} more were` : " was";
    const why = others.length ? `they are no ${word}s` : `it is not a ${word}`;
    end(first ? `${first}${more} not uploaded: ${why}` : "");
  };
  const take = (files: File[]) => {
    const isSending = waiting.length > 0;
    const pathOf = (file: File) => file.webkitRelativePath || file.name;
    const sorted = [...files].sort((a, b) =>
      pathOf(a).localeCompare(pathOf(b), undefined, { numeric: true }),
    );
    for (const file of sorted) {
      if (isAccepted(file, accept)) waiting.push(file);
      else refused.push(file.name);
    }
    if (!isSending) send();
  };
  const buttons = ["Upload", "Folder"].flatMap((name) => {
    const what = name === "Folder" ? "upload the files of a folder" : "upload files";
    const facts = { title: `${field.label}: ${what}`, "aria-label": `${field.label}: ${what}` };
    const [button, input] = fileButton(name, accept, take, facts);
    input.multiple = true;
    input.webkitdirectory = name === "Folder";
    return [button, input];
  });
  return {
    root: h("div", { className: "cd-line" }, combo.root, ...buttons, problem, cancel),
    take,
    end() {
      stop.abort();
      combo.end();
    },
  };
}

/** Fills in the numbers from one to another. */
function rangeTools(field: Field, form: Form) {
  const number = (name: string) =>
    h("input", {
      type: "text",
      inputMode: "decimal",
      "aria-label": `${field.label}: ${name}`,
      oninput: () => setText(problem, ""),
    });
  const [from, to, step, count] = ["from", "to", "step", "count"].map(number) as [
    HTMLInputElement,
    HTMLInputElement,
    HTMLInputElement,
    HTMLInputElement,
  ];
  step.addEventListener("input", () => {
    count.value = "";
  });
  count.addEventListener("input", () => {
    step.value = "";
  });
  const problem = h("div", { className: "cd-problem-text", role: "status" });
  const fill = () => {
    const isWhole = field.kind !== "float";
    const found = range(isWhole, from.value, to.value, step.value, count.value);
    if (typeof found === "string") setText(problem, found);
    else form.vary(found.join("\n"));
  };
  const labelled = (name: string, input: HTMLElement) => h("label", {}, name, input);
  const root = h(
    "div",
    {
      className: "cd-line cd-range",
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
        if (!(event.target instanceof HTMLInputElement)) return;
        event.preventDefault();
        fill();
      },
    },
    labelled("from", from),
    labelled("to", to),
    labelled("step", step),
    labelled("or count", count),
    h(
      "button",
      {
        type: "button",
        className: "cd-button",
        title: `${field.label}: fill in these numbers`,
        "aria-label": `${field.label}: fill in these numbers`,
        onclick: fill,
      },
      "Fill in",
    ),
    problem,
  );
  return { root };
}

/** The numbers of a range as texts, or why there are none. The step is 1 if nothing is said. */
export function range(
  isWhole: boolean,
  ...[from, to, step, count]: [from: string, to: string, step: string, count: string]
): string[] | string {
  const digits = (text: string) => /^[-+]?\d*\.?(\d*)$/.exec(text.trim())?.[1]?.length;
  const bounds: [name: string, text: string][] = [
    ["from", from],
    ["to", to],
  ];
  if (!count.trim()) bounds.push(["step", step.trim() || "1"]);
  for (const [name, text] of bounds) {
    const isNumber = /\d/.test(text) && digits(text) !== undefined;
    if (!isNumber || (isWhole && digits(text) !== 0))
      return `${name} must be a ${isWhole ? "whole " : ""}number`;
  }
  const tooMany = `these are more than ${MOST.toLocaleString("en")} values`;
  const [first, last] = [Number(from), Number(to)];
  if (count.trim()) {
    const number = Number(count);
    if (!Number.isInteger(number) || number < 2) return "count must be a whole number above 1";
    if (number > MOST) return tooMany;
    const places = Math.min(20, Math.max(digits(from) ?? 0, digits(to) ?? 0) + 4);
    const values = Array.from({ length: number }, (_, place) => {
      const value = first + ((last - first) * place) / (number - 1);
      return String(isWhole ? Math.round(value) : Number(value.toFixed(places)));
    });
    return [...new Set(values)];
  }
  // exact, in units of the last digit
  const places = Math.max(...bounds.map(([, text]) => digits(text) ?? 0));
  const units = ([, text]: [name: string, text: string]) => {
    const [whole = "", part = ""] = text.trim().replace("+", "").split(".");
    return BigInt(`${whole}${part.padEnd(places, "0")}` || "0");
  };
  const [start, end, by] = bounds.map(units) as [bigint, bigint, bigint];
  const size = by < 0n ? -by : by;
  if (size === 0n) return "step must not be 0";
  const way = end < start ? -size : size;
  const total = (end - start) / way + 1n;
  if (total > BigInt(MOST)) return tooMany;
  return Array.from({ length: Number(total) }, (_, place) => {
    const value = start + way * BigInt(place);
    const text = (value < 0n ? -value : value).toString().padStart(places + 1, "0");
    const cut = text.length - places;
    const shown = places ? `${text.slice(0, cut)}.${text.slice(cut)}` : text;
    return `${value < 0n ? "-" : ""}${shown}`.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  });
}
