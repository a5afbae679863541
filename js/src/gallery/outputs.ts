/** The elements that show output files and texts. */

import { h, icon } from "../dom.ts";
import { formatBytes } from "../format.ts";
import { downloadLink } from "./download_link.ts";
import { describe, type Item, nameOf, type Page, sizeText } from "./item.ts";
import { canBeTurned, turnButton } from "./model_view.ts";

const SIDE = 384; // pixels of a small copy
const FEW = 4; // up to this number, pictures are shown larger
const MANY = 48; // above this number, the copies are smaller: the browser keeps them decoded
const SIDE_OF_MANY = 224; // CSS pixels, about as large as the pictures are shown

const ICONS: Record<Item["kind"], string> = {
  image: "picture-o",
  hdr: "picture-o",
  video: "film",
  audio: "music",
  "3d": "cube",
  file: "file-o",
};

/** A text output of a node; of a long one, only `beginning` is shown at first. */
export type OutputText = { node: string; text: string; beginning: string; waits: boolean };

/**
 * Small copies of pictures; a click calls `enlarge` with the number of the picture.
 *
 * `players` are beside the pictures if they are few together, otherwise below them.
 */
export function pictures(
  page: Page,
  items: Item[],
  players: HTMLElement[],
  enlarge: (index: number, opener: HTMLElement) => void,
): HTMLElement[] {
  const together = items.length + players.length <= FEW;
  const count = items.length + (together ? players.length : 0);
  const isFew = count <= FEW;
  const side = sideOf(count);
  const picture = (item: Item, index: number) => {
    const image = h("img", { alt: nameOf(item) });
    const button = h(
      "button",
      {
        type: "button",
        className: "cd-picture-button",
        title: describe(item),
        "aria-label": `${describe(item)}: show in full size`,
        onclick: () => enlarge(index, button),
      },
      image,
      item.size ? h("span", { className: "cd-tag", "aria-hidden": "true" }, sizeText(item)) : null,
    );
    const copySide = item.small === false ? 0 : side;
    if (item.size) {
      const [width, height] = item.size;
      const scale = copySide ? Math.min(1, copySide / Math.max(width, height)) : 1;
      button.classList.add("cd-sized");
      button.style.setProperty("--cd-width", `${Math.round(width * scale)}px`);
      button.style.setProperty("--cd-ratio", String(width / height));
    }
    const failed = async () => {
      const replacement = tile(page, item);
      button.replaceWith(replacement);
      const { reason } = await page.files.whyNoCopy(item.query, copySide);
      if (reason) replacement.append(h("span", { className: "cd-faint cd-error-text" }, reason));
    };
    page.seen.watch(button, () => page.files.show(image, item.query, copySide, failed));
    return button;
  };
  const size = count === 1 ? " cd-single" : isFew ? " cd-few" : "";
  const className = `cd-pictures${size}`;
  const root = h(
    "div",
    { className, onkeydown: (event) => moveFocus(root, event) },
    items.map(picture),
  );
  const below = h("div", { className: "cd-players" });
  (together && count > 1 ? root : below).append(...players);
  return [root, below].filter((part) => part.firstChild);
}

/** Return the pixels of the small copies of so many pictures. */
function sideOf(count: number): number {
  if (count <= FEW) return 2 * SIDE;
  if (count <= MANY) return SIDE;
  return Math.min(SIDE, Math.ceil(SIDE_OF_MANY * window.devicePixelRatio));
}

/** Move the focus to another picture with the arrow keys, Home and End. */
export function moveFocus(root: HTMLElement, event: KeyboardEvent): void {
  const all = [...root.querySelectorAll<HTMLElement>(".cd-picture-button")];
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

/** A file that is not shown: its name, its size and its download. */
export function tile(page: Page, item: Item): HTMLElement {
  const size = h("span", { className: "cd-faint" }, sizeText(item));
  const root = h(
    "div",
    { className: "cd-tile", title: describe(item) },
    icon(ICONS[item.kind] ?? ICONS.file),
    h("span", { className: "cd-cut cd-grow" }, nameOf(item)),
    size,
    downloadLink(page.files, item, ""),
  );
  if (canBeTurned(item)) root.append(turnButton(page, item, root));
  page.seen.watch(root, async () => {
    try {
      const bytes = await page.files.size(item.query);
      const facts = [sizeText(item), bytes < 0 ? "" : formatBytes(bytes)];
      size.textContent = facts.filter(Boolean).join(" · ");
    } catch {
      size.textContent = "gone";
    }
  });
  return root;
}

/** A video or a sound with the browser's controls. */
export function player(page: Page, item: Item): HTMLElement {
  const element = h(item.kind === "video" ? "video" : "audio", {
    controls: true,
    preload: "metadata",
    title: describe(item),
    "aria-label": nameOf(item),
  });
  if (item.size) element.style.aspectRatio = item.size.join(" / ");
  const caption = h("figcaption", {}, downloadLink(page.files, item));
  if (item.size) caption.append(` · ${sizeText(item)}`);
  const figure = h("figure", {}, element, caption);
  const failed = () => figure.replaceChildren(tile(page, item));
  page.seen.watch(element, () => page.files.show(element, item.query, 0, failed));
  return figure;
}

/** A text; a long one is folded, and is in the page only while it is unfolded. */
export function textFigure({ text, beginning, node }: OutputText): HTMLElement {
  const whole = h("pre", { tabIndex: 0, dir: "auto" });
  const head = h("figcaption", {}, node);
  if (beginning === text) {
    whole.textContent = text;
    return h("figure", {}, head, whole);
  }
  const start = h("pre", { dir: "auto" }, `${beginning} …`);
  const details = h(
    "details",
    {},
    h("summary", {}, `All ${text.length.toLocaleString()} characters`),
    whole,
  );
  details.addEventListener("toggle", () => {
    whole.textContent = details.open ? text : "";
    start.hidden = details.open;
  });
  return h("figure", {}, head, start, details);
}
