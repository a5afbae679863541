/** A chart of the execution times of nodes. */

import { h } from "../dom.ts";

export type NodeTime = { label: string; title: string; seconds: number };

export function timings(times: NodeTime[]): HTMLElement {
  const longest = Math.max(...times.map(({ seconds }) => seconds), 1e-9);
  const row = ({ label, title, seconds }: NodeTime) => {
    const bar = h("div", { className: "cd-fill" });
    bar.style.width = `${Math.max(0.5, (100 * seconds) / longest)}%`;
    return h(
      "tr",
      {},
      h("th", { scope: "row", title }, label),
      h("td", {}, bar),
      h("td", { className: "cd-number" }, `${seconds.toFixed(2)} s`),
    );
  };
  return h(
    "details",
    { className: "cd-timings" },
    h("summary", {}, "Node timings"),
    h(
      "table",
      { className: "cd-chart" },
      h("caption", { className: "cd-unseen" }, "How long each node took"),
      h("tbody", {}, times.map(row)),
    ),
  );
}
