import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { render } from "preact";
import { type GraphPicture, GraphView } from "../src/workflows/graph.tsx";
import { find, press, until } from "./page.ts";

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

const tick = () => new Promise((resolve) => setTimeout(resolve, 10));
type Props = Parameters<typeof GraphView>[0];

async function draw(t: TestContext, more: Partial<Props> = {}) {
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  const given = { picture: PICTURE as unknown as GraphPicture, marks: {}, problems: {}, ...more };
  const set = async (changed: Partial<Props>) => {
    Object.assign(given, changed);
    render(<GraphView {...given} />, root);
    await tick();
  };
  t.after(() => render(null, root));
  await set({});
  await until(() => root.querySelector(".cd-canvas > svg") !== null); // effects come after a frame
  const key = async (name: string) => {
    press(find(root, ".cd-canvas-frame"), name);
    await tick();
  };
  return { el: root, set, key };
}

test("a picture has nodes, links and groups, and its texts are not read as markup", async (t) => {
  const { el } = await draw(t);
  assert.equal(el.querySelectorAll("[data-id]").length, 3);
  assert.equal(el.querySelectorAll(".cd-link").length, 2);
  assert.equal(el.querySelectorAll("img, b.x, script").length, 0);
  assert.equal(el.querySelector(".cd-group-title")?.textContent, "<b>Group</b>");
  assert.equal(el.querySelectorAll(".cd-bar").length, 1, "a color that is none is ignored");
  assert.match(find(el, ".cd-about").textContent ?? "", /3 nodes, 2 more are not shown/);
});

test("keys select nodes, and open and leave a subgraph", async (t) => {
  const { el, set, key } = await draw(t);
  const about = () => find(el, ".cd-about").textContent;
  await key("n");
  assert.match(about(), /^<img src=x onerror=alert\(1\)>: KSampler, id 1/);
  await key("n");
  assert.match(about(), /a subgraph, Enter opens it/);
  await set({ marks: { "2:4": "failed" }, problems: { "2:4": "out of memory" } });
  assert.equal(el.querySelector('[data-id="2"]')?.getAttribute("data-mark"), "failed");
  assert.match(about(), /it failed/);
  await key("Enter");
  assert.deepEqual(
    [...el.querySelectorAll("[data-id]")].map((each) => each.getAttribute("data-id")),
    ["4"],
  );
  await key("n");
  assert.match(about(), /it failed, out of memory/);
  await key("Backspace");
  assert.equal(el.querySelectorAll("[data-id]").length, 3);
  const transform = () => el.querySelector(".cd-canvas g")?.getAttribute("transform");
  const before = transform();
  await key("ArrowRight");
  await key("+");
  assert.notEqual(transform(), before);
});

test("a large graph begins at the left, large enough to read; a key shows all of it", async (t) => {
  const { el, set, key } = await draw(t);
  const drawn = find(el, ".cd-canvas > svg");
  Object.defineProperty(drawn, "clientWidth", { value: 400 });
  Object.defineProperty(drawn, "clientHeight", { value: 420 });
  const nodes = Array.from({ length: 20 }, (_, index) => node(String(index), 300 * index));
  const low = { ...node("first", -300), box: [-300, 3000, 200, 80] };
  const large = { name: "", nodes: [...nodes, low], links: [], groups: [], left_out: 0 };
  const show = (graph: object) =>
    set({ picture: { graph, subgraphs: {} } as unknown as GraphPicture });
  await show(large);
  const transform = () => drawn.querySelector("g")?.getAttribute("transform") ?? "";
  assert.equal(transform(), "translate(165 -1135) scale(0.5)");
  await key("0");
  const scale = Number(/scale\((.*)\)/.exec(transform())?.[1]);
  assert.ok(scale < 0.07, transform());
  await show({ ...large, nodes: [node("1", 0)] });
  assert.equal(transform(), "translate(100 170) scale(1)");
});

test("a running node is marked, and a workflow of 3,000 nodes is drawn in parts", async (t) => {
  const nodes = Array.from({ length: 3000 }, (_, index) => node(String(index), 220 * index));
  const links = nodes.slice(1).map((each, index) => [String(index), 0, each.id, 0, "X"]);
  const large = { graph: { name: "", nodes, links, groups: [], left_out: 0 }, subgraphs: {} };
  const picture = large as unknown as GraphPicture;
  const { el } = await draw(t, { picture, marks: { "7": "running" } });
  assert.equal(el.querySelector('[data-mark="running"]')?.getAttribute("data-id"), "7");
  assert.equal(el.querySelectorAll("circle").length, 0, "no slots in a large graph");
  await until(() => el.querySelectorAll(".cd-link").length === 2999);
  assert.equal(el.querySelectorAll("[data-id]").length, 3000);
});
