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

type View = {
  el: HTMLElement;
  remove(): void;
  luminoWidget: { processMessage(message: object): void };
};
type Manager = {
  get_model?(id: string): Promise<Model>;
  create_view?(model: Model): Promise<View>;
};

/** Return the children of a model; `mount` shows a panel. */
export function childrenOf(
  model: Model,
  mount: (model: Model, el: HTMLElement) => () => void,
): Children {
  const { get_model, create_view } = bound(model.widget_manager as Manager | undefined);
  const find = async (id: string) => {
    if (!get_model) throw new Error("This page cannot show panels within another one");
    return get_model(id);
  };
  const open = async (id: string, root: HTMLElement): Promise<() => void> => {
    const found = await find(id);
    if (found.get("component") || !create_view) {
      const el = h("div");
      root.replaceChildren(el);
      return mount(found, el);
    }
    // a widget that is no panel in the page: its views wait for messages of JupyterLab's library
    const view = await create_view(found);
    root.replaceChildren(view.el);
    for (const type of ["before-attach", "after-attach"]) {
      view.luminoWidget.processMessage({ type, isConflatable: false, conflate: () => false });
    }
    return () => view.remove();
  };
  return {
    show(id, root) {
      let end = () => {};
      let isOver = false;
      open(id, root).then(
        (made) => {
          if (isOver) made();
          else end = made;
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

function bound(manager: Manager | undefined): Manager {
  const { get_model, create_view } = manager ?? {};
  return {
    ...(get_model && { get_model: get_model.bind(manager) }),
    ...(create_view && { create_view: create_view.bind(manager) }),
  };
}
