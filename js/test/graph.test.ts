import assert from "node:assert/strict";
import { test } from "node:test";
import graph from "../src/views/graph.ts";
import { find, press, show } from "./page.ts";

const NODE = {
  kind: "KSampler",
  ins: ["model"],
  outs: ["LATENT"],
  color: "",
  mode: "",
  subgraph: "",
};

function node(id: string, x: number, more: object = {}) {
  return { ...NODE, id, title: `Node ${id}`, box: [x, 0, 200, 80], ...more };
}

const PICTURE = {
  graph: {
    name: "",
    nodes: [
      node("1", 0, { title: "<img src=x onerror=alert(1)>", color: "#322" }),
      node("2", 300, { title: "Inner", subgraph: "uuid", kind: "Inner" }),
      node("3", 600, { color: "url(javascript:alert(1))", mode: "muted" }),
    ],
    links: [
      ["1", 0, "2", 0, "MODEL"],
      ["2", 0, "3", 0, "LATENT"],
      ["1", 0, "9", 0, "to a node that is not there"],
    ],
    groups: [{ title: "<b>Group</b>", box: [-20, -20, 400, 200], color: "#a1309b" }],
    left_out: 2,
  },
  subgraphs: {
    uuid: { name: "Inner", nodes: [node("4", 0)], links: [], groups: [], left_out: 0 },
  },
};

const TRAITS = { picture: PICTURE, marks: {}, problems: {} };

test("a picture has nodes, links and groups, and its texts are not read as markup", () => {
  const { el } = show(graph, { ...TRAITS });
  assert.equal(el.querySelectorAll("[data-id]").length, 3);
  assert.equal(el.querySelectorAll(".cd-link").length, 2);
  assert.equal(el.querySelectorAll("img, b.x, script").length, 0);
  assert.equal(el.querySelector(".cd-group-title")?.textContent, "<b>Group</b>");
  assert.equal(el.querySelectorAll(".cd-bar").length, 1, "a color that is none is ignored");
  assert.match(find(el, ".cd-about").textContent ?? "", /3 nodes, 2 more are not shown/);
});

test("keys select nodes, and open and leave a subgraph", () => {
  const { model, el } = show(graph, { ...TRAITS });
  const frame = find(el, ".cd-canvas");
  const about = find(el, ".cd-about");
  press(frame, "n");
  assert.match(about.textContent ?? "", /^<img src=x onerror=alert\(1\)>: KSampler, id 1/);
  press(frame, "n");
  assert.match(about.textContent ?? "", /a subgraph, Enter opens it/);
  model.set("marks", { "2:4": "failed" });
  model.set("problems", { "2:4": "out of memory" });
  assert.equal(el.querySelector('[data-id="2"]')?.getAttribute("data-mark"), "failed");
  assert.match(about.textContent ?? "", /it failed/);
  press(frame, "Enter");
  assert.deepEqual(
    [...el.querySelectorAll("[data-id]")].map((each) => each.getAttribute("data-id")),
    ["4"],
  );
  press(frame, "n");
  assert.match(about.textContent ?? "", /it failed, out of memory/);
  press(frame, "Backspace");
  assert.equal(el.querySelectorAll("[data-id]").length, 3);
  const transform = () => find(el, ".cd-canvas").querySelector("g")?.getAttribute("transform");
  const before = transform();
  press(frame, "ArrowRight");
  press(frame, "+");
  assert.notEqual(transform(), before);
});

test("a large graph begins at the left, large enough to read; a key shows all of it", () => {
  const { model, el } = show(graph, { ...TRAITS });
  const drawn = find(el, ".cd-canvas svg");
  Object.defineProperty(drawn, "clientWidth", { value: 400 });
  Object.defineProperty(drawn, "clientHeight", { value: 420 });
  const nodes = Array.from({ length: 20 }, (_, index) => node(String(index), 300 * index));
  const low = { ...node("first", -300), box: [-300, 3000, 200, 80] };
  const large = { name: "", nodes: [...nodes, low], links: [], groups: [], left_out: 0 };
  model.set("picture", { graph: large, subgraphs: {} });
  const transform = () => drawn.querySelector("g")?.getAttribute("transform") ?? "";
  assert.equal(transform(), "translate(165 -1135) scale(0.5)");
  press(find(el, ".cd-canvas"), "0");
  const scale = Number(/scale\((.*)\)/.exec(transform())?.[1]);
  assert.ok(scale < 0.07, transform());
  const small = { ...large, nodes: [node("1", 0)] };
  model.set("picture", { graph: small, subgraphs: {} });
  assert.equal(transform(), "translate(100 170) scale(1)");
});

test("a running node is marked, and a workflow of 3,000 nodes is drawn in parts", async () => {
  const nodes = Array.from({ length: 3000 }, (_, index) => node(String(index), 220 * index));
  const links = nodes.slice(1).map((each, index) => [String(index), 0, each.id, 0, "X"]);
  const large = { graph: { name: "", nodes, links, groups: [], left_out: 0 }, subgraphs: {} };
  const { model, el } = show(graph, { ...TRAITS, picture: large, marks: { "7": "running" } });
  assert.equal(el.querySelectorAll("[data-id]").length, 250);
  assert.equal(el.querySelector('[data-mark="running"]')?.getAttribute("data-id"), "7");
  assert.equal(el.querySelectorAll("circle").length, 0, "no slots in a large graph");
  for (let turn = 0; turn < 40; turn += 1) await new Promise(requestAnimationFrame);
  assert.equal(el.querySelectorAll("[data-id]").length, 3000);
  assert.equal(el.querySelectorAll(".cd-link").length, 2999);
  model.set("picture", {});
  assert.equal(el.hidden, true);
});
