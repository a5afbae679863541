/** Has the browser save files. */

import { h } from "./dom.ts";

const KEPT_FOR = 60_000; // ms that the browser has to begin saving the file

/** Save a content as a file. */
export function saveFile(name: string, content: Blob): void {
  saveUrl(name, URL.createObjectURL(content));
}

/** Save a file; a blob URL is revoked afterwards. */
export function saveUrl(name: string, url: string): void {
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR);
}
