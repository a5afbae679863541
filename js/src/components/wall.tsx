/** A long list or grid that scrolls. Only what is visible, and what is near it, is in the page. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

const SPARE = 2; // rows that are made above and below the visible ones
const TALLEST = 15_000_000; // pixels; browsers cut taller elements, so a longer list moves faster

type WallProps = {
  count: number;
  /** Pixels of an entry, and between two. */
  height: number;
  gap: number;
  /** Pixels; with 0 there is one column. */
  leastWidth: number;
  /** Rows that are visible at most, or null for as many as the page has room for. */
  rows: number | null;
  label: string;
  /** What identifies an entry, so that its element moves with it. */
  keyOf: (place: number) => string;
  /** The content of an entry; `tabIndex` is for its controls. */
  render: (place: number, tabIndex: number) => ComponentChildren;
  /** Called with the places that are in the page now, and whether the first row is visible. */
  onRange: (first: number, end: number, isAtTop: boolean) => void;
  /** An entry that is open: what stands below its row. */
  opened?: { place: number; key: string; content: ComponentChildren } | null;
  class?: string;
};

/** The element of an entry that gets the focus has the class `cd-main`. */
export function Wall(props: WallProps) {
  const { count, height, gap, leastWidth, rows: mostRows, keyOf, render, onRange } = props;
  const { opened } = props;
  const root = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLUListElement>(null);
  const strip = useRef<HTMLLIElement>(null);
  const [width, setWidth] = useState(0);
  const [top, setTop] = useState(0); // the first visible row
  const [active, setActive] = useState(""); // the key of the entry that the Tab key reaches
  const wanted = useRef<number | null>(null); // the place that gets the focus
  const lastPlace = useRef(0); // of the active entry
  const step = height + gap;
  const columns = leastWidth ? Math.max(1, Math.floor((width + gap) / (leastWidth + gap))) : 1;
  const rows = Math.ceil(count / columns);
  const openRow = opened ? Math.floor(opened.place / columns) : rows;
  const [stripHeight, setStripHeight] = useState(0);
  const added = opened ? stripHeight + gap : 0;
  const total = Math.max(0, rows * step - gap) + added;
  const most =
    (mostRows === null ? Math.max(3 * step, innerHeight - 220) : (mostRows + 0.5) * step) +
    Math.min(added, innerHeight / 2);
  const visible = Math.ceil(Math.min(total, most) / step);
  // A list that is too tall is as tall as possible, and a pixel there is several of the list.
  const view = Math.min(total + 4, most);
  const scale = total > TALLEST ? (total - view) / (TALLEST - view) : 1;
  const topOf = (row: number) => row * step + (row > openRow ? added : 0);
  const rowAt = (pixel: number) => {
    const row = Math.floor(Math.max(0, pixel) / step);
    return row <= openRow ? row : Math.max(openRow, Math.floor((pixel - added) / step));
  };
  const first = Math.max(0, top - SPARE) * columns;
  const end = Math.min(count, (top + visible + SPARE + 1) * columns);

  useLayoutEffect(() => {
    const { current } = root;
    if (!current) return;
    const measure = () => setWidth(current.clientWidth);
    const observer = new ResizeObserver(measure);
    observer.observe(current);
    measure();
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    const { current } = strip;
    if (!current) return;
    const measure = () => setStripHeight(current.offsetHeight);
    const observer = new ResizeObserver(measure);
    observer.observe(current);
    measure();
    // what is below the entry is seen
    if (root.current) root.current.scrollTop = topOf(openRow) / scale;
    root.current?.scrollIntoView({ block: "nearest" });
    return () => observer.disconnect();
  }, [opened?.key]);
  useLayoutEffect(() => {
    onRange(first, end, top === 0);
  }, [first, end, count, top === 0]);
  const base = scale === 1 ? 0 : topOf(Math.max(0, top - SPARE));
  const onScroll = () => {
    const { current } = root;
    if (!current) return;
    const { scrollTop } = current;
    if (list.current) {
      const by = base + scrollTop - scrollTop * scale;
      list.current.style.transform = scale === 1 ? "" : `translateY(${by}px)`;
    }
    setTop(rowAt(scrollTop * scale));
  };
  useLayoutEffect(onScroll, [step, columns, total, base]);

  // The place of the active entry, which may have moved; if it is gone, the one that is there now.
  let focused = Math.min(lastPlace.current, Math.max(0, count - 1));
  if (active && keyOf(focused) !== active) {
    for (let place = first; place < end; place += 1) if (keyOf(place) === active) focused = place;
  }
  lastPlace.current = focused;
  const places: number[] = [];
  if (focused < first && focused < count) places.push(focused);
  for (let place = first; place < end; place += 1) places.push(place);
  if (focused >= end && focused < count) places.push(focused);

  const moveTo = (place: number) => {
    const { current } = root;
    const to = Math.max(0, Math.min(place, count - 1));
    if (!current || !count) return;
    const start = topOf(Math.floor(to / columns));
    const now = current.scrollTop * scale;
    if (start < now) current.scrollTop = start / scale;
    else if (start + height > now + current.clientHeight) {
      current.scrollTop = (start + height - current.clientHeight + 4) / scale;
    }
    wanted.current = to;
    lastPlace.current = to;
    setActive(keyOf(to));
    onScroll();
  };
  const main = (place: number) =>
    root.current?.querySelector<HTMLElement>(`[data-place="${place}"] .cd-main`);
  useLayoutEffect(() => {
    if (wanted.current === null) return;
    main(wanted.current)?.focus({ preventScroll: true });
    wanted.current = null;
  });
  // If the entry with the focus is gone, the one in its place gets the focus.
  const hadFocus = useRef(false);
  useLayoutEffect(() => {
    if (hadFocus.current && document.activeElement === document.body) {
      main(focused)?.focus({ preventScroll: true });
    }
  });
  const note = (event: FocusEvent) => {
    hadFocus.current = true;
    const place = (event.target as Element).closest<HTMLElement>("[data-place]")?.dataset.place;
    if (place === undefined) return;
    lastPlace.current = Number(place);
    setActive(keyOf(Number(place)));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (strip.current?.contains(event.target as Node)) return; // it has its own keys
    const isRightToLeft = root.current && getComputedStyle(root.current).direction === "rtl";
    const forward = isRightToLeft ? -1 : 1;
    const page = Math.max(1, visible - 1) * columns;
    const steps: Record<string, number> = {
      ArrowLeft: -forward,
      ArrowRight: forward,
      ArrowUp: -columns,
      ArrowDown: columns,
      PageUp: -page,
      PageDown: page,
      Home: -count,
      End: count,
    };
    const by = steps[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const inRange = Math.max(0, Math.min(count - 1, focused + by));
    const leaves = Math.abs(by) === columns && columns > 1 && focused + by !== inRange;
    moveTo(leaves ? focused : inRange);
  };
  const part = 100 / columns;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys are those of its entries
    <div
      ref={root}
      class={`cd-wall ${props.class ?? ""}`}
      style={{ height: `${view}px` }}
      onScroll={onScroll}
      onKeyDown={onKeyDown}
      onFocusIn={note}
      onFocusOut={(event) => {
        // An element that is removed has the focus no more, but nothing else has it either.
        if (event.relatedTarget) hadFocus.current = false;
      }}
      onPointerDown={() => {
        hadFocus.current = false;
      }}
    >
      <ul
        ref={list}
        class="cd-runs"
        aria-label={props.label}
        style={{ height: `${Math.min(total, TALLEST)}px` }}
      >
        {places.map((place) => {
          const column = place % columns;
          return (
            <li
              key={keyOf(place)}
              data-place={place}
              aria-posinset={place + 1}
              aria-setsize={count}
              style={{
                width: `calc(${part}% - ${gap - gap / columns}px)`,
                insetInlineStart: `calc(${column * part}% + ${(column * gap) / columns}px)`,
                top: `${topOf(Math.floor(place / columns)) - base}px`,
                height: `${height}px`,
              }}
            >
              {render(place, place === focused ? 0 : -1)}
            </li>
          );
        })}
        {opened && (
          <li ref={strip} class="cd-opened" style={{ top: `${(openRow + 1) * step - base}px` }}>
            {opened.content}
          </li>
        )}
      </ul>
    </div>
  );
}
