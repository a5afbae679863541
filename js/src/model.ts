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
