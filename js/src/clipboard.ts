/** Copies texts to the clipboard. */

import { h } from "./dom.ts";

export const SHOWN_FOR = 1500; // ms for which the button shows the result

/** Write a text to the clipboard; fail if the browser refuses. */
export async function write(text: string): Promise<void> {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // A page that was loaded by plain HTTP from another host has no `navigator.clipboard`.
  const area = h("textarea", { value: text });
  area.style.cssText = "position: fixed; opacity: 0";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refuses");
}
