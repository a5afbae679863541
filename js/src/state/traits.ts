/** The values that a panel shares with Python, as signals; and what a panel is given. */

import { batch, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { Children } from "../children.ts";
import { toJson } from "../exact.ts";
import type { Model, Subscriptions } from "../model.ts";
import type { Transport } from "../transport.ts";

/** The traits of a panel: `traits.name.value` reads one, and shows a component again if it changes. */
export type Traits<T> = { readonly [Name in keyof T]: ReadonlySignal<T[Name]> } & {
  /** Set traits here and, where there is a kernel, in Python. */
  set(values: Partial<T>): void;
};

/** What each panel gets. */
export type PanelProps<T> = {
  transport: Transport;
  traits: Traits<T>;
  /** Whether a kernel listens: `none` outside a notebook, `gone` if it has ended. */
  kernel: ReadonlySignal<"there" | "gone" | "none">;
  /** The widgets that belong to that of the panel; none without a widget. */
  child?: Children;
};

/** Return traits whose signals are made when they are first used. */
function asTraits<T extends Record<string, unknown>>(
  made: (name: string) => Signal<unknown>,
  write: (values: Partial<T>) => void,
): Traits<T> {
  const signals = new Map<string, Signal<unknown>>();
  const of = (name: string) => {
    const found = signals.get(name) ?? made(name);
    signals.set(name, found);
    return found;
  };
  const set = (values: Partial<T>) => {
    batch(() => {
      for (const [name, value] of Object.entries(values)) of(name).value = value;
    });
    write(values);
  };
  return new Proxy({} as Traits<T>, {
    get: (_, name) => (name === "set" ? set : of(String(name))),
  });
}

const ECHO = 2000; // ms within which Python sends back what the page has set

function textOf(value: unknown): string {
  return value === undefined ? "" : toJson(value);
}

/** The traits of a widget; `events` ends following it. Python gets them while it `hears`. */
export function modelTraits<T extends Record<string, unknown>>(
  model: Model,
  events: Subscriptions,
  hears: () => boolean,
): Traits<T> {
  let sent: { name: string; text: string; at: number }[] = [];
  return asTraits(
    (name) => {
      const made = signal<unknown>(model.get(name));
      events.on(`change:${name}`, () => {
        const value = model.get(name);
        const before = made.peek();
        if (value === before) return;
        // a page gets back what it has set, as a copy, and maybe after it has set something newer
        const now = performance.now();
        const known = sent.filter((each) => each.name === name && now - each.at < ECHO);
        const texts = known.map(({ text }) => text);
        if (before !== null) texts.push(textOf(before));
        if (!texts.length || !texts.includes(textOf(value))) made.value = value;
      });
      return made;
    },
    (values) => {
      const at = performance.now();
      sent = sent.filter((each) => at - each.at < ECHO);
      for (const [name, value] of Object.entries(values)) {
        const text = textOf(value);
        // what Python has set itself does not come back
        if (text !== textOf(model.get(name))) sent.push({ name, text, at });
      }
      // other views of the widget learn of it without Python, too
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      if (hears()) model.save_changes();
    },
  );
}

/** Traits without Python. */
export function localTraits<T extends Record<string, unknown>>(values: T): Traits<T> {
  return asTraits(
    (name) => signal(values[name]),
    () => {},
  );
}
