/** Moves the focus among pictures. */

/** Move the focus to another picture with the arrow keys, Home and End. */
export function moveFocus(root: HTMLElement, event: KeyboardEvent): void {
  const all = [...root.querySelectorAll<HTMLElement>(".cd-picture-button")].filter(
    (each) => !each.closest("details:not([open])"),
  );
  const place = all.indexOf(event.target as HTMLElement);
  const targets: Record<string, number> = {
    ArrowLeft: place - 1,
    ArrowRight: place + 1,
    ArrowUp: above(all, place, -1),
    ArrowDown: above(all, place, 1),
    Home: 0,
    End: all.length - 1,
  };
  const target = targets[event.key];
  if (place < 0 || target === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  all[Math.max(0, Math.min(all.length - 1, target))]?.focus();
}

/** Return the position of the picture in the row above (-1) or below (1). */
function above(all: HTMLElement[], place: number, step: number): number {
  const leftOf = (at: number) => Math.round(all[at]?.getBoundingClientRect().left ?? 0);
  for (let at = place + step; at >= 0 && at < all.length; at += step) {
    if (leftOf(at) === leftOf(place)) return at;
  }
  return place;
}
