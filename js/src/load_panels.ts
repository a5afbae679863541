/** Loads the panels once for a page. */

import type { Panels } from "./panels/index.tsx";
import { pageConfig, pageHeaders } from "./server.ts";

/** SHA-256 of `panels.js`, the first digits; the build sets it. */
declare const PANELS: string;

const LOADED = "comfydeployPanels";

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

/** Ask the server of the page for the script. */
export function askForPanels(): Promise<Response> {
  const url = `${pageConfig().baseUrl ?? "/"}static/comfydeploy/panels.js?v=${PANELS}`;
  return fetch(url, { headers: pageHeaders() });
}

/** Whether a script is the panels of this version. */
export function isPanels(text: string): boolean {
  return text.startsWith(`// ${PANELS} `);
}
