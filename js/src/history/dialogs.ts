/** The dialogs of the history: questions and comparisons. */

import { openDialog } from "../dialog.ts";
import { h, iconButton, newId, setText } from "../dom.ts";
import { comparison } from "../gallery/comparison.ts";
import type { Item, Page } from "../gallery/item.ts";
import { type EarlierRun, formatTime } from "./run.ts";

/** A line of a comparison: what differs, the values of both runs, and the kind of their field. */
export type Difference = string[];

/** Asks whether to delete runs. */
export class DeleteDialog {
  readonly root = h("dialog", { className: "cd-dialog" });

  /** Ask; `confirmed` is called with whether to delete output files, too. */
  ask(question: string, opener: Element | null, confirmed: (files: boolean) => void): void {
    const id = newId();
    const files = h("input", { type: "checkbox", checked: false });
    const cancel = h(
      "button",
      { type: "button", className: "cd-button", onclick: () => this.root.close() },
      "Cancel",
    );
    const confirm = h(
      "button",
      {
        type: "button",
        className: "cd-button cd-danger",
        onclick: () => {
          this.root.close();
          confirmed(files.checked);
        },
      },
      "Delete",
    );
    this.root.setAttribute("aria-labelledby", id);
    this.root.replaceChildren(
      h("div", { id, className: "cd-question" }, question),
      h("label", { className: "cd-check" }, files, "Delete their output files from the disk, too"),
      h(
        "div",
        { className: "cd-faint" },
        "Pinned runs stay. Files stay if another run, a workflow or an upload uses them.",
      ),
      h("div", { className: "cd-line cd-end" }, cancel, confirm),
    );
    openDialog(this.root, opener);
    cancel.focus();
  }

  end(): void {
    if (this.root.open) this.root.close();
  }
}

/** Shows two runs: their pictures under a slider, and the values that differ. */
export class CompareDialog {
  readonly root = h("dialog", { className: "cd-dialog cd-wide-dialog" });
  private readonly table = h("div", { className: "cd-differences" });
  private pair = "";
  private times: string[] = []; // of both runs, as displayed
  private step: (by: number) => void = () => {};

  constructor() {
    // A slider handles these keys itself; with Alt, Ctrl or Meta they are the browser's.
    this.root.addEventListener("keydown", ({ key, altKey, ctrlKey, metaKey }) => {
      if (altKey || ctrlKey || metaKey) return;
      if (key === "ArrowLeft") this.step(-1);
      if (key === "ArrowRight") this.step(1);
    });
  }

  show(
    page: Pick<Page, "files" | "seen">,
    first: EarlierRun,
    second: EarlierRun,
    opener: Element | null,
  ): void {
    this.pair = [first.prompt_id, second.prompt_id].join();
    const id = newId();
    const close = iconButton("times", "Close", () => this.root.close());
    this.times = [first, second].map((run) => formatTime(run.created_at, true));
    const title = `Run of ${this.times[0]} (before) and run of ${this.times[1]} (after)`;
    this.table.replaceChildren(h("span", { className: "cd-faint" }, "Comparing …"));
    const pictures = h("div", { className: "cd-pair" });
    this.showPictures(pictures, page, first.pictures, second.pictures);
    this.root.setAttribute("aria-labelledby", id);
    this.root.replaceChildren(
      h("div", { className: "cd-line" }, h("b", { id, className: "cd-grow" }, title), close),
      h("div", { className: "cd-columns" }, pictures, this.table),
    );
    openDialog(this.root, opener);
    this.root.addEventListener("close", () => page.files.free(this.root), { once: true });
    close.focus();
  }

  /** Show the first pictures of two runs, and buttons for the others, if there are any. */
  private showPictures(
    root: HTMLElement,
    page: Pick<Page, "files" | "seen">,
    before: EarlierRun["pictures"],
    after: EarlierRun["pictures"],
  ): void {
    const count = Math.max(before.length, after.length);
    const canTurn = count > 1 && before.length > 0 && after.length > 0;
    const position = h("span", { className: "cd-faint", role: "status" });
    const next = iconButton("chevron-right", "Next pictures (right arrow key)", () => this.step(1));
    const turn = h(
      "div",
      { className: "cd-line", role: "group", "aria-label": "Pictures of both runs" },
      iconButton("chevron-left", "Previous pictures (left arrow key)", () => this.step(-1)),
      position,
      next,
    );
    const frame = h("div");
    let index = 0;
    const show = (by: number) => {
      index = (index + by + count) % (count || 1);
      // A run with fewer pictures keeps its last one.
      const places = [before, after].map(({ length }) => Math.min(index, length - 1));
      const [old, present] = [before[places[0] ?? 0], after[places[1] ?? 0]];
      if (!old || !present) {
        frame.textContent = "Not both of these runs have a picture.";
        return;
      }
      setText(position, positionOf(places, [before.length, after.length]));
      page.files.free(frame);
      const hadFocus = frame.contains(document.activeElement);
      const gone = () => [h("div", {}, "A picture is not available any more.")];
      frame.replaceChildren(comparison(page, asItem(old), asItem(present), gone));
      if (hadFocus) next.focus();
    };
    this.step = canTurn ? show : () => {};
    show(0);
    root.replaceChildren(...(canTurn ? [turn] : []), frame);
  }

  /** Show the values that differ, when they are known. */
  showDifferences(promptIds: string[], lines: Difference[], problem = ""): void {
    if (promptIds.join() !== this.pair) return;
    if (problem || !lines.length) {
      this.table.replaceChildren(h("div", {}, problem || "All values are the same."));
      return;
    }
    const cell = (text: string, kind: string) => h("td", { dir: "auto" }, swatch(text, kind), text);
    const rows = lines.map(([what = "", before = "", after = "", kind = ""]) =>
      before || after
        ? h(
            "tr",
            {},
            h("th", { scope: "row", dir: "auto" }, what),
            cell(before, kind),
            cell(after, kind),
          )
        : h("tr", {}, h("td", { colSpan: 3, dir: "auto" }, what)),
    );
    const [first, second] = this.times;
    const heads = ["", `before: run of ${first}`, `after: run of ${second}`].map((text) =>
      h("th", { scope: "col" }, text),
    );
    this.table.replaceChildren(
      h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows)),
    );
  }

  end(): void {
    if (this.root.open) this.root.close();
  }
}

/** Return which pictures of two runs are shown, in words. */
function positionOf([before = 0, after = 0]: number[], [many = 0, others = 0]: number[]): string {
  if (many === others) return `Picture ${before + 1} of ${many}`;
  return `Before: picture ${before + 1} of ${many}, after: picture ${after + 1} of ${others}`;
}

/** Return the colour that a text names, as a small square; null if it names none. */
function swatch(text: string, kind: string): HTMLElement | null {
  if (kind !== "color" || !/^#[0-9a-f]{6}$/.test(text)) return null;
  const square = h("span", { className: "cd-swatch", "aria-hidden": "true" });
  square.style.backgroundColor = text;
  return square;
}

/** Return a picture of a run in the form that the gallery needs. */
export function asItem(picture: EarlierRun["pictures"][number]): Item {
  return { ...picture, small: true, waits: false };
}
