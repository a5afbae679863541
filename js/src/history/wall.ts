/** A grid of cards of the same size. Only visible cards, and those near them, are in the page. */

import { h } from "../dom.ts";

const HEIGHT = 148; // pixels of a card
const LEAST_WIDTH = 128; // pixels of a card
const GAP = 8; // pixels
const MOST_HEIGHT = 3 * (HEIGHT + GAP) + HEIGHT / 2; // pixels of the wall; half a row shows that it scrolls
const SPARE = 2; // rows that are created above and below the visible ones

export type Card<Entry> = {
  /** Create the content of a card. */
  make: (entry: Entry) => HTMLElement[];
  /** Free the resources of a card. */
  free: (card: HTMLElement) => void;
  /** Return a text that changes when the content of a card changes. */
  key: (entry: Entry) => string;
  /** Called when the user has scrolled close to the last cards. */
  near_end: () => void;
  /** The selector of the element of a card that gets the focus. */
  main: string;
};

export class Wall<Entry> {
  private readonly list = h("ul", { className: "cd-runs" });
  readonly root = h("div", { className: "cd-wall" }, this.list);
  private entries: Entry[] = [];
  private readonly cards = new Map<number, { key: string; layout: string; item: HTMLElement }>();
  private columns = 1;
  private active = 0; // the card that the Tab key reaches
  private frame = 0;
  private readonly observer: ResizeObserver;

  constructor(private readonly card: Card<Entry>) {
    this.root.addEventListener("scroll", () => this.soon());
    this.root.addEventListener("keydown", (event) => this.walk(event));
    this.root.addEventListener("focusin", (event) => this.note(event.target as HTMLElement));
    this.observer = new ResizeObserver(() => this.soon());
    this.observer.observe(this.root);
  }

  /** Show other entries; cards with the same content are reused. */
  show(entries: Entry[]): void {
    this.entries = entries;
    this.active = Math.min(this.active, Math.max(0, entries.length - 1));
    this.draw();
  }

  end(): void {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    this.remove(() => true);
  }

  private soon(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  private draw(): void {
    const { root, list, entries } = this;
    const width = root.clientWidth;
    this.columns = Math.max(1, Math.floor((width + GAP) / (LEAST_WIDTH + GAP)));
    const rows = Math.ceil(entries.length / this.columns);
    const total = Math.max(0, rows * (HEIGHT + GAP) - GAP);
    root.style.height = `${Math.min(total + 4, MOST_HEIGHT)}px`;
    list.style.height = `${total}px`;
    const shown = Math.ceil(MOST_HEIGHT / (HEIGHT + GAP));
    const top = Math.floor(root.scrollTop / (HEIGHT + GAP));
    const first = Math.max(0, top - SPARE) * this.columns;
    const last = Math.min(entries.length, (top + shown + SPARE) * this.columns);
    const focused = this.focused();
    this.remove((place) => (place < first || place >= last) && place !== focused);
    for (let place = first; place < last; place += 1) this.put(place);
    if (last === entries.length) this.card.near_end();
  }

  /** Put a card at its position; create it if it is missing or has another content. */
  private put(place: number): void {
    const entry = this.entries[place];
    if (entry === undefined) return;
    const key = this.card.key(entry);
    const layout = `${this.columns} ${this.entries.length} ${place === this.active}`;
    const before = this.cards.get(place);
    if (before?.key === key && before.layout === layout) return; // as for most while it scrolls
    const item = before?.item ?? h("li");
    this.cards.set(place, { key, layout, item });
    if (before?.key !== key) {
      const hadFocus = item.contains(document.activeElement);
      if (before) this.card.free(item);
      item.replaceChildren(...this.card.make(entry));
      if (!before) this.list.append(item);
      if (hadFocus) this.main(item)?.focus({ preventScroll: true });
    }
    item.setAttribute("aria-posinset", String(place + 1));
    item.setAttribute("aria-setsize", String(this.entries.length));
    const column = place % this.columns;
    const row = Math.floor(place / this.columns);
    const part = 100 / this.columns;
    item.style.width = `calc(${part}% - ${GAP - GAP / this.columns}px)`;
    item.style.insetInlineStart = `calc(${column * part}% + ${(column * GAP) / this.columns}px)`;
    item.style.top = `${row * (HEIGHT + GAP)}px`;
    this.setTabs(item, place === this.active);
  }

  private remove(when: (place: number) => boolean): void {
    for (const [place, { item }] of this.cards) {
      if (!when(place) && place < this.entries.length) continue;
      this.card.free(item);
      item.remove();
      this.cards.delete(place);
    }
  }

  private main(item: HTMLElement): HTMLElement | null {
    return item.querySelector<HTMLElement>(this.card.main);
  }

  private focused(): number {
    for (const [place, { item }] of this.cards) {
      if (item.contains(document.activeElement)) return place;
    }
    return -1;
  }

  private setTabs(item: HTMLElement, isActive: boolean): void {
    for (const each of item.querySelectorAll<HTMLElement>("button, input")) {
      each.tabIndex = isActive ? 0 : -1;
    }
  }

  /** Make the card that has the focus the one that the Tab key reaches. */
  private note(target: HTMLElement): void {
    const found = [...this.cards].find(([, { item }]) => item.contains(target));
    if (!found) return; // the focus is on the wall itself
    [this.active] = found;
    for (const [place, { item }] of this.cards) this.setTabs(item, place === this.active);
  }

  /** Move the focus with the arrow keys, Home, End, Page Up and Page Down. */
  private walk(event: KeyboardEvent): void {
    const page = 3 * this.columns;
    const start = this.entries.length;
    const isRightToLeft = getComputedStyle(this.root).direction === "rtl";
    const forward = isRightToLeft ? -1 : 1;
    const steps: Record<string, number> = {
      ArrowLeft: -forward,
      ArrowRight: forward,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -page,
      PageDown: page,
      Home: -start,
      End: start,
    };
    const step = steps[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const inRange = Math.max(0, Math.min(start - 1, this.active + step));
    const leaves = Math.abs(step) === this.columns && this.active + step !== inRange;
    this.focus(leaves ? this.active : inRange);
  }

  /** Give the focus to a card, after scrolling to it. */
  focus(place: number): void {
    if (!this.entries.length) return;
    this.active = Math.max(0, Math.min(place, this.entries.length - 1));
    const top = Math.floor(this.active / this.columns) * (HEIGHT + GAP);
    const { scrollTop, clientHeight } = this.root;
    if (top < scrollTop) this.root.scrollTop = top;
    else if (top + HEIGHT > scrollTop + clientHeight) {
      this.root.scrollTop = top + HEIGHT - clientHeight + 4;
    }
    this.draw();
    const card = this.cards.get(this.active);
    if (card) this.main(card.item)?.focus({ preventScroll: true });
  }
}
