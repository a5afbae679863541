import assert from "node:assert/strict";
import { test } from "node:test";
import { keepKeysIn } from "../src/dom.ts";
import { followKernel } from "../src/kernel.ts";
import { asModel, FakeModel, find } from "./page.ts";

test("the end of a kernel is noticed once, before and after the session and the view are there", async (t) => {
  const slots = new Set<() => void>();
  const signal = {
    connect: (slot: () => void) => slots.add(slot),
    disconnect: (slot: () => void) => slots.delete(slot),
  };
  type Session = { kernel: { id: string; status: string } | null };
  const tell = () => {
    for (const slot of slots) slot();
  };
  const follow = (session: Session | null, marked = "") => {
    const model = new FakeModel({});
    const context = { session, statusChanged: signal, kernelChanged: signal };
    model.widget_manager = { context: { sessionContext: context } };
    const el = document.createElement("div");
    el.className = marked;
    const seen = { ends: 0, context };
    const leave = followKernel(asModel(model), el, () => {
      seen.ends += 1;
    });
    t.after(leave);
    return seen;
  };
  const kernel = { id: "k", status: "idle" };
  const alive = follow({ kernel });
  const marked = follow({ kernel }, "jupyter-widgets-disconnected");
  const late = follow(null);
  const ended = follow({ kernel: { id: "k", status: "autorestarting" } });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual([alive.ends, marked.ends, late.ends, ended.ends], [0, 1, 0, 1]);
  late.context.session = { kernel };
  tell();
  assert.deepEqual([alive.ends, late.ends], [0, 0]);
  kernel.status = "restarting";
  tell();
  kernel.status = "idle";
  tell();
  assert.deepEqual([alive.ends, marked.ends, late.ends, ended.ends], [1, 1, 1, 1]);
});

test("JupyterLab's shortcuts stay out of each panel, and of what has the focus in it", () => {
  document.body.innerHTML = '<div class="comfydeploy-panel"><button></button></div>';
  const panel = find(document.body, ".comfydeploy-panel");
  keepKeysIn(panel);
  assert.equal(panel.hasAttribute("data-lm-suppress-shortcuts"), true);
  const button = find(panel, "button");
  assert.equal(button.hasAttribute("data-lm-suppress-shortcuts"), false);
  button.dispatchEvent(new Event("focusin", { bubbles: true }));
  assert.equal(button.hasAttribute("data-lm-suppress-shortcuts"), true);
});
