/** A slider beside a number field. */

import { h } from "../dom.ts";
import type { Field } from "./field.ts";

const FINEST = 100; // positions of a slider whose field has no step

/** Return the number of decimals of a step; sums of steps are rounded to it. */
export function decimalsOf(step: number): number {
  const [, fraction = "", exponent = "0"] = /^\d*\.?(\d*)(?:e(-?\d+))?$/.exec(String(step)) ?? [];
  return Math.min(20, Math.max(0, fraction.length - Number(exponent)));
}

/** Create a slider that sets the text of a number field. It is not reachable with the keyboard. */
export function slider(
  { min, max, step, kind }: Field,
  input: HTMLInputElement,
): { root: HTMLInputElement; show: () => void } {
  const [low, high] = [min ?? 0, max ?? 1];
  const stride = step || (kind === "int" ? 1 : (high - low) / FINEST);
  const decimals = Math.max(decimalsOf(stride), decimalsOf(Math.abs(low)));
  const root = h("input", {
    type: "range",
    min: low,
    max: high,
    step: stride,
    tabIndex: -1,
    "aria-hidden": "true",
  });
  const show = () => {
    const value = Number(input.value);
    root.value = String(input.value.trim() && Number.isFinite(value) ? value : low);
    root.style.setProperty("--cd-part", String((Number(root.value) - low) / (high - low || 1)));
  };
  root.addEventListener("input", () => {
    input.value = String(Number(Number(root.value).toFixed(decimals)));
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  input.addEventListener("input", show);
  show();
  return { root, show };
}
