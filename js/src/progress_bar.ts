/** A bar that shows how much of something is done. */

import { h } from "./dom.ts";

export function progressBar(label: string): HTMLElement {
  return h("div", { className: "cd-bar", role: "progressbar", "aria-label": label }, h("div"));
}

/** Show how much is done, from 0 to 1. */
export function setFraction(bar: HTMLElement, fraction: number): void {
  bar.querySelector("div")?.style.setProperty("width", `${100 * fraction}%`);
  bar.setAttribute("aria-valuenow", String(Math.round(100 * fraction)));
}
