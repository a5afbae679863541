/** A picture of a workflow: nodes, links, groups, and subgraphs that can be opened. Read-only. */

import { h, iconButton, setText, setUpRoot } from "../dom.ts";
import { Drawing, type Graph, type GraphNode } from "../graph/drawing.ts";
import { type Context, Subscriptions } from "../model.ts";

const PAN = 60; // pixels for each key press
const ZOOM = 1.25;

type Traits = {
  picture: { graph?: Graph; subgraphs?: Record<string, Graph> };
  marks: Record<string, string>; // the states of nodes, by their ids: "3", "12:4" in a subgraph
  problems: Record<string, string>; // the errors of nodes, by their ids
};

/** A subgraph that is open: the path of ids that leads to it, and its name. */
type Level = { path: string; name: string; graph: Graph };

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "graph");
  const events = new Subscriptions(model);
  let levels: Level[] = [];
  let selected: string | null = null;

  const drawing = new Drawing({
    select: (node) => select(node.id),
    open: (node) => open(node),
  });
  const way = h("div", { className: "cd-way" });
  const about = h("div", { className: "cd-about", role: "status" });
  const tools = h(
    "div",
    { className: "cd-tools" },
    iconButton("search-plus", "Zoom in (+)", () => drawing.zoom(ZOOM)),
    iconButton("search-minus", "Zoom out (-)", () => drawing.zoom(1 / ZOOM)),
    iconButton("arrows-alt", "Show all (0)", () => drawing.fit()),
  );
  const frame = h(
    "div",
    {
      className: "cd-canvas",
      tabIndex: 0,
      "aria-label":
        "Picture of the workflow. Arrows move it, + and - zoom, 0 shows all, N and P select " +
        "the next and the previous node, Enter opens a subgraph, Backspace leaves it.",
    },
    drawing.root,
  );
  frame.setAttribute("role", "group");
  el.append(h("div", { className: "cd-line" }, way, tools), frame, about);

  const present = () => levels.at(-1);
  const keyOf = (node: GraphNode) => `${present()?.path ?? ""}${node.id}`;

  /** The state of a node; a subgraph shows the states of the nodes in it. */
  const markOf = (node: GraphNode): string => {
    const marks = model.get("marks");
    const key = keyOf(node);
    if (marks[key]) return marks[key];
    if (!node.subgraph) return "";
    const inner = Object.keys(marks).filter((each) => each.startsWith(`${key}:`));
    const kinds = new Set(inner.map((each) => marks[each]));
    return ["failed", "running", "done"].find((kind) => kinds.has(kind)) ?? "";
  };
  const describe = (node: GraphNode): string => {
    const mark = { failed: "it failed", running: "it is running", done: "it is done" }[
      markOf(node)
    ];
    const facts = [
      node.kind && node.kind !== node.title ? node.kind : "",
      `id ${node.id}`,
      node.mode,
      node.subgraph ? "a subgraph, Enter opens it" : "",
      mark ?? "",
      model.get("problems")[keyOf(node)] ?? "",
    ];
    return `${node.title}: ${facts.filter(Boolean).join(", ")}`;
  };

  const select = (id: string | null) => {
    selected = id;
    const node = present()?.graph.nodes.find((each) => each.id === id);
    drawing.select(node?.id ?? null);
    const graph = present()?.graph;
    const count = graph?.nodes.length ?? 0;
    const more = graph?.left_out ? `, ${graph.left_out} more are not shown` : "";
    setText(about, node ? describe(node) : `${count} nodes${more}`);
  };
  const selectNext = (step: number) => {
    const nodes = present()?.graph.nodes ?? [];
    if (!nodes.length) return;
    const at = nodes.findIndex(({ id }) => id === selected);
    const next = nodes[at < 0 ? 0 : (at + step + nodes.length) % nodes.length];
    if (!next) return;
    select(next.id);
    drawing.reveal(next.id);
  };

  const showLevel = () => {
    const level = present();
    if (!level) return;
    way.replaceChildren(
      ...levels.flatMap((each, index) => {
        const last = index === levels.length - 1;
        const name = each.name || "Workflow";
        if (last) return [h("b", {}, name)];
        const back = () => {
          levels = levels.slice(0, index + 1);
          showLevel();
        };
        const button = h("button", { type: "button", className: "cd-button", onclick: back }, name);
        return [button, h("span", { "aria-hidden": "true" }, " › ")];
      }),
    );
    drawing.show(level.graph, markOf);
    drawing.start();
    select(null);
  };
  const open = (node: GraphNode) => {
    const graph = model.get("picture").subgraphs?.[node.subgraph];
    if (!graph || levels.length > 20) return;
    levels.push({ path: `${keyOf(node)}:`, name: node.title, graph });
    showLevel();
    frame.focus();
  };
  const leave = () => {
    if (levels.length < 2) return;
    levels.pop();
    showLevel();
  };
  const show = () => {
    const { graph } = model.get("picture");
    el.hidden = !graph;
    levels = graph ? [{ path: "", name: graph.name, graph }] : [];
    showLevel();
  };

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
    Backspace: leave,
    Enter: () => {
      const node = present()?.graph.nodes.find(({ id }) => id === selected);
      if (node?.subgraph) open(node);
    },
  };
  frame.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    act();
    event.preventDefault();
    event.stopPropagation();
  });

  events.on("change:picture", show);
  events.on("change:marks change:problems", () => {
    drawing.mark(markOf);
    if (selected !== null) select(selected);
  });
  show();
  return () => {
    drawing.end();
    events.end();
  };
}

export default { render };
