/** A long list or grid that scrolls. Only what is visible, and what is near it, is in the page. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

const SPARE = 2; // rows that are made above and below the visible ones

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
  /** Called with the places that are in the page now. */
  onRange: (first: number, end: number) => void;
  class?: string;
};

/** The element of an entry that gets the focus has the class `cd-main`. */
export function Wall(props: WallProps) {
  const { count, height, gap, leastWidth, rows: mostRows, keyOf, render, onRange } = props;
  const root = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [top, setTop] = useState(0); // the first visible row
  const [active, setActive] = useState(""); // the key of the entry that the Tab key reaches
  const wanted = useRef<number | null>(null); // the place that gets the focus
  const lastPlace = useRef(0); // of the active entry
  const step = height + gap;
  const columns = leastWidth ? Math.max(1, Math.floor((width + gap) / (leastWidth + gap))) : 1;
  const rows = Math.ceil(count / columns);
  const total = Math.max(0, rows * step - gap);
  const most = mostRows === null ? Math.max(3 * step, innerHeight - 220) : (mostRows + 0.5) * step;
  const visible = Math.ceil(Math.min(total, most) / step);
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
    onRange(first, end);
  }, [first, end, count]);
  const onScroll = () => setTop(Math.floor(Math.max(0, root.current?.scrollTop ?? 0) / step));
  useLayoutEffect(onScroll, [step, columns, total]);

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
    const start = Math.floor(to / columns) * step;
    if (start < current.scrollTop) current.scrollTop = start;
    else if (start + height > current.scrollTop + current.clientHeight) {
      current.scrollTop = start + height - current.clientHeight + 4;
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
      style={{ height: `${Math.min(total + 4, most)}px` }}
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
      <ul class="cd-runs" aria-label={props.label} style={{ height: `${total}px` }}>
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
                top: `${Math.floor(place / columns) * step}px`,
                height: `${height}px`,
              }}
            >
              {render(place, place === focused ? 0 : -1)}
            </li>
          );
        })}
      </ul>
    </div>
  );
}
