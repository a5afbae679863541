/** Shows one picture in full size in front of the page. */

import { h, iconButton } from "../dom.ts";
import type { Files } from "../files.ts";
import { downloadLink } from "./download_link.ts";
import { describe, type Item, LARGEST_COPY, nameOf } from "./item.ts";

/** Creates the area beside a picture; `image` is the element that loads it. */
export type Beside = (item: Item, index: number, image: HTMLImageElement) => HTMLElement;

/** Creates the area in place of a picture; null where there is a picture. */
export type Instead = (item: Item, index: number) => HTMLElement | null;

export class Lightbox {
  readonly root = h("dialog", { className: "cd-lightbox", "aria-label": "Picture in full size" });

  close(): void {
    if (this.root.open) this.root.close();
  }

  /** Show a picture; the arrow keys show the others. When it is closed, `opener` gets the focus. */
  open(
    files: Files,
    items: Item[],
    start: number,
    opener: HTMLElement,
    beside?: Beside,
    instead: Instead = () => null,
  ): void {
    if (!items.length) return;
    const { root } = this;
    let index = start;
    const image = h("img");
    const name = h("span", { className: "cd-grow cd-cut" });
    const full = h("div", { className: "cd-full" });
    const line = h("div", { className: "cd-line" });
    const panel = h("div", { className: "cd-side" });
    const show = (step: number) => {
      index = (index + step + items.length) % items.length;
      const item = items[index];
      if (!item) return;
      files.free(image);
      image.alt = nameOf(item);
      const position = items.length > 1 ? `  (${index + 1} of ${items.length})` : "";
      name.textContent = `${describe(item)}${position}`;
      const other = instead(item, index);
      full.replaceChildren(other ?? image);
      const side = item.kind === "hdr" ? LARGEST_COPY : 0;
      if (!other) {
        files.show(image, item.query, side, () => {
          image.alt = `${nameOf(item)} is not available any more`;
        });
      }
      if (beside) panel.replaceChildren(beside(item, index, image));
      const download = other ? [] : [downloadLink(files, item, "Download")];
      line.replaceChildren(name, ...turn, ...download, close);
    };
    const turn =
      items.length > 1
        ? [
            iconButton("chevron-left", "Previous picture", () => show(-1)),
            iconButton("chevron-right", "Next picture", () => show(1)),
          ]
        : [];
    const close = iconButton("times", "Close", () => root.close());
    root.onkeydown = (event) => {
      event.stopPropagation();
      if (event.target instanceof HTMLSelectElement) return;
      if (event.key === "ArrowLeft") show(-1);
      if (event.key === "ArrowRight") show(1);
    };
    root.onclick = (event) => {
      if (event.target === root) root.close();
    };
    root.onclose = () => {
      files.free(image);
      opener.focus();
    };
    root.replaceChildren(line, beside ? h("div", { className: "cd-sides" }, full, panel) : full);
    root.showModal();
    show(0);
  }
}
