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
  /** Return what identifies an entry; its card moves with it. */
  id: (entry: Entry) => string;
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
  private places = new Map<string, number>(); // by the id of the entry
  private readonly cards = new Map<string, { key: string; layout: string; item: HTMLElement }>();
  private columns = 1;
  private active = 0; // the place of the card that the Tab key reaches
  private chosen = ""; // the id of its entry, once the user has been there
  private frame = 0;
  private readonly observer: ResizeObserver;

  constructor(private readonly card: Card<Entry>) {
    this.root.addEventListener("scroll", () => this.soon());
    this.root.addEventListener("keydown", (event) => this.moveFocus(event));
    this.root.addEventListener("focusin", (event) => this.note(event.target as HTMLElement));
    this.observer = new ResizeObserver(() => this.soon());
    this.observer.observe(this.root);
  }

  /** Show other entries. The focus stays with its entry; if that is gone, the next one gets it. */
  show(entries: Entry[]): void {
    const hadFocus = this.focused() !== null;
    this.entries = entries;
    this.places = new Map(entries.map((entry, place) => [this.card.id(entry), place]));
    const last = Math.max(0, entries.length - 1);
    this.active = this.places.get(this.chosen) ?? Math.min(this.active, last);
    this.draw();
    if (hadFocus && this.focused() === null) this.focus(this.active);
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
    const isNear = (place: number) => place >= first && place < last;
    const focused = this.places.get(this.focused() ?? "") ?? first;
    this.remove((place) => !isNear(place) && place !== focused);
    let before: HTMLElement | null = null;
    if (focused < first) before = this.put(focused, before);
    for (let place = first; place < last; place += 1) before = this.put(place, before);
    if (focused >= last) this.put(focused, before);
    if (last === entries.length) this.card.near_end();
  }

  /** Put a card at its place, after the one before; create it if it is missing or has another content. */
  private put(place: number, before: HTMLElement | null): HTMLElement | null {
    const entry = this.entries[place];
    if (entry === undefined) return before;
    const id = this.card.id(entry);
    const key = this.card.key(entry);
    const layout = `${place} ${this.columns} ${this.entries.length} ${place === this.active}`;
    const present = this.cards.get(id);
    const item = present?.item ?? h("li");
    if (!present || item.previousElementSibling !== before) {
      this.list.insertBefore(item, before ? before.nextSibling : this.list.firstChild);
    }
    if (present?.key === key && present.layout === layout) return item; // as for most while it scrolls
    this.cards.set(id, { key, layout, item });
    if (present?.key !== key) {
      const hadFocus = item.contains(document.activeElement);
      if (present) this.card.free(item);
      item.replaceChildren(...this.card.make(entry));
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
    return item;
  }

  private remove(when: (place: number) => boolean): void {
    for (const [id, { item }] of this.cards) {
      const place = this.places.get(id);
      if (place !== undefined && !when(place)) continue;
      this.card.free(item);
      item.remove();
      this.cards.delete(id);
    }
  }

  private main(item: HTMLElement): HTMLElement | null {
    return item.querySelector<HTMLElement>(this.card.main);
  }

  /** Return the id of the entry whose card contains the focus, or null. */
  private focused(element: Element | null = document.activeElement): string | null {
    for (const [id, { item }] of this.cards) if (item.contains(element)) return id;
    return null;
  }

  private setTabs(item: HTMLElement, isActive: boolean): void {
    for (const each of item.querySelectorAll<HTMLElement>("button, input")) {
      each.tabIndex = isActive ? 0 : -1;
    }
  }

  /** Make the card that has the focus the one that the Tab key reaches. */
  private note(target: HTMLElement): void {
    const found = this.focused(target);
    if (found === null) return; // the focus is on the wall itself
    this.chosen = found;
    this.active = this.places.get(found) ?? this.active;
    for (const [id, { item }] of this.cards) this.setTabs(item, id === found);
  }

  /** Move the focus with the arrow keys, Home, End, Page Up and Page Down. */
  private moveFocus(event: KeyboardEvent): void {
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
    this.active = Math.max(0, Math.min(place, this.entries.length - 1));
    const entry = this.entries[this.active];
    if (entry === undefined) return;
    this.chosen = this.card.id(entry);
    const top = Math.floor(this.active / this.columns) * (HEIGHT + GAP);
    const { scrollTop, clientHeight } = this.root;
    if (top < scrollTop) this.root.scrollTop = top;
    else if (top + HEIGHT > scrollTop + clientHeight) {
      this.root.scrollTop = top + HEIGHT - clientHeight + 4;
    }
    this.draw();
    const card = this.cards.get(this.chosen);
    if (card) this.main(card.item)?.focus({ preventScroll: true });
  }
}
