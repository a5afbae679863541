/** Shows the widgets within another one. */

import { h } from "./dom.ts";
import { messageOf } from "./format.ts";
import type { Model } from "./model.ts";

/** What a panel can do with the widgets that belong to it. */
export type Children = {
  /** Show a widget in an element; return what removes it. */
  show(id: string, root: HTMLElement): () => void;
  /** Set a trait of a widget, if it has this trait. */
  set(id: string, name: string, value: unknown): void;
};

type Manager = { get_model?(id: string): Promise<Model> };

/** Return the children of a model; `mount` shows a panel. */
export function childrenOf(
  model: Model,
  mount: (model: Model, el: HTMLElement) => () => void,
): Children {
  const manager = model.widget_manager as Manager | undefined;
  const find = async (id: string) => {
    if (!manager?.get_model) throw new Error("This page cannot show panels within another one");
    return manager.get_model(id);
  };
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
    set(id, name, value) {
      find(id).then(
        (found) => {
          if (found.get(name) === undefined || found.get(name) === value) return;
          found.set(name, value);
          found.save_changes();
        },
        () => {}, // it is not shown either
      );
    },
  };
}
