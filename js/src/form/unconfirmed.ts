/**
 * What was typed into the forms of a panel and is not confirmed by the kernel yet.
 *
 * It is sent again with each action that uses the values: JupyterLab may send the messages of two
 * parts of a panel to different threads of the kernel, so that a click arrives before the text.
 */

import type { Typed } from "./field.ts";

const EVENT = "comfydeploy-typed";

/** Return what the forms of the panel of an element have sent without a confirmation. */
export function unconfirmedIn(element: Element): Typed[] {
  const found: Typed[] = [];
  const panel = element.closest(".comfydeploy-panel");
  for (const form of panel?.querySelectorAll(".comfydeploy-form") ?? []) {
    form.dispatchEvent(new CustomEvent(EVENT, { detail: found }));
  }
  return found;
}

/** Let `unconfirmedIn` find what a form has sent. */
export function offerUnconfirmed(form: Element, typed: Map<string, Typed>): void {
  form.addEventListener(EVENT, (event) => {
    (event as CustomEvent<Typed[]>).detail.push(...typed.values());
  });
}
