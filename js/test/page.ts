/** A page for the tests, and a model of anywidget without a kernel. */

import type { TestContext } from "node:test";
import { Window } from "happy-dom";
import type { Buffers, Model } from "../src/model.ts";

export const PAGE = "http://jupyter.test/lab";

const window = new Window({ url: PAGE });

// Node.js has some of these, too; elements need those of the page.
const OF_THE_PAGE = ["Event", "EventTarget", "CustomEvent", "navigator"];
for (const name of Object.getOwnPropertyNames(window)) {
  if (name in globalThis && !OF_THE_PAGE.includes(name)) continue;
  const value: unknown = Reflect.get(window, name);
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}
Object.defineProperty(globalThis, "window", { value: window, configurable: true });

/** What the `IntersectionObserver`s watch; the page shows none of it by itself. */
const observers = new Map<(entries: object[]) => void, Set<Element>>();
globalThis.IntersectionObserver = class {
  private readonly watched = new Set<Element>();
  constructor(onChange: (entries: object[]) => void) {
    observers.set(onChange, this.watched);
  }
  observe(element: Element) {
    this.watched.add(element);
  }
  unobserve(element: Element) {
    this.watched.delete(element);
  }
  disconnect() {
    this.watched.clear();
  }
} as unknown as typeof IntersectionObserver;

/** Move every element that is watched near the screen. */
export function scrollEverywhere(): void {
  const seen = [...observers].flatMap(([onChange, watched]) =>
    [...watched].map((target) => ({ onChange, target })),
  );
  for (const { onChange, target } of seen) onChange([{ isIntersecting: true, target }]);
}

type Listener = (...details: unknown[]) => void;

/** A message that a view sent to the kernel. */
// biome-ignore lint/suspicious/noExplicitAny: each view has its own messages
export type Sent = Record<string, any> & { buffers?: ArrayBuffer[] };

/** A model whose messages are kept, and which receives what a test says. */
export class FakeModel {
  readonly sent: Sent[] = [];
  widget_manager: object = {};
  private readonly listeners: [string, Listener][] = [];

  constructor(private readonly state: Record<string, unknown>) {}

  get(name: string): unknown {
    return this.state[name];
  }

  set(name: string, value: unknown): void {
    if (this.state[name] === value) return;
    this.state[name] = value;
    this.emit(`change:${name}`);
  }

  save_changes(): void {}

  send(message: object, _callbacks?: unknown, buffers?: ArrayBuffer[]): void {
    this.sent.push(buffers ? { ...message, buffers } : message);
  }

  on(names: string, listener: Listener): void {
    for (const name of names.split(" ")) this.listeners.push([name, listener]);
  }

  off(names: string, listener: Listener): void {
    for (const name of names.split(" ")) {
      const place = this.listeners.findIndex(([n, each]) => n === name && each === listener);
      if (place >= 0) this.listeners.splice(place, 1);
    }
  }

  /** Receive a message of the kernel. */
  receive(message: object, buffers: Buffers = []): void {
    this.emit("msg:custom", message, buffers);
  }

  /** Return the messages that were sent and not returned yet. */
  takeSent(): Sent[] {
    return this.sent.splice(0);
  }

  get listenerCount(): number {
    return this.listeners.length;
  }

  private emit(name: string, ...details: unknown[]): void {
    for (const [each, listener] of [...this.listeners]) if (each === name) listener(...details);
  }
}

/** Return the model as the type that sources use. */
// biome-ignore lint/suspicious/noExplicitAny: views have different traits
export function asModel(model: FakeModel): Model<any> {
  // biome-ignore lint/suspicious/noExplicitAny: as above
  return model as any;
}

/** Return the one element of a page that a selector matches. */
export function find<Type extends HTMLElement = HTMLElement>(
  root: ParentNode,
  selector: string,
): Type {
  const found = root.querySelectorAll<Type>(selector);
  if (found.length !== 1 || !found[0]) throw new Error(`${found.length} elements are ${selector}`);
  return found[0];
}

/** Return a button by its text or its accessible name. */
export function named(root: ParentNode, name: string): HTMLButtonElement {
  const all = [...root.querySelectorAll("button")];
  const found = all.find(
    (each) => each.textContent?.trim() === name || each.getAttribute("aria-label") === name,
  );
  if (!found) throw new Error(`there is no button ${name}`);
  return found;
}

/** Open what is folded. */
export function unfold(details: HTMLDetailsElement): void {
  details.open = true;
  details.dispatchEvent(new Event("toggle"));
}

/** Type a text into a field. */
export function type(input: HTMLInputElement | HTMLTextAreaElement, text: string): void {
  input.value = text;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Press a key in an element; `more` are further properties of the event. */
export function press(element: HTMLElement, key: string, more: object = {}): void {
  const event = new Event("keydown", { bubbles: true, cancelable: true });
  element.dispatchEvent(Object.assign(event, { key, ...more }));
}

/** Wait until a condition holds, for 30 s at most. */
export async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 30_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not true after 30 s: ${condition}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Have the page's requests answered with JSON by a function; return the requests. */
export function answerRequests(
  answer: (url: string) => unknown,
): { url: string; init: RequestInit }[] {
  const requests: { url: string; init: RequestInit }[] = [];
  globalThis.fetch = async (url, init = {}) => {
    requests.push({ url: String(url), init });
    return Response.json(answer(String(url)));
  };
  return requests;
}

/** A request of the page that ends when a test says so. */
export class FakeRequest {
  static made: FakeRequest[] = [];
  status = 0;
  responseText = "";
  url = "";
  form: FormData | null = null;
  onload = () => {};
  onabort = () => {};
  readonly upload = { onprogress: (_: object) => {}, onload: () => {} };

  constructor() {
    FakeRequest.made.push(this);
  }
  open(_: string, url: string) {
    this.url = url;
  }
  setRequestHeader() {}
  send(form: FormData) {
    this.form = form;
  }
  isAborted = false;
  abort() {
    this.isAborted = true;
    this.onabort();
  }
  succeed(reply: object) {
    this.upload.onload();
    this.status = 200;
    this.responseText = JSON.stringify({ success: true, ...reply });
    this.onload();
  }
}

/** Replace the browser's blob URLs; return those that were made and not revoked. */
export function blobUrls(t: TestContext): Set<string> {
  const urls = new Set<string>();
  let made = 0;
  t.mock.method(URL, "createObjectURL", () => {
    made += 1;
    urls.add(`blob:${made}`);
    return `blob:${made}`;
  });
  t.mock.method(URL, "revokeObjectURL", (url: string) => urls.delete(url));
  return urls;
}
