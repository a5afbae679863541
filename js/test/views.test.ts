import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { followKernel } from "../src/kernel.ts";
import { forgetPageServer } from "../src/server.ts";
import kernelStatus from "../src/views/kernel_status.ts";
import { answerRequests, asModel, FakeModel, find, show, until } from "./page.ts";

beforeEach(() => {
  forgetPageServer();
  answerRequests(() => ({ instance: "one" }));
});

test("a panel without a kernel says so and is disabled, also parts that are added later", async () => {
  const kernel = { id: "k", status: "idle" };
  const slots: (() => void)[] = [];
  const signal = { connect: (slot: () => void) => slots.push(slot), disconnect: () => {} };
  const sessionContext = { session: { kernel }, statusChanged: signal, kernelChanged: signal };
  const setUp = (el: HTMLElement) => el.classList.add("panel");
  const state = { around: "panel", text: "The kernel is gone" };
  const { el } = show(
    {
      render({ model, el: root }) {
        model.widget_manager = { context: { sessionContext } };
        return kernelStatus.render({ model, el: root });
      },
    },
    state,
    setUp,
  );
  const input = document.createElement("input");
  const picture = Object.assign(document.createElement("button"), {
    className: "cd-picture-button",
  });
  el.append(input, picture);
  for (const slot of slots) slot();
  assert.equal(el.hidden, true);
  kernel.status = "dead";
  for (const slot of slots) slot();
  assert.equal(find(el, ".comfydeploy-error").textContent, "The kernel is gone");
  const later = document.createElement("button");
  el.append(later);
  await until(() => later.disabled);
  assert.equal(picture.disabled, false);
});

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

test("no event listener of a view remains after it is closed", () => {
  const states: [Parameters<typeof show>[0], Record<string, unknown>][] = [
    [kernelStatus, { around: "x", text: "" }],
  ];
  for (const [view, state] of states) {
    const { model, end } = show(view, state);
    assert.ok(model.listenerCount > 0);
    end();
    assert.equal(model.listenerCount, 0);
  }
});

test("JupyterLab's shortcuts stay out of each panel, and of what has the focus in it", async () => {
  show(kernelStatus, { around: "comfydeploy-panel", text: "" }, (el) => {
    document.body.innerHTML = '<div class="comfydeploy-panel"><button></button></div>';
    find(document.body, ".comfydeploy-panel").append(el);
  });
  const panel = find(document.body, ".comfydeploy-panel");
  await until(() => panel.hasAttribute("data-lm-suppress-shortcuts"));
  const button = find(panel, "button");
  assert.equal(button.hasAttribute("data-lm-suppress-shortcuts"), false);
  button.dispatchEvent(new Event("focusin", { bubbles: true }));
  assert.equal(button.hasAttribute("data-lm-suppress-shortcuts"), true);
});
