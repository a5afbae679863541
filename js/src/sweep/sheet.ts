/** The points of a sweep as a table, or one after another with their values. */

import { h, iconButton } from "../dom.ts";
import type { Files } from "../files.ts";
import { moveFocus } from "../gallery/move_focus.ts";
import type { WhenSeen } from "../when_seen.ts";
import type { Heads, PointFacts } from "./point.ts";

const SIDE = 192; // pixels of a small copy
const MAIN = ".cd-picture-button";
const [NARROWEST, WIDEST] = [2 / 3, 2]; // width of a cell by its height

export type SheetActions = {
  open: (index: number, opener: HTMLElement) => void;
  star: (index: number) => void;
};

type Page = { files: Files; seen: Pick<WhenSeen, "watch"> };

/** One point: its picture or a text, and its star. */
class Cell {
  private shown = "";
  private readonly main: HTMLButtonElement;
  private readonly star: HTMLButtonElement;
  readonly root: HTMLElement;

  constructor(
    readonly index: number,
    private readonly label: string,
    private readonly page: Page,
    actions: SheetActions,
    private readonly measured: (image: HTMLImageElement) => void,
  ) {
    this.main = h("button", {
      type: "button",
      className: "cd-picture-button",
      title: label,
      tabIndex: -1,
      onclick: () => actions.open(index, this.main),
    });
    this.star = iconButton("star-o", "", () => actions.star(index), {
      className: "cd-icon cd-star",
      tabIndex: -1,
    });
    this.root = h("div", { className: "cd-point" }, this.main, this.star);
  }

  show(facts: PointFacts | undefined, isStarred: boolean): void {
    this.mark(isStarred);
    const key = JSON.stringify(facts);
    if (key === this.shown) return;
    this.shown = key;
    const [status = "", , text = "", , query = ""] = facts ?? [];
    this.root.className = `cd-point cd-is-${status}`;
    this.main.setAttribute("aria-label", `${this.label}: ${status}`);
    if (!query) {
      this.showText(text || status);
      return;
    }
    const image = h("img", { alt: this.label, onload: () => this.measured(image) });
    this.main.replaceChildren(image);
    const failed = () => this.showText("The picture is not available any more");
    this.page.seen.watch(this.main, () => this.page.files.show(image, query, SIDE, failed));
  }

  setTab(isActive: boolean): void {
    for (const button of [this.main, this.star]) button.tabIndex = isActive ? 0 : -1;
  }

  private showText(text: string): void {
    this.main.replaceChildren(h("span", { className: "cd-says", dir: "auto" }, text));
  }

  private mark(isStarred: boolean): void {
    const name = `${isStarred ? "Remove the star of" : "Give a star to"} ${this.label}`;
    if (this.star.title === name) return;
    this.star.title = name;
    this.star.setAttribute("aria-label", name);
    this.star.setAttribute("aria-pressed", String(isStarred));
    const picture = this.star.querySelector("i");
    if (picture) picture.className = `fa fa-star${isStarred ? "" : "-o"}`;
  }
}

export class Sheet {
  readonly root = h("div", { className: "cd-sheet" });
  private cells = new Map<number, Cell>();
  private active = 0;

  constructor(
    private readonly heads: Heads,
    private readonly page: Page,
    private readonly actions: SheetActions,
  ) {
    this.root.addEventListener("keydown", (event) => this.react(event));
    this.root.addEventListener("focusin", (event) => {
      const index = this.indexOf(event.target);
      if (index !== null) this.activate(index);
    });
  }

  /** Put these points into the page: all of them as a table, if they have headings. */
  build(indexes: number[], isWhole: boolean): void {
    const cell = (index: number) => {
      const made = new Cell(
        index,
        this.heads.labels[index] ?? "",
        this.page,
        this.actions,
        (image) => this.measure(image),
      );
      made.root.dataset.index = String(index);
      this.cells.set(index, made);
      return made.root;
    };
    this.cells = new Map();
    const { columns } = this.heads;
    this.root.replaceChildren(
      isWhole && columns.length ? this.table(indexes.map(cell)) : this.list(indexes, cell),
    );
    this.active = this.cells.has(this.active) ? this.active : (indexes[0] ?? 0);
    this.cells.get(this.active)?.setTab(true);
  }

  /** Show the present state of the points. */
  show(points: PointFacts[], isStarred: (index: number) => boolean): void {
    for (const [index, cell] of this.cells) cell.show(points[index], isStarred(index));
  }

  /** Give the focus to the point that the Tab key reaches. */
  focus(): void {
    this.cells.get(this.active)?.root.querySelector<HTMLElement>(MAIN)?.focus();
  }

  private table(cells: HTMLElement[]): HTMLElement {
    const { columns, column_title, rows, row_title } = this.heads;
    const head = (text: string, scope: string, colSpan = 1) =>
      h("th", { scope, colSpan, dir: "auto", title: text }, h("span", {}, text));
    const starts = rows.length ? rows.map((_, row) => row * columns.length) : [0];
    return h(
      "table",
      {},
      h(
        "thead",
        {},
        h("tr", {}, rows.length ? h("td") : null, head(column_title, "colgroup", columns.length)),
        h(
          "tr",
          {},
          rows.length ? head(row_title, "col") : null,
          columns.map((text) => head(text, "col")),
        ),
      ),
      h(
        "tbody",
        {},
        starts.map((start, row) =>
          h(
            "tr",
            {},
            rows.length ? head(rows[row] ?? "", "row") : null,
            cells.slice(start, start + columns.length).map((cell) => h("td", {}, cell)),
          ),
        ),
      ),
    );
  }

  private list(indexes: number[], cell: (index: number) => HTMLElement): HTMLElement {
    const items = indexes.map((index) => {
      const label = this.heads.labels[index] ?? "";
      const caption = h("div", { className: "cd-caption", dir: "auto", title: label }, label);
      return h("li", {}, cell(index), caption);
    });
    return h("ul", { className: "cd-points" }, items);
  }

  /** Give all cells the shape of the first picture. */
  private measure({ naturalWidth, naturalHeight }: HTMLImageElement): void {
    const { style } = this.root;
    if (style.getPropertyValue("--cd-ratio") || !naturalHeight) return;
    const ratio = Math.max(NARROWEST, Math.min(WIDEST, naturalWidth / naturalHeight));
    style.setProperty("--cd-ratio", String(ratio));
  }

  private indexOf(target: EventTarget | null): number | null {
    const point = (target as Element | null)?.closest<HTMLElement>(".cd-point");
    return point?.dataset.index === undefined ? null : Number(point.dataset.index);
  }

  private activate(index: number): void {
    if (index === this.active) return;
    this.cells.get(this.active)?.setTab(false);
    this.cells.get(index)?.setTab(true);
    this.active = index;
  }

  private react(event: KeyboardEvent): void {
    const index = this.indexOf(event.target);
    if (index === null || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "s" || event.key === "S") {
      event.preventDefault();
      event.stopPropagation();
      this.actions.star(index);
      return;
    }
    moveFocus(this.root, event);
  }
}
