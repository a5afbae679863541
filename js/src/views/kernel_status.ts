/**
 * Shows in a panel or a sweep that its kernel has ended.
 *
 * Then it also disables the controls of the panel, because they need the kernel. It also disables
 * JupyterLab's shortcuts in the panel, so that the panel handles its keys.
 */

import { h, keepKeysIn, setUpRoot, whenConnected } from "../dom.ts";
import { type Context, Subscriptions } from "../model.ts";

const GONE = new Set(["restarting", "autorestarting", "terminating", "dead"]);
const CONTROLS = "button, input, select, textarea";
const USABLE = ".cd-picture-button, .cd-lightbox *"; // these need no kernel

type Control = HTMLButtonElement | HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;

type Signal = { connect(slot: () => void): void; disconnect(slot: () => void): void };

/** The part of JupyterLab's session context that is used here; other pages have none. */
type SessionContext = {
  session?: { kernel?: { id: string; status: string } | null } | null;
  statusChanged?: Signal;
  kernelChanged?: Signal;
};

type JupyterLabManager = { context?: { sessionContext?: SessionContext } };

function render({ model, el }: Context<{ around: string; text: string }>) {
  setUpRoot(el, "kernel-status");
  el.setAttribute("role", "alert");
  el.hidden = true;
  const events = new Subscriptions(model);
  const cleanups: (() => void)[] = [];
  let isGone = false;
  cleanups.push(
    whenConnected(el, () => {
      const panel = el.closest(`.${model.get("around")}`);
      if (panel) cleanups.push(keepKeysIn(panel));
    }),
  );

  const disable = (panel: Element) => {
    for (const control of panel.querySelectorAll<Control>(CONTROLS)) {
      if (!control.disabled && !control.matches(USABLE)) control.disabled = true;
    }
  };
  const showGone = () => {
    const panel = el.closest(`.${model.get("around")}`);
    if (isGone || !panel) return;
    isGone = true;
    panel.classList.add("cd-dead");
    disable(panel);
    // Scripts of the panel may add or enable controls later.
    const observer = new MutationObserver(() => disable(panel));
    observer.observe(panel, { subtree: true, childList: true, attributeFilter: ["disabled"] });
    cleanups.push(() => observer.disconnect());
    el.hidden = false;
    el.replaceChildren(h("div", { className: "comfydeploy-error" }, model.get("text")));
  };

  // ipywidgets marks widgets without a connection to a kernel, for example those of a saved notebook.
  const check = () => {
    if (el.closest(".jupyter-widgets-disconnected")) showGone();
  };
  events.on("comm:close comm_live_update", () => setTimeout(check));
  const observer = new MutationObserver(check);
  observer.observe(el, { attributeFilter: ["class"] });
  const timer = setTimeout(check);
  cleanups.push(
    () => observer.disconnect(),
    () => clearTimeout(timer),
  );

  // JupyterLab and Notebook do not mark it when a kernel ends. Their session has the kernel's status.
  const { context } = (model.widget_manager ?? {}) as JupyterLabManager;
  const sessionContext = context?.sessionContext;
  const first = sessionContext?.session?.kernel?.id;
  const onSession = () => {
    const kernel = sessionContext?.session?.kernel;
    if (!kernel || kernel.id !== first || GONE.has(kernel.status)) showGone();
  };
  for (const signal of [sessionContext?.statusChanged, sessionContext?.kernelChanged]) {
    signal?.connect(onSession);
    cleanups.push(() => signal?.disconnect(onSession));
  }
  return () => {
    events.end();
    for (const cleanup of cleanups) cleanup();
  };
}

export default { render };
