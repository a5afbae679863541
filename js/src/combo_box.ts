/** A text field with a list of choices that can be searched. */

import { h, icon, newId, setAttribute } from "./dom.ts";
import { containsWords, searchWords } from "./format.ts";

const ROWS = 200; // choices that the list shows at once
const PAGE = 10; // rows that Page Up and Page Down move by
const STEPS: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE };

export type Option = {
  value: unknown;
  text: string;
  note?: string | undefined;
  /** The heading that it stands under; `short` is its text there. */
  group?: string | undefined;
  short?: string | undefined;
  /** Loads a small picture; called when the option can be seen. */
  picture?: (() => Promise<Blob>) | undefined;
};

export type ComboBox = {
  root: HTMLElement;
  input: HTMLInputElement;
  set: (value: unknown) => void;
  setOptions: (options: Option[], value: unknown) => void;
  /** Show a text below the choices, for example while they are loaded. */
  setNote: (text: string) => void;
  end: () => void;
};

/**
 * Create a combo box. Words in any order filter its list; arrows, Enter and Escape work in it.
 *
 * `free`: whether any text can be typed; `choose` is called with each new value, also when the user
 * leaves the field. `opened` is called when the list appears. `picked` is called, after it, with each value that the user takes from the list or
 * confirms with Enter, also if that is the present one.
 */
export function comboBox(settings: {
  id: string;
  label: string;
  value: unknown;
  options: Option[];
  free?: boolean;
  hint?: string;
  describedBy?: string;
  choose: (value: unknown) => void;
  picked?: (value: unknown) => void;
  opened?: () => void;
}): ComboBox {
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
    "aria-describedby": describedBy,
  });
  const list = h("ul", { id: listId, role: "listbox", className: "cd-list", "aria-label": label });
  list.setAttribute("popover", "manual");
  const root = h("div", { className: "cd-combo-box" }, input, icon("caret-down"), list);
  let found: Option[] = [];
  let rows: HTMLElement[] = []; // of the options
  const pictures = new Pictures(list);
  let active = -1;
  let open = false;
  let searched = "";
  let note = "";

  const textOf = (wanted: unknown) =>
    options.find((option) => option.value === wanted)?.text ?? String(wanted ?? "");

  const fill = (search: string) => {
    searched = search;
    const words = searchWords(search);
    const matches = options.filter(({ text, note }) =>
      containsWords(`${text} ${note ?? ""}`, words),
    );
    found = matches.slice(0, ROWS);
    pictures.clear();
    const hasPictures = found.some(({ picture }) => picture);
    rows = found.map((option, index) => {
      const frame = hasPictures
        ? h("span", { className: "cd-thumb", "aria-hidden": "true" })
        : null;
      if (frame && option.picture) pictures.add(frame, option.picture);
      return h(
        "li",
        {
          id: `${listId}-${index}`,
          role: "option",
          "aria-selected": String(option.value === value),
          "aria-label": option.short === undefined ? undefined : option.text,
          title: option.text,
          onmousedown: (event) => event.preventDefault(),
          onclick: () => pick(index),
        },
        frame,
        h("span", {}, option.short ?? option.text),
        option.note ? h("small", {}, option.note) : null,
      );
    });
    list.replaceChildren(
      ...rows.flatMap((row, index) => {
        const { group = "" } = found[index] as Option;
        const isFirst = group !== (found[index - 1]?.group ?? "");
        const heading = { className: "cd-heading", role: "presentation" };
        return isFirst ? [h("li", heading, group), row] : [row];
      }),
    );
    const left = matches.length - found.length;
    if (left) list.append(h("li", { className: "cd-more" }, `${left} more: type to search`));
    // any other text is a value, too
    const last = note || (matches.length || free ? "" : "Nothing found");
    if (last) list.append(h("li", { className: "cd-more" }, last));
    activate(found.findIndex((option) => option.value === value));
  };
  const activate = (index: number) => {
    rows[active]?.classList.remove("cd-active");
    active = index;
    const row = rows[active];
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
      maxHeight: `${height}px`,
    });
    const fitsBelow = below >= Math.min(height, list.scrollHeight) || below > box.top;
    list.style.top = fitsBelow ? `${box.bottom}px` : "";
    list.style.bottom = fitsBelow ? "" : `${window.innerHeight - box.top}px`;
  };
  const onPageMoved = (event: Event) => {
    if (event.type !== "scroll" || !list.contains(event.target as Node)) close(true);
  };
  const show = (search = "") => {
    fill(search);
    input.setAttribute("aria-expanded", String(list.childElementCount > 0));
    const isNew = !open;
    if (!open) {
      open = true;
      if (list.showPopover) list.showPopover();
      else list.classList.add("cd-open");
      window.addEventListener("scroll", onPageMoved, true);
      window.addEventListener("resize", onPageMoved);
    }
    place();
    rows[active]?.scrollIntoView({ block: "nearest" });
    if (isNew) opened?.();
  };
  /** Hide the list. With `accept`, use the typed text as the value, or restore the text of the value. */
  const close = (accept: boolean) => {
    if (open) {
      open = false;
      pictures.clear();
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
  const set = (wanted: unknown, isChosen: boolean) => {
    const changed = wanted !== value;
    value = wanted;
    input.value = textOf(value);
    input.title = input.value;
    if (changed && isChosen) choose(value);
  };
  const pick = (index: number) => {
    const option = found[index];
    close(false);
    if (!option) return;
    set(option.value, true);
    picked?.(value);
  };
  const onKey = (event: KeyboardEvent) => {
    const step = STEPS[event.key];
    if (step !== undefined) {
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
  input.addEventListener("click", () => (open ? close(false) : show()));
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
    end: () => close(false),
  };
}

/** The pictures of the options that can be seen. */
class Pictures {
  private loads = new Map<Element, () => Promise<Blob>>();
  private urls: string[] = [];
  private observer: IntersectionObserver | null = null;

  constructor(private readonly list: HTMLElement) {}

  add(frame: HTMLElement, load: () => Promise<Blob>): void {
    this.loads.set(frame, load);
    this.observer ??= new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) if (isIntersecting) this.show(target);
      },
      { root: this.list, rootMargin: "100px" },
    );
    this.observer.observe(frame);
  }

  clear(): void {
    this.observer?.disconnect();
    this.observer = null;
    this.loads.clear();
    for (const url of this.urls) URL.revokeObjectURL(url);
    this.urls = [];
  }

  private async show(frame: Element): Promise<void> {
    const load = this.loads.get(frame);
    if (!load) return;
    this.loads.delete(frame);
    const { urls } = this;
    const content = await load().catch(() => null); // there is none
    if (!content || urls !== this.urls) return;
    const url = URL.createObjectURL(content);
    urls.push(url);
    frame.replaceChildren(h("img", { src: url, alt: "" }));
  }
}
