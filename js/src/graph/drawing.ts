/** The drawing of one graph as SVG, which the user moves and zooms. */

const SVG = "http://www.w3.org/2000/svg";
const TITLE = 30; // pixels of the title of a node
const SLOT = 20; // pixels of a slot
const MARGIN = 30; // pixels around the graph
const CHUNK = 250; // nodes that are created at once
const DETAILED = 400; // nodes up to which slots and their names are shown
const CHARACTER = 7.5; // approximate width in pixels
const MOST_SCALE = 4;
const LOWEST = 120; // pixels of the drawing of a graph that is very wide
const HIGHEST = 420;
const READABLE = 0.5; // the least scale at which titles can be read
const CLICK = 5; // pixels that the pointer may move in a click
const COLOR = /^#[0-9a-f]{3,8}$/i; // any other color of a workflow is ignored

type Box = [number, number, number, number];

export type GraphNode = {
  id: string;
  title: string;
  kind: string;
  box: Box;
  ins: string[];
  outs: string[];
  color: string;
  mode: string;
  subgraph: string;
};

export type Graph = {
  name: string;
  nodes: GraphNode[];
  links: [string, number, string, number, string][];
  groups: { title: string; box: Box; color: string }[];
  left_out: number;
};

/** Create an element of SVG. Texts are set as text, never as markup. */
function s(tag: string, attributes: Record<string, string | number>, text?: string): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Return a text, shortened to about this width. */
function cut(text: string, width: number): string {
  const most = Math.max(1, Math.floor(width / CHARACTER));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

export class Drawing {
  readonly root = document.createElementNS(SVG, "svg");
  private readonly content = s("g", {});
  private readonly elements = new Map<string, SVGElement>();
  private nodes = new Map<string, GraphNode>();
  private markOf: (node: GraphNode) => string = () => "";
  private view = { x: 0, y: 0, scale: 1 };
  private bounds: Box = [0, 0, 1, 1];
  private frame = 0;
  private touched = false; // whether the user has moved or zoomed it
  private readonly observer: ResizeObserver;

  constructor(
    private readonly on: {
      select: (node: GraphNode) => void;
      open: (node: GraphNode) => void;
    },
  ) {
    this.root.setAttribute("aria-hidden", "true"); // the surrounding view describes the selected node
    this.root.append(this.content);
    this.root.addEventListener("pointerdown", (event) => this.drag(event));
    this.root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.observer = new ResizeObserver(() => {
      if (!this.touched) this.start();
    });
    this.observer.observe(this.root);
  }

  end(): void {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Draw a graph, some nodes at a time, so that the page stays responsive. */
  show(graph: Graph, markOf: (node: GraphNode) => string): void {
    cancelAnimationFrame(this.frame);
    this.markOf = markOf;
    this.elements.clear();
    this.nodes = new Map(graph.nodes.map((node) => [node.id, node]));
    this.bounds = boundsOf(graph);
    const detailed = graph.nodes.length <= DETAILED;
    const [groups, links, nodes] = [s("g", {}), s("g", {}), s("g", {})];
    this.content.replaceChildren(groups, links, nodes);
    for (const group of graph.groups) groups.append(...groupElements(group));
    let made = 0;
    let linked = 0;
    const draw = () => {
      for (const node of graph.nodes.slice(made, made + CHUNK))
        nodes.append(this.make(node, detailed));
      made += CHUNK;
      if (made >= graph.nodes.length) {
        for (const link of graph.links.slice(linked, linked + 4 * CHUNK)) {
          const path = this.link(link);
          if (path) links.append(path);
        }
        linked += 4 * CHUNK;
      }
      if (made < graph.nodes.length || linked < graph.links.length) {
        this.frame = requestAnimationFrame(draw);
      }
    };
    draw();
  }

  /** Update the nodes that have changed. */
  mark(markOf: (node: GraphNode) => string): void {
    this.markOf = markOf;
    for (const [id, element] of this.elements) {
      const node = this.nodes.get(id);
      if (node) element.setAttribute("data-mark", markOf(node));
    }
  }

  select(id: string | null): void {
    for (const element of this.content.querySelectorAll(".cd-selected")) {
      element.classList.remove("cd-selected");
    }
    if (id !== null) this.elements.get(id)?.classList.add("cd-selected");
  }

  /** Move the drawing so that a node is in the middle. */
  reveal(id: string): void {
    const node = this.nodes.get(id);
    if (!node) return;
    const [x, y, width, height] = node.box;
    const { clientWidth, clientHeight } = this.root;
    const { scale } = this.view;
    this.touched = true;
    this.view.x = clientWidth / 2 - (x + width / 2) * scale;
    this.view.y = clientHeight / 2 - (y + height / 2) * scale;
    this.place();
  }

  /**
   * Show all of the graph, or its beginning if it would be too small to read: the node at the left.
   *
   * The drawing is as high as this needs in the width that there is.
   */
  start(): void {
    const [x, y, width, height] = this.bounds;
    const { clientWidth } = this.root;
    const least = Math.min(clientWidth / width, HIGHEST / height, 1);
    const scale = Math.max(least, READABLE);
    const high = Math.min(Math.max(height * scale, LOWEST), HIGHEST);
    if (this.root.parentElement) this.root.parentElement.style.height = `${Math.round(high)}px`;
    const { clientHeight } = this.root;
    if (!clientWidth || !clientHeight) return;
    const spareX = clientWidth - width * scale;
    const spareY = clientHeight - height * scale;
    const [, top, , tall] = leftmost(this.nodes.values());
    const centred = clientHeight / 2 - (top + tall / 2 - y) * scale;
    this.touched = false;
    this.view = {
      x: Math.max(0, spareX / 2) - x * scale,
      y: (spareY >= 0 ? spareY / 2 : Math.min(0, Math.max(spareY, centred))) - y * scale,
      scale,
    };
    this.place();
  }

  /** Show all of the graph. */
  fit(): void {
    const [x, y, width, height] = this.bounds;
    const { clientWidth, clientHeight } = this.root;
    if (!clientWidth || !clientHeight) return;
    const scale = Math.min(clientWidth / width, clientHeight / height, 1);
    this.touched = true;
    this.view = {
      x: (clientWidth - width * scale) / 2 - x * scale,
      y: (clientHeight - height * scale) / 2 - y * scale,
      scale,
    };
    this.place();
  }

  pan(dx: number, dy: number): void {
    this.touched = true;
    this.view.x += dx;
    this.view.y += dy;
    this.place();
  }

  /** Zoom around a point of the screen, by default the middle of the drawing. */
  zoom(factor: number, at?: { x: number; y: number }): void {
    const { clientWidth, clientHeight } = this.root;
    const { x, y } = at ?? { x: clientWidth / 2, y: clientHeight / 2 };
    const least = Math.min(1e-4, this.view.scale);
    const scale = Math.min(MOST_SCALE, Math.max(least, this.view.scale * factor));
    const ratio = scale / this.view.scale;
    this.touched = true;
    this.view = { x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio, scale };
    this.place();
  }

  private place(): void {
    const { x, y, scale } = this.view;
    this.content.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
  }

  private make(node: GraphNode, detailed: boolean): SVGElement {
    const [x, y, width, height] = node.box;
    const group = s("g", {
      class: "cd-node-box",
      transform: `translate(${x} ${y})`,
      "data-id": node.id,
      "data-mark": this.markOf(node),
      "data-mode": node.mode,
    });
    group.append(s("title", {}, `${node.title} (${node.kind || "subgraph"}, id ${node.id})`));
    group.append(s("rect", { class: "cd-body-box", width, height, rx: 6 }));
    if (COLOR.test(node.color)) {
      const bar = s("rect", { class: "cd-bar", width, height: 5, rx: 2 });
      bar.setAttribute("fill", node.color);
      group.append(bar);
    }
    const sign = node.subgraph ? "▸ " : "";
    group.append(
      s("text", { x: 10, y: 20, class: "cd-title" }, cut(sign + node.title, width - 14)),
    );
    if (detailed) {
      node.ins.forEach((name, index) => {
        const at = TITLE + SLOT * (index + 0.5);
        group.append(s("circle", { cx: 0, cy: at, r: 4 }));
        group.append(s("text", { x: 10, y: at + 4, class: "cd-slot" }, cut(name, width / 2)));
      });
      node.outs.forEach((name, index) => {
        const at = TITLE + SLOT * (index + 0.5);
        group.append(s("circle", { cx: width, cy: at, r: 4 }));
        const place = { x: width - 10, y: at + 4, class: "cd-slot", "text-anchor": "end" };
        group.append(s("text", place, cut(name, width / 2)));
      });
    }
    this.elements.set(node.id, group);
    return group;
  }

  private link([from, out, to, into, kind]: Graph["links"][number]): SVGElement | null {
    const [origin, target] = [this.nodes.get(from), this.nodes.get(to)];
    if (!origin || !target) return null;
    const x1 = origin.box[0] + origin.box[2];
    const y1 = slotHeight(origin, out, origin.outs.length);
    const x2 = target.box[0];
    const y2 = slotHeight(target, into, target.ins.length);
    const bend = Math.max(30, Math.abs(x2 - x1) / 2);
    const path = s("path", {
      class: "cd-link",
      d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`,
    });
    if (kind) path.append(s("title", {}, kind));
    return path;
  }

  private nodeAt(event: Event): GraphNode | undefined {
    const element = event.target instanceof Element ? event.target.closest("[data-id]") : null;
    return this.nodes.get(element?.getAttribute("data-id") ?? "");
  }

  private drag(event: PointerEvent): void {
    if (event.button !== 0) return;
    const node = this.nodeAt(event);
    const start = { x: event.clientX, y: event.clientY, moved: false };
    let { x, y } = start;
    const move = (next: PointerEvent) => {
      const far = Math.hypot(next.clientX - start.x, next.clientY - start.y) > CLICK;
      start.moved = start.moved || far;
      if (start.moved) this.pan(next.clientX - x, next.clientY - y);
      x = next.clientX;
      y = next.clientY;
    };
    const end = () => {
      this.root.removeEventListener("pointermove", move);
      this.root.removeEventListener("pointerup", up);
      this.root.removeEventListener("pointercancel", end);
    };
    const up = () => {
      end();
      if (start.moved || !node) return;
      if (node.subgraph) this.on.open(node);
      else this.on.select(node);
    };
    this.root.setPointerCapture?.(event.pointerId);
    this.root.addEventListener("pointermove", move);
    this.root.addEventListener("pointerup", up);
    this.root.addEventListener("pointercancel", end);
  }

  /** Zoom with the wheel if Ctrl is pressed or the drawing has the focus; otherwise the page scrolls. */
  private wheel(event: WheelEvent): void {
    const frame = this.root.closest("[tabindex]");
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== frame) return;
    event.preventDefault();
    const { left, top } = this.root.getBoundingClientRect();
    const at = { x: event.clientX - left, y: event.clientY - top };
    this.zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 400), at);
  }
}

function slotHeight(node: GraphNode, slot: number, slots: number): number {
  const top = node.box[1];
  return slots ? top + TITLE + SLOT * (Math.min(slot, slots - 1) + 0.5) : top + TITLE / 2;
}

function groupElements(group: Graph["groups"][number]): SVGElement[] {
  const [x, y, width, height] = group.box;
  const rect = s("rect", {
    class: "cd-group-box",
    x,
    y,
    width: Math.max(0, width),
    height: Math.max(0, height),
    rx: 6,
  });
  if (COLOR.test(group.color)) {
    rect.setAttribute("fill", group.color);
    rect.setAttribute("stroke", group.color);
  }
  return [
    rect,
    s("text", { x: x + 10, y: y + 24, class: "cd-group-title" }, cut(group.title, 0.5 * width)),
  ];
}

/** Return the box of the node that is farthest to the left; the highest one of several. */
function leftmost(nodes: Iterable<GraphNode>): Box {
  let found: Box | null = null;
  for (const { box } of nodes) {
    if (!found || box[0] < found[0] || (box[0] === found[0] && box[1] < found[1])) found = box;
  }
  return found ?? [0, 0, 0, 0];
}

/** Return the box around all nodes and groups, with a margin. */
function boundsOf(graph: Graph): Box {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { box } of [...graph.nodes, ...graph.groups]) {
    left = Math.min(left, box[0]);
    top = Math.min(top, box[1]);
    right = Math.max(right, box[0] + box[2]);
    bottom = Math.max(bottom, box[1] + box[3]);
  }
  if (left > right) return [0, 0, 1, 1];
  return [left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN];
}
