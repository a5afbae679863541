/**
 * The script of every panel in a notebook: loads the panels once for the page, and shows one.
 *
 * The panels come from the Jupyter server of the page if it has the same version of them, so that
 * they appear while the kernel is busy; otherwise from the kernel.
 */

import { h } from "../dom.ts";
import { followKernel, NO_PICTURES, SILENT } from "../kernel.ts";
import { askForPanels, isPanels, panelsOnce } from "../load_panels.ts";
import type { Buffers, Context, Model } from "../model.ts";
import { pageConfig } from "../server.ts";

const LATE = 4000; // ms

async function fromServer(): Promise<string> {
  const reply = pageConfig().baseUrl ? await askForPanels() : null;
  const text = reply?.ok ? await reply.text() : "";
  if (!isPanels(text)) throw new Error("the server has none of this version");
  return text;
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

/** Say what a panel waits for, and what Python says of it: a busy kernel sends the panels late. */
function sayWaiting(model: Model, el: HTMLElement): () => void {
  const line = h("div", { role: "status" });
  let isLate = false;
  const say = () => {
    const status: string = model.get("status") ?? "";
    line.textContent = isLate ? (status ? `${status}. ${NO_PICTURES}` : SILENT) : status;
  };
  const timer = setTimeout(() => {
    isLate = true;
    say();
  }, LATE);
  model.on("change:status", say);
  el.append(line);
  say();
  return () => {
    clearTimeout(timer);
    model.off("change:status", say);
    line.remove();
  };
}

function render({ model, el }: Context<Record<string, unknown>>) {
  let end = () => {};
  let isOver = false;
  el.classList.add("comfydeploy-panel");
  // as ipywidgets marks it elsewhere; the kernel may end while the panels are loaded
  const leave = followKernel(model, el, () => el.classList.add("jupyter-widgets-disconnected"));
  const endWaiting = sayWaiting(model, el);
  panelsOnce(fromServer)
    .catch(async () => {
      // each panel asks: the kernel of one before it may have ended without an answer
      const text = await fromKernel(model);
      return panelsOnce(async () => text);
    })
    .then(({ mount }) => {
      endWaiting();
      if (!isOver) end = mount(model, el);
    })
    .catch((error) => {
      const text = `The panel cannot be shown: ${error}`;
      el.replaceChildren(h("div", { className: "comfydeploy-error", role: "alert" }, text));
    });
  return () => {
    isOver = true;
    endWaiting();
    leave();
    end();
  };
}

export default { render };
