/** Creates elements, and the small controls that several views use. */

import type { IconName } from "./icons.ts";

type Child = Node | string | null | undefined;

type Listeners = {
  [Name in keyof HTMLElementEventMap as `on${Name}`]?: (event: HTMLElementEventMap[Name]) => void;
};

type Writable<Value> = Value extends string ? string | number : Value;

/** Properties by their name, listeners as `onclick`, attributes as `aria-label`. */
export type Properties<Element> = Listeners & {
  [Name in keyof Element as Name extends `on${string}` ? never : Name]?:
    | Writable<Element[Name]>
    | undefined;
} & { [Name in `aria-${string}`]?: string | undefined };

/** Create an element. A property that is undefined or null is not set. */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Properties<HTMLElementTagNameMap[Tag]> = {},
  ...children: (Child | Child[])[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value as EventListener);
    else if (name in element && !name.includes("-")) Object.assign(element, { [name]: value });
    else element.setAttribute(name, String(value));
  }
  const isThere = (child: Child): child is Node | string => child !== null && child !== undefined;
  element.append(...children.flat().filter(isThere));
  return element;
}

let idsMade = 0;

/** Return an id that no other element of the page has. */
export function newId(): string {
  idsMade += 1;
  return `comfydeploy-${Math.random().toString(36).slice(2, 10)}-${idsMade}`;
}

const NO_SHORTCUTS = "data-lm-suppress-shortcuts";

/**
 * Disable JupyterLab's shortcuts in an element; return a function that enables them again.
 *
 * JupyterLab checks the element that has the focus, so each element is marked when it gets the focus.
 */
export function keepKeysIn(root: Element): () => void {
  const mark = ({ target }: Event) => (target as Element).setAttribute(NO_SHORTCUTS, "true");
  root.setAttribute(NO_SHORTCUTS, "true");
  root.addEventListener("focusin", mark);
  return () => root.removeEventListener("focusin", mark);
}

/** Call an action as soon as an element is in the page; return a function that prevents it. */
export function whenConnected(element: Element, action: () => void): () => void {
  let timer: ReturnType<typeof setTimeout>;
  const check = () => {
    if (element.isConnected) action();
    else timer = setTimeout(check, 20);
  };
  timer = setTimeout(check);
  return () => clearTimeout(timer);
}

/** Return an icon, which screen readers ignore. */
export function icon(name: IconName): HTMLElement {
  return h("i", { className: `fa fa-${name}`, "aria-hidden": "true" });
}

/** Return a button with an icon only; its label is its tooltip and its accessible name. */
export function iconButton(
  iconName: IconName,
  label: string,
  onclick: (event: MouseEvent) => void,
  more: Properties<HTMLButtonElement> = {},
): HTMLButtonElement {
  return h(
    "button",
    { type: "button", className: "cd-icon", title: label, "aria-label": label, onclick, ...more },
    icon(iconName),
  );
}

/** Return a button that opens the browser's file dialog, and the hidden input that takes the files. */
export function fileButton(
  label: string,
  accept: string,
  take: (files: File[]) => void,
  more: Properties<HTMLButtonElement> = {},
): [HTMLButtonElement, HTMLInputElement] {
  const input = h("input", { type: "file", accept, hidden: true, tabIndex: -1 });
  input.addEventListener("change", () => {
    take([...(input.files ?? [])]);
    input.value = "";
  });
  const button = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => input.click(), ...more },
    icon("upload"),
    ` ${label}`,
  );
  return [button, input];
}

/** Return whether `accept`, a list of media types and file name endings, includes a file. */
export function isAccepted(file: File, accept: string): boolean {
  return accept.split(",").some((kind) => {
    if (kind.startsWith(".")) return file.name.toLowerCase().endsWith(kind);
    return kind.endsWith("/*") ? file.type.startsWith(kind.slice(0, -1)) : file.type === kind;
  });
}

/** Set the text of an element, unless the element already has that text. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute, or remove it if the value is null. */
export function setAttribute(element: Element, name: string, value: string | null): void {
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}
