/** A long list whose elements are created when they are close to the visible area. */

import { h } from "../dom.ts";
import { WhenSeen } from "../when_seen.ts";

const BATCH = 100; // elements that are created at once

/** Shows only items close to the visible area, and creates their elements when it shows them. */
export class Batches<Item> {
  readonly root = h("div", { className: "cd-rows" });
  private readonly end_mark = h("div", { className: "cd-end-mark" });
  private seen = new WhenSeen();
  private items: Item[] = [];
  private shown = 0;

  /** `put` creates the element of an item and adds it to the list; `begin` empties the list. */
  constructor(
    private readonly put: (root: HTMLElement, item: Item) => void,
    private readonly begin: () => void = () => {},
  ) {}

  /** Show other items. */
  show(items: Item[]): void {
    this.items = items;
    this.shown = 0;
    this.root.replaceChildren();
    this.begin();
    this.next();
  }

  /** Show all items up to this one. */
  reach(item: Item): void {
    const place = this.items.indexOf(item);
    while (place >= this.shown && this.shown < this.items.length) this.next();
  }

  end(): void {
    this.seen.end();
  }

  private next(): void {
    this.end_mark.remove();
    for (const item of this.items.slice(this.shown, this.shown + BATCH)) this.put(this.root, item);
    this.shown = Math.min(this.items.length, this.shown + BATCH);
    if (this.shown === this.items.length) return;
    this.root.append(this.end_mark);
    this.seen.end();
    this.seen = new WhenSeen();
    this.seen.watch(this.end_mark, () => this.next());
  }
}
