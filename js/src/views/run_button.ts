/** The Run button, and a field for the number of runs, which is sent with each click. */

import { h, icon, setAttribute, setUpRoot } from "../dom.ts";
import { unconfirmedIn } from "../form/unconfirmed.ts";
import { type Context, Subscriptions } from "../model.ts";

const HINT = "How many runs to queue";

function render({ model, el }: Context<{ disabled: boolean; most: number; problem: string }>) {
  setUpRoot(el, "button");
  el.classList.add("comfydeploy-run");
  const events = new Subscriptions(model);
  const times = h("input", {
    type: "number",
    min: 1,
    max: model.get("most"),
    step: 1,
    value: "1",
    title: HINT,
  });
  const run = h(
    "button",
    {
      type: "button",
      className: "cd-button cd-primary",
      title: "Run the workflow with these values (Ctrl+Enter)",
      onclick: () =>
        model.send({ kind: "run", times: Number(times.value), typed: unconfirmedIn(el) }),
    },
    icon("play"),
    " Run",
  );
  const label = h("label", { className: "cd-line cd-times" }, "times", times);
  el.append(h("div", { className: "cd-line" }, run, label));
  const show = () => {
    run.disabled = model.get("disabled");
    const problem = model.get("problem");
    setAttribute(times, "aria-invalid", problem ? "true" : null);
    times.title = problem || HINT;
    if (problem) times.focus();
  };
  events.on("change:disabled change:problem", show);
  show();
  return () => events.end();
}

export default { render };
