/** Loads the panels once for a page. */

import type { Panels } from "./panels/index.tsx";
import { pageConfig, pageHeaders } from "./server.ts";
import type { Transport } from "./transport.ts";

/** SHA-256 of `panels.js`, the first digits; the build sets it. */
declare const PANELS: string;

const LOADED = "comfydeployPanels";

/** Those of the folder `viewers`, by their names. */
// biome-ignore lint/suspicious/noExplicitAny: each exports something else
const scripts = new Map<string, Promise<any>>();

type Page = { [LOADED]?: Record<string, Promise<Panels>> };

/** Return the panels; `read` returns their script if the page does not have it yet. */
export function panelsOnce(read: () => Promise<string>): Promise<Panels> {
  const page = globalThis as Page;
  page[LOADED] ??= {};
  const loaded = page[LOADED];
  loaded[PANELS] ??= read().then(run);
  loaded[PANELS].catch(() => delete loaded[PANELS]); // the next panel tries again
  return loaded[PANELS];
}

async function run(text: string): Promise<Panels> {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Return what a script exports that panels load when they first need it. */
export function loadScript<Exports>(transport: Transport, name: string): Promise<Exports> {
  const found =
    scripts.get(name) ?? transport.script(`viewers/${name}.js`).then((url) => import(url));
  scripts.set(name, found);
  found.catch(() => scripts.delete(name)); // the next one tries again
  return found;
}

/** Ask the server of the page for the script. */
export function askForPanels(): Promise<Response> {
  const url = `${pageConfig().baseUrl ?? "/"}static/comfydeploy/panels.js?v=${PANELS}`;
  return fetch(url, { headers: pageHeaders() });
}

/** Whether a script is the panels of this version. */
export function isPanels(text: string): boolean {
  return text.startsWith(`// ${PANELS} `);
}
