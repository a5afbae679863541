// How far a run is: the node, both bars, the clock, the picture of the sampler.

function render({ model, el }) {
  prepare(el, "progress");
  const events = listener(model);
  const title = h("span", { className: "cd-node" });
  const spoken = h("span", { className: "cd-unseen", role: "status", "aria-live": "polite" });
  const clock = h("span", { className: "cd-faint cd-number" });
  const bar = (label) =>
    h("div", { className: "cd-bar", role: "progressbar", "aria-label": label }, h("div"));
  const overall = bar("The whole run");
  const step = bar("This node");
  step.classList.add("cd-thin");
  const picture = h("img", { className: "cd-preview", alt: "Preview of the sampler", hidden: true });
  el.append(h("div", { className: "cd-line cd-spread" }, title, clock), spoken, overall, step);
  el.append(picture);
  let url = "";

  const set = (element, fraction) => {
    element.firstChild.style.width = `${100 * fraction}%`;
    element.setAttribute("aria-valuenow", String(Math.round(100 * fraction)));
  };
  const show = () => {
    const state = model.get("state");
    el.hidden = !state.phase;
    if (el.hidden) return drop();
    title.textContent = state.text;
    title.title = state.text;
    if (spoken.textContent !== state.node) spoken.textContent = state.node;
    const parts = [`${Math.round(100 * state.fraction)} %`, duration(state.elapsed)];
    if (state.left !== null) parts.push(`about ${duration(state.left)} left`);
    clock.textContent = parts.join(" · ");
    set(overall, state.fraction);
    set(step, state.steps > 1 ? state.step / state.steps : 0);
    step.style.visibility = state.steps > 1 ? "visible" : "hidden";
  };
  const drop = () => {
    picture.hidden = true;
    picture.removeAttribute("src");
    if (url) URL.revokeObjectURL(url);
    url = "";
  };
  events.on("change:state", show);
  events.on("msg:custom", (message, buffers) => {
    if (message.kind !== "preview" || el.hidden) return;
    const old = url;
    url = URL.createObjectURL(new Blob(buffers, { type: message.mime }));
    picture.src = url;
    picture.hidden = false;
    if (old) URL.revokeObjectURL(old);
  });
  show();
  // A page that was loaded anew shows the picture that is there.
  model.send({ kind: "hello" });
  return () => {
    events.end();
    drop();
  };
}

export default { render };
