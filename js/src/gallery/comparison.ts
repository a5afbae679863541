/** Two pictures under a slider. */

import { h } from "../dom.ts";
import { downloadLink } from "./download_link.ts";
import { type Item, LARGEST_COPY, nameOf, type Page } from "./item.ts";

/** The distance by which a key moves the slider, in percent. */
const STEPS: Record<string, number> = {
  ArrowLeft: -1,
  ArrowDown: -1,
  ArrowRight: 1,
  ArrowUp: 1,
  PageDown: -10,
  PageUp: 10,
  Home: -100,
  End: 100,
};

/**
 * Two pictures, one over the other; a slider determines how much of each is visible.
 *
 * `otherwise` creates the element that replaces them if one cannot be shown.
 */
export function comparison(
  { files, seen }: Pick<Page, "files" | "seen">,
  before: Item,
  after: Item,
  otherwise: () => HTMLElement[],
): HTMLElement {
  const below = h("img", { alt: nameOf(after) });
  const above = h("img", { alt: nameOf(before) });
  const slider = h("input", {
    type: "range",
    min: 0,
    max: 100,
    value: 50,
    title: "Before and after",
    "aria-label": `Compare ${nameOf(before)} with ${nameOf(after)}`,
  });
  const move = () => {
    root.style.setProperty("--cd-cut", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % before`);
  };
  slider.addEventListener("input", move);
  // JupyterLab prevents the default action of a slider for these keys.
  slider.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    slider.value = String(Number(slider.value) + step);
    move();
  });
  const root = h(
    "div",
    { className: "cd-compare" },
    h(
      "div",
      { className: "cd-stack" },
      below,
      above,
      h("span", { className: "cd-tag" }, "before"),
      h("span", { className: "cd-tag cd-after" }, "after"),
      slider,
    ),
    h("div", { className: "cd-line" }, downloadLink(files, before), downloadLink(files, after)),
  );
  move();
  const failed = () => root.replaceChildren(...otherwise());
  seen.watch(root, () => {
    files.show(below, after.query, LARGEST_COPY, failed);
    files.show(above, before.query, LARGEST_COPY, failed);
  });
  return root;
}
