/** Has the browser save a file that the kernel has sent. */

import { h } from "./dom.ts";
import type { Buffers } from "./model.ts";

const KEPT_FOR = 60_000; // ms that the browser has to begin saving the file

export function saveFile(name: string, mime: string, buffers: Buffers): void {
  const url = URL.createObjectURL(new Blob(buffers, { type: mime }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR);
}
