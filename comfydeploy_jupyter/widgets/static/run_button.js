// The button that runs, and how many times: one message says both.

function render({ model, el }) {
  prepare(el, "button");
  const events = listener(model);
  const times = h("input", {
    type: "number",
    min: 1,
    max: model.get("most"),
    step: 1,
    value: "1",
    title: "How many runs to queue",
  });
  const run = h(
    "button",
    {
      type: "button",
      className: "cd-button cd-primary",
      title: "Run the workflow with these values",
      onclick: () => model.send({ kind: "run", times: Number(times.value) }),
    },
    h("i", { className: "fa fa-play", "aria-hidden": "true" }),
    " Run",
  );
  const label = h("label", { className: "cd-line cd-times" }, "times", times);
  el.append(h("div", { className: "cd-line" }, run, label));
  const show = () => {
    run.disabled = model.get("disabled");
    const problem = model.get("problem");
    if (problem) times.setAttribute("aria-invalid", "true");
    else times.removeAttribute("aria-invalid");
    times.title = problem || "How many runs to queue";
    if (problem) times.focus();
  };
  events.on("change:disabled change:problem", show);
  show();
  return () => events.end();
}

export default { render };
