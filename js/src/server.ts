/** Requests of the page to its own Jupyter server. */

import { parseJson } from "./format.ts";

const REACH_TIMEOUT = 5000; // ms
const RETRY = 1000; // ms until a server that did not answer is asked again

type PageConfig = {
  baseUrl?: string;
  wsUrl?: string;
  token?: string;
  serverRoot?: string;
  appName?: string;
  appVersion?: string;
};

/** The server that the kernel uses: its base URL, the path of that, and its id. Empty until known. */
export type ServerFacts = { url?: string; base?: string; instance?: string };

/** Return the data about the server in pages of JupyterLab or Notebook; empty in other pages. */
export function pageConfig(): PageConfig {
  return parseJson(document.getElementById("jupyter-config-data")?.textContent) ?? {};
}

/** Return the headers that a request of the page to its own Jupyter server needs. */
export function pageHeaders(): Record<string, string> {
  const headers: Record<string, string> = {};
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1];
  if (xsrf) headers["X-XSRFToken"] = decodeURIComponent(xsrf);
  const { token } = pageConfig();
  if (token) headers.Authorization = `token ${token}`;
  return headers;
}

/** Return the address of a folder in JupyterLab; null if it is not below Jupyter's root. */
export function folderAddress(folder: string): string | null {
  const { baseUrl, serverRoot } = pageConfig();
  const root = serverRoot?.replace(/\/+$/, "");
  if (!baseUrl || root === undefined || !`${folder}/`.startsWith(`${root}/`)) return null;
  const parts = folder.slice(root.length + 1).split("/");
  return `${baseUrl}lab/tree/${parts.map(encodeURIComponent).join("/")}`;
}

/**
 * Return the id of the server at a base URL; null if there is none.
 *
 * While the server of a page of Jupyter does not answer, no message reaches a kernel either: wait.
 */
async function instanceOf(base: string, isPageOfIt: boolean): Promise<string | null> {
  for (;;) {
    try {
      const reply = await fetch(`${base}comfyui-deploy/check-status`, {
        headers: pageHeaders(),
        cache: "no-store",
        signal: AbortSignal.timeout(REACH_TIMEOUT),
      });
      return (await reply.json()).instance ?? null;
    } catch (error) {
      if (!isPageOfIt || error instanceof SyntaxError) return null; // a page of something else
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
}

const reached = new Map<string, Promise<string | null>>();

/**
 * Return the base URL by which the page reaches the Jupyter server that the kernel uses, or null.
 *
 * It is null if the page is from another server, from VS Code or from Colab. A base URL that was
 * found is cached.
 */
export function pageServer({ base: given, instance }: ServerFacts): Promise<string | null> {
  const base = pageConfig().baseUrl || given;
  if (!instance || !base) return Promise.resolve(null);
  const key = `${base} ${instance}`;
  const known = reached.get(key);
  if (known) return known;
  const asked = instanceOf(base, Boolean(pageConfig().baseUrl)).then((found) => {
    if (found === null) reached.delete(key); // the next call tries again
    return found === instance ? base : null;
  });
  reached.set(key, asked);
  return asked;
}

/** Delete the cached result of `pageServer`. */
export function forgetPageServer(): void {
  reached.clear();
}
