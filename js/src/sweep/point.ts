/** The points of a sweep, as `display/sweeps.py` describes them. */

import { h, icon, setText } from "../dom.ts";
import { formatDuration } from "../format.ts";
import type { Item } from "../gallery/item.ts";

/** The headings, and the values of each point, in words. */
export type Heads = {
  row_title: string;
  rows: string[];
  column_title: string;
  /** Empty where each picture has its values below it. */
  columns: string[];
  names: string[];
  /** For each point its value of each name; empty where it has none. */
  values: string[][];
  /** All values of each point on one line. */
  labels: string[];
};

/** Status, duration in s, text, and the name, address and kind of the picture, if there is one. */
export type PointFacts = [string, number | null, string, string, string, Item["kind"]];

/** Return the picture of a point; without one, an item that names the point. */
export function itemOf(facts: PointFacts | undefined, label: string): Item {
  const [, , , name = "", query = "", kind = "image"] = facts ?? [];
  return { name: query ? name : label, kind, query, small: true, waits: false };
}

/** What is shown beside the picture of a point: its values, and its star. */
export class AboutPoint {
  readonly root = h("div", { className: "cd-about" });
  private readonly star: HTMLButtonElement;
  private readonly text = h("span");

  constructor(heads: Heads, index: number, facts: PointFacts | undefined, onstar: () => void) {
    const [status = "", seconds = null] = facts ?? [];
    const rows: [string, string][] = heads.names
      .map((name, place): [string, string] => [name, heads.values[index]?.[place] ?? ""])
      .filter(([, value]) => value);
    rows.push(["Point", String(index)], ["Status", status]);
    if (seconds !== null) rows.push(["Took", formatDuration(seconds)]);
    const list = rows.flatMap(([name, value]) => [
      h("dt", { dir: "auto" }, name),
      h("dd", { dir: "auto" }, value),
    ]);
    this.star = h(
      "button",
      { type: "button", className: "cd-button", title: "Key S", onclick: onstar },
      icon("star"),
      this.text,
    );
    this.root.append(h("dl", {}, list), h("div", { className: "cd-line" }, this.star));
  }

  mark(isStarred: boolean): void {
    this.star.setAttribute("aria-pressed", String(isStarred));
    setText(this.text, isStarred ? " Remove the star" : " Give it a star");
    const picture = this.star.querySelector("i");
    if (picture) picture.className = `fa fa-star${isStarred ? "" : "-o"}`;
  }
}
