/** The progress of a run: the node, a bar for the run and one for the node, the time. */

import { h, setText, setUpRoot } from "../dom.ts";
import { formatDuration } from "../format.ts";
import { type Context, Subscriptions } from "../model.ts";
import { progressBar, setFraction } from "../progress_bar.ts";

/** `phase` is empty while no run is followed; the other properties are missing then. */
type State = {
  phase: string;
  text: string;
  node: string;
  fraction: number;
  step: number;
  steps: number;
  elapsed: number;
  left: number | null;
};

function render({ model, el }: Context<{ state: State }>) {
  setUpRoot(el, "progress");
  const events = new Subscriptions(model);
  const title = h("span", { className: "cd-node" });
  const spoken = h("span", { className: "cd-unseen", role: "status", "aria-live": "polite" });
  const clock = h("span", { className: "cd-faint cd-number" });
  const overall = progressBar("The whole run");
  const step = progressBar("This node");
  step.classList.add("cd-thin");
  const head = h("div", { className: "cd-line cd-spread" }, title, clock);
  el.append(head, spoken, overall, step);

  const show = () => {
    const state = model.get("state");
    el.hidden = !state.phase;
    if (el.hidden) return;
    title.textContent = state.text;
    title.title = state.text;
    setText(spoken, state.node);
    const parts = [`${Math.round(100 * state.fraction)} %`, formatDuration(state.elapsed)];
    if (state.left !== null) parts.push(`about ${formatDuration(state.left)} left`);
    clock.textContent = parts.join(" · ");
    setFraction(overall, state.fraction);
    setFraction(step, state.steps > 1 ? state.step / state.steps : 0);
    step.style.visibility = state.steps > 1 ? "visible" : "hidden";
  };
  events.on("change:state", show);
  show();
  return () => events.end();
}

export default { render };
