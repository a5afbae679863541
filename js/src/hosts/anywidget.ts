/**
 * The script of every panel in a notebook: loads the panels once for the page, and shows one.
 *
 * The panels come from the Jupyter server of the page if it has the same version of them, so that
 * they appear while the kernel is busy; otherwise from the kernel.
 */

import { h } from "../dom.ts";
import { followKernel } from "../kernel.ts";
import type { Buffers, Context, Model } from "../model.ts";
import type { Panels } from "../panels/index.tsx";
import { pageConfig, pageHeaders } from "../server.ts";

/** SHA-256 of `panels.js`, the first digits; the build sets it. */
declare const PANELS: string;

const LOADED = "comfydeployPanels";

type Page = { [LOADED]?: Record<string, Promise<Panels>> };

async function fromServer(): Promise<string | null> {
  const { baseUrl } = pageConfig();
  if (!baseUrl) return null;
  try {
    const url = `${baseUrl}static/comfydeploy/panels.js?v=${PANELS}`;
    const reply = await fetch(url, { headers: pageHeaders() });
    const text = reply.ok ? await reply.text() : "";
    return text.startsWith(`// ${PANELS} `) ? text : null;
  } catch {
    return null;
  }
}

function fromKernel(model: Model): Promise<string> {
  return new Promise((resolve) => {
    const onMessage = (message: { kind: string }, buffers: Buffers) => {
      if (message.kind !== "panels") return;
      model.off("msg:custom", onMessage);
      resolve(new TextDecoder().decode(buffers[0]));
    };
    model.on("msg:custom", onMessage);
    model.send({ kind: "panels" });
  });
}

async function load(model: Model): Promise<Panels> {
  const text = (await fromServer()) ?? (await fromKernel(model));
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

function panels(model: Model): Promise<Panels> {
  const page = globalThis as Page;
  page[LOADED] ??= {};
  const loaded = page[LOADED];
  loaded[PANELS] ??= load(model);
  loaded[PANELS].catch(() => delete loaded[PANELS]); // the next panel tries again
  return loaded[PANELS];
}

function render({ model, el }: Context<Record<string, unknown>>) {
  let end = () => {};
  let isOver = false;
  el.classList.add("comfydeploy-panel");
  // as ipywidgets marks it elsewhere; the kernel may end while the panels are loaded
  const leave = followKernel(model, el, () => el.classList.add("jupyter-widgets-disconnected"));
  panels(model)
    .then(({ mount }) => {
      if (!isOver) end = mount(model, el);
    })
    .catch((error) => {
      const text = `The panel cannot be shown: ${error}`;
      el.replaceChildren(h("div", { className: "comfydeploy-error", role: "alert" }, text));
    });
  return () => {
    isOver = true;
    leave();
    end();
  };
}

export default { render };
