/** Delays work until its element is nearly visible. */

const MARGIN = "300px"; // distance from the visible area

/** Calls an action once, when its element first comes close to the visible area. */
export class WhenSeen {
  private readonly actions = new WeakMap<Element, () => void>();
  private readonly observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        this.observer.unobserve(target);
        this.actions.get(target)?.();
      }
    },
    // The first margin is for the page, the second for elements that scroll, such as a notebook.
    { rootMargin: MARGIN, scrollMargin: MARGIN },
  );

  watch(element: Element, action: () => void): void {
    this.actions.set(element, action);
    this.observer.observe(element);
  }

  end(): void {
    this.observer.disconnect();
  }
}
