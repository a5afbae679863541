/** The keys of a panel that runs workflows, and the height that its bar leaves for the result. */

import { h, iconButton, setUpRoot, whenConnected } from "../dom.ts";
import { type Context, Subscriptions } from "../model.ts";

type Traits = { running: boolean };

const LEAST_ROOM = 240; // the least height of a picture, in pixels
const AROUND = 90; // pixels of height that a result needs beside its picture
const MOST_ABOVE = 0.3; // of the height of the view, for what is above the bar

const KEYS: [keys: string[], what: string][] = [
  [["Ctrl", "Enter"], "Run the workflow (⌘ Enter on a Mac)"],
  [["Esc"], "Cancel this run, after a confirmation"],
  [["←", "→", "Home", "End"], "Go through the pictures; Enter enlarges one"],
  [["Tab"], "Go to the next control"],
  [["?"], "Show these keys"],
];
const TYPED = "input:not([type=checkbox], [type=range], [type=color]), textarea, select";

/** Return the element whose scrolling moves an element, or null for the page. */
function scrollerOf(element: Element): Element | null {
  for (let at = element.parentElement; at; at = at.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(at).overflowY)) return at;
  }
  return null;
}

function topOf(element: Element): number {
  return element.getBoundingClientRect().top;
}

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "keys");
  const events = new Subscriptions(model);
  const cleanups: (() => void)[] = [];
  let opener: HTMLElement | null = null;

  const close = iconButton("times", "Close", () => help.close());
  const help = h(
    "dialog",
    { className: "cd-help", "aria-label": "Keys" },
    h("div", { className: "cd-line" }, h("b", { className: "cd-grow" }, "Keys"), close),
    h(
      "dl",
      {},
      KEYS.flatMap(([keys, what]) => [
        h(
          "dt",
          {},
          keys.map((key) => h("kbd", {}, key)),
        ),
        h("dd", {}, what),
      ]),
    ),
  );
  const showHelp = () => {
    if (!help.open) help.showModal();
  };
  const helpButton = iconButton("keyboard-o", "Keys (?)", showHelp);

  const stop = h(
    "button",
    {
      type: "button",
      className: "cd-button cd-primary",
      onclick: () => {
        model.send({ kind: "cancel" });
        dismiss();
      },
    },
    "Cancel the run",
  );
  const keep = h("button", { type: "button", className: "cd-button" }, "Continue the run");
  const question = h(
    "div",
    { className: "cd-line cd-ask", role: "alertdialog", "aria-label": "Cancel the run?" },
    h("span", { className: "cd-grow" }, "Cancel the run that is shown?"),
    stop,
    keep,
  );
  question.hidden = true;
  const dismiss = () => {
    if (question.hidden) return;
    const hadFocus = question.contains(document.activeElement);
    question.hidden = true;
    if (hadFocus) opener?.focus();
  };
  keep.addEventListener("click", dismiss);
  el.append(helpButton, question, help);

  const onKey = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    const panel = event.currentTarget as HTMLElement;
    if (event.defaultPrevented && event.key !== "Enter") return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      panel.querySelector<HTMLButtonElement>(".comfydeploy-run button.cd-primary")?.click();
    } else if (event.key === "Escape" && !target.closest("dialog")) {
      if (!question.hidden) dismiss();
      else if (model.get("running")) {
        opener = document.activeElement as HTMLElement;
        question.hidden = false;
        stop.focus();
      } else return;
    } else if (event.key === "?" && !target.matches(TYPED)) showHelp();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  cleanups.push(
    whenConnected(el, () => {
      const panel = el.closest<HTMLElement>(".comfydeploy-panel");
      const bar = el.closest<HTMLElement>(".cd-bar-box");
      if (!panel || !bar) return;
      panel.addEventListener("keydown", onKey);
      let scroller: Element | null = null;
      const measure = () => {
        const found = scrollerOf(panel);
        if (found !== scroller) {
          if (scroller) observer.unobserve(scroller);
          if (found) observer.observe(found);
          scroller = found;
        }
        const view = scroller?.clientHeight ?? window.innerHeight;
        // The whole result is visible while the page shows the beginning of the panel's cell.
        const start = panel.closest(".jp-Cell") ?? panel;
        const above = topOf(bar.parentElement ?? bar) - topOf(start);
        const taken = Math.min(above, view * MOST_ABOVE) + bar.offsetHeight + AROUND;
        const room = Math.round(Math.max(LEAST_ROOM, view - taken));
        panel.style.setProperty("--cd-view", `${view}px`);
        panel.style.setProperty("--cd-bar", `${bar.offsetHeight}px`);
        panel.style.setProperty("--cd-room", `${room}px`);
      };
      // JupyterLab may make an output scrollable later.
      const onScroll = ({ target }: Event) => {
        if (target !== scroller && target instanceof Element && target.contains(panel)) measure();
      };
      // Not at once: the new height changes the size of the panel.
      const observer = new ResizeObserver(() => requestAnimationFrame(measure));
      observer.observe(bar);
      observer.observe(panel);
      document.addEventListener("scroll", onScroll, true);
      window.addEventListener("resize", measure);
      measure();
      cleanups.push(() => {
        panel.removeEventListener("keydown", onKey);
        observer.disconnect();
        document.removeEventListener("scroll", onScroll, true);
        window.removeEventListener("resize", measure);
      });
    }),
  );
  events.on("change:running", () => {
    if (!model.get("running")) dismiss();
  });
  return () => {
    events.end();
    for (const cleanup of cleanups) cleanup();
  };
}

export default { render };
