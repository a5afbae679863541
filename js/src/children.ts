/** Shows the widgets within another one. */

import { h } from "./dom.ts";
import { messageOf } from "./format.ts";
import { innerModels, type Model, Subscriptions } from "./model.ts";

/** What a panel can do with the widgets that belong to it. */
export type Children = {
  /** Show a widget in an element; return what removes it. */
  show(id: string, root: HTMLElement): () => void;
  /** Set traits of a widget, those that it has. */
  set(id: string, values: Record<string, unknown>): void;
  /** Return traits of a widget. */
  get(id: string, names: string[]): Promise<Record<string, unknown>>;
  /** Call an action on each change of a trait; return what ends that. */
  follow(id: string, name: string, action: () => void): () => void;
};

type Manager = { get_model(id: string): Promise<Model> };

/** Return the children of a model; `mount` shows a panel. `events` ends following them. */
export function childrenOf(
  model: Model,
  events: Subscriptions,
  mount: (model: Model, el: HTMLElement) => () => void,
): Children {
  const manager = model.widget_manager as Manager | undefined;
  const other = manager?.get_model ? null : innerModels(model, events);
  const find = async (id: string) => other?.(id) ?? (manager as Manager).get_model(id);
  return {
    show(id, root) {
      let end = () => {};
      let isOver = false;
      find(id).then(
        (found) => {
          if (isOver) return;
          const el = h("div");
          root.replaceChildren(el);
          end = mount(found, el);
        },
        (error) => {
          const text = `The panel cannot be shown: ${messageOf(error)}`;
          root.replaceChildren(h("div", { className: "comfydeploy-error", role: "alert" }, text));
        },
      );
      return () => {
        isOver = true;
        end();
        root.replaceChildren();
      };
    },
    set(id, values) {
      find(id).then(
        (found) => {
          for (const [name, value] of Object.entries(values)) {
            const present = found.get(name);
            if (present !== undefined && present !== value) found.set(name, value);
          }
          found.save_changes();
        },
        () => {}, // it is not shown either
      );
    },
    async get(id, names) {
      const found = await find(id);
      return Object.fromEntries(names.map((name) => [name, found.get(name)]));
    },
    follow(id, name, action) {
      let events: Subscriptions | null = null;
      let isOver = false;
      find(id).then(
        (found) => {
          if (isOver) return;
          events = new Subscriptions(found);
          events.on(`change:${name}`, action);
        },
        () => {}, // as above
      );
      return () => {
        isOver = true;
        events?.end();
      };
    },
  };
}
