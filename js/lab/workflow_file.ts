/** What a file is, by its content, and how it is named. */

import { parseJson } from "../src/format.ts";

/** Bytes of a JSON file that is looked at: the server does not read a larger workflow either. */
export const MAX_FILE = 20 << 20;

/** The two formats of ComfyUI's workflows: that of its editor, and that of its API. */
export type Format = "ui" | "api";

/** A workflow that has no nodes yet, in the editor's format. */
export const EMPTY = `${JSON.stringify(
  { last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [], config: {}, version: 0.4 },
  null,
  2,
)}\n`;

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Return the text of a file as standard JSON: some programs write a mark before it, or `NaN`. */
export function standard(text: string): string {
  const bare = text.replace(/^\uFEFF/, "");
  if (!/NaN|Infinity/.test(bare)) return bare;
  const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\b(?:NaN|Infinity)\b/g;
  return bare.replace(tokens, (token) => (token.startsWith('"') ? token : "null"));
}

/** Return the format of a workflow; null if the text is something else. */
export function formatOf(text: string): Format | null {
  if (!text.trimStart().startsWith("{")) return null;
  const found = parseJson<object>(standard(text));
  if (!isObject(found)) return null;
  const { nodes, links } = found;
  if (Array.isArray(nodes)) {
    const isGraph = Array.isArray(links) || "last_node_id" in found;
    const areNodes = nodes.every((node) => isObject(node) && "id" in node && "type" in node);
    return isGraph && areNodes ? "ui" : null;
  }
  const values = Object.values(found);
  const areNodes = values.every(
    (node) => isObject(node) && typeof node.class_type === "string" && isObject(node.inputs),
  );
  return values.length > 0 && areNodes ? "api" : null;
}

/** Whether a workflow in the editor's format has no nodes. */
export function isEmpty(text: string): boolean {
  return !parseJson<{ nodes?: unknown[] }>(standard(text))?.nodes?.length;
}

/** Return the path of a file as code in a notebook names it. */
export function relative(notebook: string, file: string): string {
  const from = notebook.split("/").slice(0, -1);
  const to = file.split("/");
  let same = 0;
  while (same < from.length && same < to.length - 1 && from[same] === to[same]) same += 1;
  return [...from.slice(same).map(() => ".."), ...to.slice(same)].join("/");
}
