/** Whether a panel is on a dark page, of which it knows nothing but the colour of its texts. */

import { whenConnected } from "./dom.ts";

/** Return whether a colour, as browsers compute it, is nearer to white than to black. */
export function isLight(colour: string): boolean {
  const canvas = document.createElement("canvas").getContext("2d");
  let found = colour;
  if (canvas) {
    canvas.fillStyle = colour; // a colour of any space becomes #rrggbb or rgba()
    found = canvas.fillStyle;
  }
  const digits = found
    .match(/^#(..)(..)(..)$/)
    ?.slice(1)
    .map((each) => Number.parseInt(each, 16));
  const [red = 0, green = 0, blue = 0] = digits ?? (found.match(/[\d.]+/g) ?? []).map(Number);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 127;
}

/** Give an element the colour scheme of the page around it, also when it changes. */
export function followTheme(el: HTMLElement): () => void {
  const follow = () => {
    const around = el.parentElement ?? (el.getRootNode() as ShadowRoot).host;
    if (!around || !el.isConnected) return;
    const scheme = isLight(getComputedStyle(around).color) ? "dark" : "light";
    if (el.style.colorScheme !== scheme) el.style.colorScheme = scheme;
  };
  // themes change attributes of these, and style sheets that are loaded a moment later
  const later = () => {
    follow();
    clearTimeout(timer);
    timer = setTimeout(follow, 500);
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const cancel = whenConnected(el, follow);
  const observer = new MutationObserver(later);
  for (const each of [document.documentElement, document.body]) {
    observer.observe(each, { attributes: true });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", later);
  return () => {
    cancel();
    clearTimeout(timer);
    observer.disconnect();
    system.removeEventListener("change", later);
  };
}
