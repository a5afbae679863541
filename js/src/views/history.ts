/** The earlier runs of a workflow, newest first. */

import { h, iconButton, setUpRoot } from "../dom.ts";
import { Files, type FilesTraits } from "../files.ts";
import { formatDuration } from "../format.ts";
import { type Context, Subscriptions } from "../model.ts";
import { WhenSeen } from "../when_seen.ts";

const SIDE = 192; // pixels of a small copy

type EarlierRun = {
  prompt_id: string;
  status: string;
  title: string;
  created_at: string;
  seconds: number | null;
  query: string | null;
  kind: string;
  summary: string;
};

type Traits = FilesTraits & {
  runs: EarlierRun[];
  more: boolean;
  chosen: string;
  opened: boolean;
};

/** Return the time of a day, or the day and the time where the day is not today. */
function formatTime(iso: string): string {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (isToday) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "history");
  const events = new Subscriptions(model);
  const files = new Files(model, events);
  let seen = new WhenSeen();
  const list = h("ul", { className: "cd-runs" });
  const summary = h("summary", {}, "History");
  const more = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => model.send({ kind: "more" }) },
    "Show earlier runs",
  );
  const refresh = iconButton("refresh", "Look for runs again", () =>
    model.send({ kind: "refresh" }),
  );
  const details = h(
    "details",
    { open: model.get("opened") },
    summary,
    list,
    h("div", { className: "cd-line" }, refresh, more),
  );
  details.addEventListener("toggle", () => {
    model.set("opened", details.open);
    model.save_changes();
  });
  el.append(details);

  const card = (run: EarlierRun, chosen: string) => {
    const { query } = run;
    const image = h("img", { alt: "" });
    const frame = h("span", { className: "cd-frame" }, query ? image : h("span", {}, run.kind));
    const failed = () => frame.replaceChildren(h("span", {}, "gone"));
    if (query) seen.watch(frame, () => files.show(image, query, SIDE, failed));
    const time = run.seconds === null ? "" : formatDuration(run.seconds);
    const facts = [run.title, time].filter(Boolean);
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
        h("span", { className: "cd-when" }, formatTime(run.created_at)),
        h("span", { className: `cd-status cd-${run.status}` }, facts.join(" · ")),
      ),
    );
  };
  const show = () => {
    const runs = model.get("runs");
    el.hidden = !runs.length;
    seen.end();
    seen = new WhenSeen();
    const focused = [...list.children].findIndex((each) => each.contains(document.activeElement));
    summary.textContent = `History (${runs.length}${model.get("more") ? "+" : ""})`;
    list.replaceChildren(...runs.map((run) => card(run, model.get("chosen"))));
    more.hidden = !model.get("more");
    if (focused < 0) return;
    const again = list.children[Math.min(focused, list.children.length - 1)];
    again?.querySelector("button")?.focus();
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
