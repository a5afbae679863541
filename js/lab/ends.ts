/** The ends of runs and batches, as far as a page may tell of them. */

import type { End } from "../src/state/overview.ts";

/** Return the selector of the panels that show a run or a batch. */
export function showing(id: string): string {
  return `[data-shows~="${CSS.escape(id)}"]`;
}

/** Return whether a panel shows a run or a batch and can be seen. */
export function isSeen(id: string): boolean {
  if (document.hidden) return false;
  const panels = document.querySelectorAll<HTMLElement>(showing(id));
  return [...panels].some((panel) => {
    const { top, bottom, left, right, width, height } = panel.getBoundingClientRect();
    const isInside = bottom > 0 && right > 0 && top < innerHeight && left < innerWidth;
    return width * height > 0 && isInside && panel.checkVisibility({ visibilityProperty: true });
  });
}

/** Return how many seconds a run or a batch took. */
export function secondsOf({ began_at, ended_at }: End): number {
  return (Date.parse(ended_at) - Date.parse(began_at)) / 1000;
}
