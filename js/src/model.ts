/** The models of anywidget: the state that a view shares with the kernel. */

import type { AnyModel } from "@anywidget/types";

// biome-ignore lint/suspicious/noExplicitAny: each view declares the traits of its own model
export type Model<Traits extends Record<string, any> = Record<string, any>> = AnyModel<Traits>;

/** The binary part of a message from the kernel. */
export type Buffers = DataView<ArrayBuffer>[];

/** What anywidget passes to the `render` function of a view. */
// biome-ignore lint/suspicious/noExplicitAny: as above
export type Context<Traits extends Record<string, any>> = { model: Model<Traits>; el: HTMLElement };

// biome-ignore lint/suspicious/noExplicitAny: what a listener gets depends on the event
type Listener = (...details: any[]) => void;

/** The listeners that one view has added to its model; `end` removes them all. */
export class Subscriptions {
  private readonly added: [string, Listener][] = [];

  constructor(private readonly model: Model) {}

  /** Call `action` on each of the events, whose names are separated by spaces. */
  on(events: string, action: Listener): void {
    this.model.on(events, action);
    this.added.push([events, action]);
  }

  end(): void {
    for (const [events, action] of this.added) this.model.off(events, action);
  }
}

/** A message of a widget, as ipywidgets sends it. */
type Message = {
  method: string;
  state?: Record<string, unknown>;
  content?: unknown;
};

/**
 * Return a function that finds the model of a widget within that of `outer`, by its id.
 *
 * Its messages are those of ipywidgets, as custom messages of the outer one.
 */
export function innerModels(outer: Model, events: Subscriptions): (id: string) => Promise<Model> {
  const found = new Map<string, Promise<Model>>();
  const takers = new Map<string, (data: Message, buffers: Buffers) => void>();
  events.on("msg:custom", ({ kind, id, data }, buffers: Buffers) => {
    if (kind === "inner") takers.get(id)?.(data, buffers);
  });
  const make = (id: string) =>
    new Promise<Model>((resolve) => {
      const state: Record<string, unknown> = {};
      const listeners: [string, Listener][] = [];
      let changed: Record<string, unknown> = {};
      const emit = (event: string, ...details: unknown[]) => {
        for (const [name, action] of [...listeners]) if (name === event) action(...details);
      };
      const set = (name: string, value: unknown) => {
        state[name] = value;
        emit(`change:${name}`);
      };
      const send = (data: Message, buffers?: ArrayBuffer[]) =>
        outer.send({ kind: "inner", id, data }, undefined, buffers);
      const model = {
        get: (name: string) => state[name],
        set(name: string, value: unknown) {
          changed[name] = value;
          set(name, value);
        },
        save_changes() {
          send({ method: "update", state: changed });
          changed = {};
        },
        send: (content: unknown, _: unknown, buffers?: ArrayBuffer[]) =>
          send({ method: "custom", content }, buffers),
        on(names: string, action: Listener) {
          for (const name of names.split(" ")) listeners.push([name, action]);
        },
        off(names: string, action: Listener) {
          for (const name of names.split(" ")) {
            const place = listeners.findIndex((each) => each[0] === name && each[1] === action);
            if (place >= 0) listeners.splice(place, 1);
          }
        },
        widget_manager: { get_model: find },
      } as unknown as Model;
      takers.set(id, ({ method, state: said = {}, content }, buffers) => {
        if (method === "custom") emit("msg:custom", content, buffers);
        if (method === "update") for (const name of Object.keys(said)) set(name, said[name]);
        resolve(model);
      });
      send({ method: "request_state" });
    });
  const find = (id: string) => {
    const known = found.get(id) ?? make(id);
    found.set(id, known);
    return known;
  };
  return find;
}
