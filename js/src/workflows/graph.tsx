/** A picture of a workflow: nodes, links, groups, and subgraphs that can be opened. Read-only. */

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { Drawn, IconButton } from "../components/ui.tsx";
import { Drawing, type Graph, type GraphNode } from "../graph/drawing.ts";
import type { Mark } from "../state/runs.ts";

const PAN = 60; // pixels for each key press
const ZOOM = 1.25;
const MAX_LEVELS = 20;

export type GraphPicture = { graph: Graph; subgraphs: Record<string, Graph> };

type GraphProps = {
  picture: GraphPicture;
  /** The states of nodes, by their ids: "3", "12:4" in a subgraph. */
  marks: Record<string, Mark>;
  /** What is wrong with nodes, by their ids. */
  problems: Record<string, string>;
};

/** A subgraph that is open: the path of ids that leads to it, and its name. */
type Level = { path: string; name: string; graph: Graph };

const ABOUT_MARKS: Record<string, string> = {
  failed: "it failed",
  running: "it is running",
  done: "it is done",
};

export function GraphView({ picture, marks, problems }: GraphProps) {
  const levels = useSignal<Level[]>([]);
  const selected = useSignal<string | null>(null);
  const frame = useRef<HTMLDivElement>(null);
  const handlers = useRef({ select: (_: GraphNode) => {}, open: (_: GraphNode) => {} });
  const drawing = useMemo(
    () =>
      new Drawing({
        select: (node) => handlers.current.select(node),
        open: (node) => handlers.current.open(node),
      }),
    [],
  );
  const present = levels.value.at(-1);
  const nodes = present?.graph.nodes ?? [];
  const keyOf = (node: GraphNode) => `${present?.path ?? ""}${node.id}`;

  /** The state of a node; a subgraph shows the states of the nodes in it. */
  const markOf = (node: GraphNode): string => {
    const key = keyOf(node);
    if (marks[key]) return marks[key];
    if (!node.subgraph) return "";
    const inner = Object.keys(marks).filter((each) => each.startsWith(`${key}:`));
    const kinds = new Set(inner.map((each) => marks[each]));
    return (["failed", "running", "done"] as const).find((kind) => kinds.has(kind)) ?? "";
  };
  const describe = (node: GraphNode): string => {
    const facts = [
      node.kind && node.kind !== node.title ? node.kind : "",
      `id ${node.id}`,
      node.mode,
      node.subgraph ? "a subgraph, Enter opens it" : "",
      ABOUT_MARKS[markOf(node)] ?? "",
      problems[keyOf(node)] ?? "",
    ];
    return `${node.title}: ${facts.filter(Boolean).join(", ")}`;
  };
  const select = (id: string | null) => {
    selected.value = id;
    drawing.select(id);
  };
  const selectNext = (step: number) => {
    const at = nodes.findIndex(({ id }) => id === selected.value);
    const next = nodes[at < 0 ? 0 : (at + step + nodes.length) % nodes.length];
    if (!next) return;
    select(next.id);
    drawing.reveal(next.id);
  };
  const open = (node: GraphNode) => {
    const graph = picture.subgraphs[node.subgraph];
    if (!graph || levels.value.length > MAX_LEVELS) return;
    levels.value = [...levels.value, { path: `${keyOf(node)}:`, name: node.title, graph }];
    frame.current?.focus();
  };
  const leaveTo = (count: number) => {
    if (count >= 1) levels.value = levels.value.slice(0, count);
  };
  handlers.current = { select: (node) => select(node.id), open };

  useLayoutEffect(() => {
    levels.value = [{ path: "", name: picture.graph.name, graph: picture.graph }];
  }, [picture]);
  useLayoutEffect(() => {
    if (!present) return;
    drawing.show(present.graph, markOf);
    drawing.start();
    select(null);
  }, [present]);
  useLayoutEffect(() => drawing.mark(markOf), [marks, present]);

  const KEYS: Record<string, () => void> = {
    ArrowLeft: () => drawing.pan(PAN, 0),
    ArrowRight: () => drawing.pan(-PAN, 0),
    ArrowUp: () => drawing.pan(0, PAN),
    ArrowDown: () => drawing.pan(0, -PAN),
    "+": () => drawing.zoom(ZOOM),
    "=": () => drawing.zoom(ZOOM),
    "-": () => drawing.zoom(1 / ZOOM),
    "0": () => drawing.fit(),
    n: () => selectNext(1),
    p: () => selectNext(-1),
    Backspace: () => leaveTo(levels.value.length - 1),
    Enter: () => {
      const node = nodes.find(({ id }) => id === selected.value);
      if (node?.subgraph) open(node);
    },
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    act();
    event.preventDefault();
    event.stopPropagation();
  };
  const node = nodes.find(({ id }) => id === selected.value);
  const left = present?.graph.left_out;
  return (
    <div class="comfydeploy-view comfydeploy-graph">
      <div class="cd-line">
        <div class="cd-way">
          {levels.value.map((level, place) =>
            level === present ? (
              <b key={level.path}>{level.name || "Workflow"}</b>
            ) : (
              <span key={level.path}>
                <button type="button" class="cd-button" onClick={() => leaveTo(place + 1)}>
                  {level.name || "Workflow"}
                </button>
                <span aria-hidden="true"> › </span>
              </span>
            ),
          )}
        </div>
        <div class="cd-tools">
          <IconButton icon="search-plus" label="Zoom in (+)" onClick={() => drawing.zoom(ZOOM)} />
          <IconButton
            icon="search-minus"
            label="Zoom out (-)"
            onClick={() => drawing.zoom(1 / ZOOM)}
          />
          <IconButton icon="arrows-alt" label="Show all (0)" onClick={() => drawing.fit()} />
        </div>
      </div>
      {/* biome-ignore lint/a11y/useSemanticElements: no group of fields */}
      <div
        ref={frame}
        class="cd-canvas-frame"
        role="group"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: keys move the picture
        tabIndex={0}
        aria-label={
          "Picture of the workflow. Arrows move it, + and - zoom, 0 shows all, N and P select the " +
          "next and the previous node, Enter opens a subgraph, Backspace leaves it."
        }
        onKeyDown={onKeyDown}
      >
        <Drawn
          class="cd-canvas"
          draw={(root) => {
            root.append(drawing.root);
            drawing.start();
            return () => drawing.end();
          }}
        />
      </div>
      <div class="cd-about" role="status">
        {node
          ? describe(node)
          : `${nodes.length} nodes${left ? `, ${left} more are not shown` : ""}`}
      </div>
    </div>
  );
}
