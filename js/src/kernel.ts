/** Notices that the kernel of a widget has ended. */

import { type Model, Subscriptions } from "./model.ts";

/** What a page says that reaches the server only through a kernel that is busy. */
export const SILENT =
  "The kernel does not answer: the panel waits until it is free. If it has ended, run this cell again.";
/** The same while the kernel waits for a batch. */
export const NO_PICTURES =
  "This page reaches the server only through the kernel, which is busy: the sheet appears as soon as it is free." +
  " With comfy.sweep(…, wait=False) it appears as results arrive.";

const GONE = new Set(["restarting", "autorestarting", "terminating", "dead"]);

type Slot = { connect(slot: () => void): void; disconnect(slot: () => void): void };

/** The part of JupyterLab's session context that is used here; other pages have none. */
type SessionContext = {
  session?: { kernel?: { id: string; status: string } | null } | null;
  statusChanged?: Slot;
  kernelChanged?: Slot;
};

type JupyterLabManager = { context?: { sessionContext?: SessionContext } };

/** Call `ended` once, when the kernel of a model has ended; return what ends the watch. */
export function followKernel(model: Model, el: HTMLElement, ended: () => void): () => void {
  let isGone = false;
  const gone = () => {
    if (!isGone) ended();
    isGone = true;
  };
  // ipywidgets marks widgets without a connection to a kernel, such as those of a saved notebook.
  const check = () => {
    if (el.closest(".jupyter-widgets-disconnected")) gone();
  };
  const events = new Subscriptions(model);
  events.on("comm:close comm_live_update", () => setTimeout(check));
  const observer = new MutationObserver(check);
  observer.observe(el, { attributeFilter: ["class"] });

  // JupyterLab and Notebook do not mark it when a kernel ends. Their session has the kernel's status.
  const { context } = (model.widget_manager ?? {}) as JupyterLabManager;
  const sessionContext = context?.sessionContext;
  let first = sessionContext?.session?.kernel?.id;
  const onSession = () => {
    const kernel = sessionContext?.session?.kernel;
    first ??= kernel?.id; // the session may begin after the view
    if (!kernel || kernel.id !== first || GONE.has(kernel.status)) gone();
  };
  const signals = [sessionContext?.statusChanged, sessionContext?.kernelChanged];
  for (const signal of signals) signal?.connect(onSession);
  // it may have ended while the script of the view was loaded
  const timer = setTimeout(() => {
    check();
    if (first) onSession();
  });
  return () => {
    clearTimeout(timer);
    observer.disconnect();
    events.end();
    for (const signal of signals) signal?.disconnect(onSession);
  };
}
