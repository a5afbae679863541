/** Requests of the page to its own Jupyter server. */

import { parseJson } from "./format.ts";

const REACH_TIMEOUT = 5000; // ms
const REPLY_TIMEOUT = 60_000; // ms

type PageConfig = { baseUrl?: string; token?: string; serverRoot?: string };

/** The server that the kernel uses: the path of its base URL, and its id. Empty until known. */
export type ServerFacts = { base?: string; instance?: string };

/** The destination of an upload; `machine` is set if it is not the default ComfyUI. */
export type Destination = {
  type: string;
  subfolder: string;
  overwrite: boolean;
  machine: string | null;
};

/** The reply of the route `upload-file`. */
export type UploadReply = { success?: boolean; name: string; file_hash?: string; reused?: boolean };

/** The user cancelled the operation. */
export class Cancelled extends Error {}

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
  const asked = fetch(`${base}comfyui-deploy/check-status`, {
    headers: pageHeaders(),
    cache: "no-store",
    signal: AbortSignal.timeout(REACH_TIMEOUT),
  })
    .then((reply) => reply.json())
    .then((status) => (status.instance === instance ? base : null))
    .catch(() => {
      reached.delete(key); // the next call tries again
      return null;
    });
  reached.set(key, asked);
  return asked;
}

/** Return the JSON reply of a route of the page's own server; throw the message of an error. */
export async function getJson<Reply>(url: string): Promise<Reply> {
  const signal = AbortSignal.timeout(REPLY_TIMEOUT);
  const response = await fetch(url, { headers: pageHeaders(), cache: "no-store", signal });
  const reply = parseJson<Reply & { message?: string }>(await response.text());
  if (response.ok && reply) return reply;
  throw new Error(reply?.message ?? `HTTP ${response.status}`);
}

/** Delete the cached result of `pageServer`. */
export function forgetPageServer(): void {
  reached.clear();
}

/**
 * Send a file from the page to the route `upload-file` of its own server.
 *
 * `progress` is called with the fraction that was sent, and at the end with 1. `done` is the reply of
 * the route; `abort` stops the upload, and `done` is then rejected with `Cancelled`.
 */
export function postFile(
  base: string,
  file: File,
  { machine, ...fields }: Destination,
  progress: (fraction: number) => void,
): { done: Promise<UploadReply>; abort: () => void } {
  const request = new XMLHttpRequest();
  const done = new Promise<UploadReply>((resolve, reject) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
    form.append("file", file, file.name);
    const query = machine ? `?${new URLSearchParams({ machine })}` : "";
    request.open("POST", `${base}comfyui-deploy/upload-file${query}`);
    for (const [name, value] of Object.entries(pageHeaders())) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => progress(event.loaded / Math.max(1, event.total));
    request.upload.onload = () => progress(1);
    request.onload = () => {
      type Reply = UploadReply & { message?: string; error?: string };
      const reply = parseJson<Reply>(request.responseText);
      if (request.status === 200 && reply?.success) resolve(reply);
      else reject(new Error(reply?.message ?? reply?.error ?? `HTTP ${request.status}`));
    };
    request.onerror = () => reject(new Error("The connection was lost, or the file was removed"));
    request.onabort = () => reject(new Cancelled());
    request.send(form);
  });
  return { done, abort: () => request.abort() };
}
