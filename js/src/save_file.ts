/** Has the browser save files. */

import { h } from "./dom.ts";
import type { Buffers } from "./model.ts";

const KEPT_FOR = 60_000; // ms that the browser has to begin saving the file

/** Save a file that the kernel has sent. */
export function saveFile(name: string, mime: string, buffers: Buffers): void {
  saveUrl(name, URL.createObjectURL(new Blob(buffers, { type: mime })));
}

/** Save a file; a blob URL is revoked afterwards. */
export function saveUrl(name: string, url: string): void {
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR);
}
