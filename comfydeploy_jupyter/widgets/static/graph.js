// Made from js/src/views/graph.ts by `make js-build`; do not edit it here.

// src/dom.ts
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === void 0 || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) Object.assign(element, { [name]: value });
    else element.setAttribute(name, String(value));
  }
  const isThere = (child) => child !== null && child !== void 0;
  element.append(...children.flat().filter(isThere));
  return element;
}
var NO_SHORTCUTS = "data-lm-suppress-shortcuts";
function setUpRoot(el, name) {
  el.classList.add("comfydeploy-view", `comfydeploy-${name}`);
  el.setAttribute(NO_SHORTCUTS, "true");
}
function icon(name) {
  return h("i", { className: `fa fa-${name}`, "aria-hidden": "true" });
}
function iconButton(iconName, label, onclick, more = {}) {
  return h(
    "button",
    { type: "button", className: "cd-icon", title: label, "aria-label": label, onclick, ...more },
    icon(iconName)
  );
}
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// src/graph/drawing.ts
var SVG = "http://www.w3.org/2000/svg";
var TITLE = 30;
var SLOT = 20;
var MARGIN = 30;
var CHUNK = 250;
var DETAILED = 400;
var CHARACTER = 7.5;
var MOST_SCALE = 4;
var LOWEST = 120;
var HIGHEST = 420;
var READABLE = 0.5;
var CLICK = 5;
var COLOR = /^#[0-9a-f]{3,8}$/i;
function s(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== void 0) element.textContent = text;
  return element;
}
function cut(text, width) {
  const most = Math.max(1, Math.floor(width / CHARACTER));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
var Drawing = class {
  constructor(on) {
    this.on = on;
    this.root.setAttribute("aria-hidden", "true");
    this.root.append(this.content);
    this.root.addEventListener("pointerdown", (event) => this.drag(event));
    this.root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.observer = new ResizeObserver(() => {
      if (!this.touched) this.start();
    });
    this.observer.observe(this.root);
  }
  on;
  root = document.createElementNS(SVG, "svg");
  content = s("g", {});
  elements = /* @__PURE__ */ new Map();
  nodes = /* @__PURE__ */ new Map();
  markOf = () => "";
  view = { x: 0, y: 0, scale: 1 };
  bounds = [0, 0, 1, 1];
  frame = 0;
  touched = false;
  // whether the user has moved or zoomed it
  observer;
  end() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }
  /** Draw a graph, some nodes at a time, so that the page stays responsive. */
  show(graph, markOf) {
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
  mark(markOf) {
    this.markOf = markOf;
    for (const [id, element] of this.elements) {
      const node = this.nodes.get(id);
      if (node) element.setAttribute("data-mark", markOf(node));
    }
  }
  select(id) {
    for (const element of this.content.querySelectorAll(".cd-selected")) {
      element.classList.remove("cd-selected");
    }
    if (id !== null) this.elements.get(id)?.classList.add("cd-selected");
  }
  /** Move the drawing so that a node is in the middle. */
  reveal(id) {
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
  start() {
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
      scale
    };
    this.place();
  }
  /** Show all of the graph. */
  fit() {
    const [x, y, width, height] = this.bounds;
    const { clientWidth, clientHeight } = this.root;
    if (!clientWidth || !clientHeight) return;
    const scale = Math.min(clientWidth / width, clientHeight / height, 1);
    this.touched = true;
    this.view = {
      x: (clientWidth - width * scale) / 2 - x * scale,
      y: (clientHeight - height * scale) / 2 - y * scale,
      scale
    };
    this.place();
  }
  pan(dx, dy) {
    this.touched = true;
    this.view.x += dx;
    this.view.y += dy;
    this.place();
  }
  /** Zoom around a point of the screen, by default the middle of the drawing. */
  zoom(factor, at) {
    const { clientWidth, clientHeight } = this.root;
    const { x, y } = at ?? { x: clientWidth / 2, y: clientHeight / 2 };
    const least = Math.min(1e-4, this.view.scale);
    const scale = Math.min(MOST_SCALE, Math.max(least, this.view.scale * factor));
    const ratio = scale / this.view.scale;
    this.touched = true;
    this.view = { x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio, scale };
    this.place();
  }
  place() {
    const { x, y, scale } = this.view;
    this.content.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
  }
  make(node, detailed) {
    const [x, y, width, height] = node.box;
    const group = s("g", {
      class: "cd-node-box",
      transform: `translate(${x} ${y})`,
      "data-id": node.id,
      "data-mark": this.markOf(node),
      "data-mode": node.mode
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
      s("text", { x: 10, y: 20, class: "cd-title" }, cut(sign + node.title, width - 14))
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
  link([from, out, to, into, kind]) {
    const [origin, target] = [this.nodes.get(from), this.nodes.get(to)];
    if (!origin || !target) return null;
    const x1 = origin.box[0] + origin.box[2];
    const y1 = slotHeight(origin, out, origin.outs.length);
    const x2 = target.box[0];
    const y2 = slotHeight(target, into, target.ins.length);
    const bend = Math.max(30, Math.abs(x2 - x1) / 2);
    const path = s("path", {
      class: "cd-link",
      d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`
    });
    if (kind) path.append(s("title", {}, kind));
    return path;
  }
  nodeAt(event) {
    const element = event.target instanceof Element ? event.target.closest("[data-id]") : null;
    return this.nodes.get(element?.getAttribute("data-id") ?? "");
  }
  drag(event) {
    if (event.button !== 0) return;
    const node = this.nodeAt(event);
    const start = { x: event.clientX, y: event.clientY, moved: false };
    let { x, y } = start;
    const move = (next) => {
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
  wheel(event) {
    const frame = this.root.parentElement;
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== frame) return;
    event.preventDefault();
    const { left, top } = this.root.getBoundingClientRect();
    const at = { x: event.clientX - left, y: event.clientY - top };
    this.zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 400), at);
  }
};
function slotHeight(node, slot, slots) {
  const top = node.box[1];
  return slots ? top + TITLE + SLOT * (Math.min(slot, slots - 1) + 0.5) : top + TITLE / 2;
}
function groupElements(group) {
  const [x, y, width, height] = group.box;
  const rect = s("rect", {
    class: "cd-group-box",
    x,
    y,
    width: Math.max(0, width),
    height: Math.max(0, height),
    rx: 6
  });
  if (COLOR.test(group.color)) {
    rect.setAttribute("fill", group.color);
    rect.setAttribute("stroke", group.color);
  }
  return [
    rect,
    s("text", { x: x + 10, y: y + 24, class: "cd-group-title" }, cut(group.title, 0.5 * width))
  ];
}
function leftmost(nodes) {
  let found = null;
  for (const { box } of nodes) {
    if (!found || box[0] < found[0] || box[0] === found[0] && box[1] < found[1]) found = box;
  }
  return found ?? [0, 0, 0, 0];
}
function boundsOf(graph) {
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

// src/model.ts
var Subscriptions = class {
  constructor(model) {
    this.model = model;
  }
  model;
  added = [];
  /** Call `action` on each of the events, whose names are separated by spaces. */
  on(events, action) {
    this.model.on(events, action);
    this.added.push([events, action]);
  }
  end() {
    for (const [events, action] of this.added) this.model.off(events, action);
  }
};

// src/views/graph.ts
var PAN = 60;
var ZOOM = 1.25;
function render({ model, el }) {
  setUpRoot(el, "graph");
  const events = new Subscriptions(model);
  let levels = [];
  let selected = null;
  const drawing = new Drawing({
    select: (node) => select(node.id),
    open: (node) => open(node)
  });
  const way = h("div", { className: "cd-way" });
  const about = h("div", { className: "cd-about", role: "status" });
  const tools = h(
    "div",
    { className: "cd-tools" },
    iconButton("search-plus", "Zoom in (+)", () => drawing.zoom(ZOOM)),
    iconButton("search-minus", "Zoom out (-)", () => drawing.zoom(1 / ZOOM)),
    iconButton("arrows-alt", "Show all (0)", () => drawing.fit())
  );
  const frame = h(
    "div",
    {
      className: "cd-canvas",
      tabIndex: 0,
      "aria-label": "Picture of the workflow. Arrows move it, + and - zoom, 0 shows all, N and P select the next and the previous node, Enter opens a subgraph, Backspace leaves it."
    },
    drawing.root
  );
  frame.setAttribute("role", "group");
  el.append(h("div", { className: "cd-line" }, way, tools), frame, about);
  const present = () => levels.at(-1);
  const keyOf = (node) => `${present()?.path ?? ""}${node.id}`;
  const markOf = (node) => {
    const marks = model.get("marks");
    const key = keyOf(node);
    if (marks[key]) return marks[key];
    if (!node.subgraph) return "";
    const inner = Object.keys(marks).filter((each) => each.startsWith(`${key}:`));
    const kinds = new Set(inner.map((each) => marks[each]));
    return ["failed", "running", "done"].find((kind) => kinds.has(kind)) ?? "";
  };
  const describe = (node) => {
    const mark = { failed: "it failed", running: "it is running", done: "it is done" }[markOf(node)];
    const facts = [
      node.kind && node.kind !== node.title ? node.kind : "",
      `id ${node.id}`,
      node.mode,
      node.subgraph ? "a subgraph, Enter opens it" : "",
      mark ?? "",
      model.get("problems")[keyOf(node)] ?? ""
    ];
    return `${node.title}: ${facts.filter(Boolean).join(", ")}`;
  };
  const select = (id) => {
    selected = id;
    const node = present()?.graph.nodes.find((each) => each.id === id);
    drawing.select(node?.id ?? null);
    const graph = present()?.graph;
    const count = graph?.nodes.length ?? 0;
    const more = graph?.left_out ? `, ${graph.left_out} more are not shown` : "";
    setText(about, node ? describe(node) : `${count} nodes${more}`);
  };
  const selectNext = (step) => {
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
      })
    );
    drawing.show(level.graph, markOf);
    drawing.start();
    select(null);
  };
  const open = (node) => {
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
  const KEYS = {
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
    }
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
var graph_default = { render };
export {
  graph_default as default
};
