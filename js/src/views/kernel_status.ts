/**
 * Shows in a panel or a sweep that its kernel has ended.
 *
 * Then it also disables the controls of the panel, because they need the kernel. It also disables
 * JupyterLab's shortcuts in the panel, so that the panel handles its keys.
 */

import { h, keepKeysIn, setUpRoot, whenConnected } from "../dom.ts";
import { followKernel } from "../kernel.ts";
import type { Context } from "../model.ts";

const CONTROLS = "button, input, select, textarea";
const USABLE = ".cd-picture-button, .cd-lightbox *"; // these need no kernel

type Control = HTMLButtonElement | HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;

function render({ model, el }: Context<{ around: string; text: string }>) {
  setUpRoot(el, "kernel-status");
  el.setAttribute("role", "alert");
  el.hidden = true;
  const cleanups: (() => void)[] = [];
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
    if (!panel) return;
    panel.classList.add("cd-dead");
    disable(panel);
    // Scripts of the panel may add or enable controls later.
    const observer = new MutationObserver(() => disable(panel));
    observer.observe(panel, { subtree: true, childList: true, attributeFilter: ["disabled"] });
    cleanups.push(() => observer.disconnect());
    el.hidden = false;
    el.replaceChildren(h("div", { className: "comfydeploy-error" }, model.get("text")));
  };

  cleanups.push(followKernel(model, el, showGone));
  return () => {
    for (const cleanup of cleanups) cleanup();
  };
}

export default { render };
