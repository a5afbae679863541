// The earlier runs of a workflow, newest first.

function render({ model, el }) {
  prepare(el, "history");
  const events = listener(model);
  const files = new Files(model, events);
  let seen = whenSeen();
  const list = h("ul", { className: "cd-runs" });
  const summary = h("summary", {}, "History");
  const more = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => model.send({ kind: "more" }) },
    "Show earlier runs",
  );
  const details = h(
    "details",
    { open: model.get("opened") },
    summary,
    h(
      "div",
      { className: "cd-line" },
      iconButton("refresh", "Look for runs again", () => model.send({ kind: "refresh" })),
      more,
    ),
  );
  details.children[1].before(list);
  details.addEventListener("toggle", () => {
    model.set("opened", details.open);
    model.save_changes();
  });
  el.append(details);

  const when = (iso) => {
    const date = new Date(iso);
    const today = date.toDateString() === new Date().toDateString();
    const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    return today ? time : `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
  };
  const card = (run, chosen) => {
    const image = run.query ? h("img", { alt: "" }) : null;
    const frame = h("span", { className: "cd-frame" }, image ?? h("span", {}, run.kind));
    const failed = () => frame.replaceChildren(h("span", {}, "gone"));
    if (image) seen.watch(frame, () => files.show(image, run.query, 192, failed));
    const facts = [run.title, run.seconds === null ? "" : duration(run.seconds)].filter(Boolean);
    return h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          className: "cd-run",
          title: run.summary,
          "aria-pressed": String(run.prompt_id === chosen),
          "aria-label": `Run of ${new Date(run.created_at).toLocaleString()}: ${facts.join(", ")}`,
          onclick: () => model.send({ kind: "show", prompt_id: run.prompt_id }),
        },
        frame,
        h("span", { className: "cd-when" }, when(run.created_at)),
        h("span", { className: `cd-status cd-${run.status}` }, facts.join(" · ")),
      ),
    );
  };
  const show = () => {
    const runs = model.get("runs");
    el.hidden = !runs.length;
    seen.end();
    seen = whenSeen();
    const place = list.contains(document.activeElement)
      ? [...list.children].findIndex((each) => each.contains(document.activeElement))
      : -1;
    summary.textContent = `History (${runs.length}${model.get("more") ? "+" : ""})`;
    list.replaceChildren(...runs.map((run) => card(run, model.get("chosen"))));
    more.hidden = !model.get("more");
    if (place >= 0) list.children[Math.min(place, list.children.length - 1)]?.firstChild.focus();
  };
  events.on("change:runs change:more change:chosen", show);
  show();
  return () => {
    seen.end();
    events.end();
    files.end();
  };
}

export default { render };
