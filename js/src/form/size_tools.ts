/** Aspect ratios and a swap for a width and a height. */

import { h, icon, iconButton } from "../dom.ts";
import type { Field } from "./field.ts";

const RATIOS: [number, number][] = [
  [1, 1],
  [5, 4],
  [4, 3],
  [3, 2],
  [16, 9],
  [21, 9],
  [4, 5],
  [3, 4],
  [2, 3],
  [9, 16],
];
const LEAST_STEP = 8; // pixels; ComfyUI's latents have an eighth of the size

function fit(value: number, { min, max, step }: Field): number {
  const stride = Math.max(LEAST_STEP, step || 1);
  const low = min ?? stride;
  const high = max ?? Number.POSITIVE_INFINITY;
  const rounded = Math.round(value / stride) * stride;
  return Math.min(high, Math.max(low, stride, rounded));
}

/** Return the size of an aspect ratio with about as many pixels as before. */
export function sizeOf(
  ratio: [number, number],
  [width, height]: [number, number],
  fields: [Field, Field],
): [number, number] {
  const area = width * height;
  const aspect = ratio[0] / ratio[1];
  return [fit(Math.sqrt(area * aspect), fields[0]), fit(Math.sqrt(area / aspect), fields[1])];
}

/** Create the tools; `read` returns the present size, `write` sets it. */
export function sizeTools(
  fields: [Field, Field],
  read: () => [number, number],
  write: (size: [number, number]) => void,
): { root: HTMLElement; show: () => void } {
  const label = fields[0].label.replace(/width\b/i, "").replace(/[\s:]+$/, "");
  const of = label ? `${label}: ` : "";
  const select = h(
    "select",
    {
      "aria-label": `${of}aspect ratio`,
      title: "Aspect ratio; the number of pixels stays about the same",
      className: "cd-short",
      onchange: () => {
        const ratio = RATIOS[select.selectedIndex - 1];
        const size = read();
        if (ratio && size[0] > 0 && size[1] > 0) write(sizeOf(ratio, size, fields));
        show();
      },
    },
    h("option", {}, "free"),
    RATIOS.map(([a, b]) => h("option", {}, `${a}:${b}`)),
  );
  const swap = iconButton("exchange", `${of}swap width and height`, () => {
    const [width, height] = read();
    write([height, width]);
  });
  const megapixels = h("span", { className: "cd-faint cd-number" });
  const show = () => {
    const size = read();
    const [width, height] = size;
    const isSize = size.every(
      (side, place) => side > 0 && side <= (fields[place]?.max ?? Infinity),
    );
    const place = RATIOS.findIndex(
      ([a, b]) => isSize && Math.abs(width / height / (a / b) - 1) < 0.02,
    );
    select.selectedIndex = place + 1;
    megapixels.textContent = isSize ? `${((width * height) / 1e6).toFixed(2)} MP` : "";
  };
  show();
  const root = h(
    "div",
    { className: "cd-field cd-size" },
    h("span", { className: "cd-label cd-faint" }, icon("crop"), " aspect"),
    h("div", { className: "cd-line" }, select, swap, megapixels),
  );
  return { root, show };
}
