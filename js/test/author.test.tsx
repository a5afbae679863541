import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { render } from "preact";
import { ChooseInputs } from "../src/components/choose_inputs.tsx";
import { Menu } from "../src/components/ui.tsx";
import type { Field } from "../src/form/field.ts";
import type { Opened } from "../src/workflows/source.ts";
import { find, named, press, type, until } from "./page.ts";
import { type Answer, Recorded } from "./recorded.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 20));
const HOSTILE = "<img src=x onerror=alert(1)>";

function show(t: TestContext, tree: Parameters<typeof render>[0]) {
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  render(tree, el);
  t.after(() => render(null, el));
  return el;
}

const field = (key: string, more: Partial<Field> = {}): Field => ({
  ...{ key, label: key, kind: "int", hint: "", original: "1", more: true, choosable: true },
  ...more,
});
const FIELDS = [
  field("1.width", { more: false }),
  field("1.height", { more: false, label: HOSTILE }),
  field("1.color", { more: false }),
  field("5.loras", { kind: "group", more: false, choosable: false }),
  field("2.batch"),
  field("1:3.inner", { choosable: false }),
];
const MADE = { title: "Named", workflow_api: '{"1":1}', workflow: '{"nodes":[]}', warnings: [] };

async function choose(t: TestContext, workflow: Opened, answers: Record<string, Answer> = {}) {
  const server = new Recorded({ "workflow/convert": () => MADE, ...answers });
  const saved: Opened[] = [];
  let closed = 0;
  const el = show(
    t,
    <ChooseInputs
      transport={server}
      workflow={workflow}
      machine="gpu"
      fields={FIELDS}
      onSaved={(opened) => saved.push(opened)}
      onClose={() => {
        closed += 1;
      }}
    />,
  );
  await tick();
  const front = () =>
    [...el.querySelectorAll<HTMLElement>("ol > li")].map(({ dataset }) => dataset.key);
  const check = (key: string) => find<HTMLInputElement>(el, `[data-key="${key}"] [type=checkbox]`);
  return { el, server, saved, front, check, closed: () => closed };
}

const FILE: Opened = {
  title: "sub/portrait.json",
  key: "file:/home/me/sub/portrait.json",
  source: { workflow_api: "{}", workflow: '{"nodes":[]}' },
  warnings: [],
};
const STORED: Opened = {
  title: "Named, version 1",
  source: { workflow_id: "w", version: 1 },
  warnings: [],
};

test("inputs are chosen, ordered and named by buttons and fields, and focus stays", async (t) => {
  const { el, server, saved, front, check } = await choose(t, FILE);
  assert.deepEqual(front(), ["1.width", "1.height", "1.color"]);
  assert.equal(el.querySelector("img"), null);
  assert.match(el.textContent ?? "", /1 inside subgraphs cannot be chosen/);
  assert.equal(named(el, "1.width: move up").disabled, true);
  named(el, "1.color: move up").click();
  await tick();
  assert.deepEqual(front(), ["1.width", "1.color", "1.height"]);
  assert.equal(document.activeElement, named(el, "1.color: move up"));
  assert.equal(find(el, ".cd-unseen").textContent, "1.color is 2 of 3");
  named(el, "1.color: move up").click();
  await tick();
  // at the top there is no way up any more
  assert.equal(document.activeElement, named(el, "1.color: move down"));
  check("1.width").click();
  await tick();
  assert.deepEqual(front(), ["1.color", "1.height"]);
  assert.equal(document.activeElement, check("1.height"));
  check("2.batch").click();
  await tick();
  assert.deepEqual(front(), ["1.color", "1.height", "2.batch"]);
  assert.equal(document.activeElement, check("1.width"));
  type(find<HTMLInputElement>(el, '[aria-label="Label of 1.color"]'), " Colour ");
  type(find<HTMLInputElement>(el, '[aria-label="Label of 2.batch"]'), "");
  server.answers["workflow/export"] = () => ({ path: "/home/me/sub/portrait.json", warnings: [] });
  named(el, "Save").click();
  await until(() => saved.length > 0);
  assert.deepEqual(
    server.asked.map(({ path, body }) => [path, body]),
    [
      [
        "workflow/export",
        {
          machine: "gpu",
          front: [
            { key: "1.color", label: "Colour" },
            { key: "1.height" },
            { key: "2.batch", label: "" },
          ],
          to: "ui",
          text: true,
          filename: "/home/me/sub/portrait.json",
          type: "file",
          path: "/home/me/sub/portrait.json",
          replace: true,
        },
      ],
      [
        "workflow/convert",
        { filename: "/home/me/sub/portrait.json", type: "file", to: "api", text: true },
      ],
    ],
  );
  const { workflow_api, workflow } = MADE;
  assert.deepEqual(saved, [{ ...FILE, source: { workflow_api, workflow } }]);
});

test("a stored workflow gets a version, and others are stored or used here", async (t) => {
  const version = () => ({ workflow_id: "w", version: 4 });
  const stored = await choose(t, STORED, { "workflow/version": version });
  assert.equal(stored.el.querySelectorAll(".cd-end button").length, 2); // Cancel and Save
  named(stored.el, "Save").click();
  await until(() => stored.saved.length > 0);
  const { workflow_api, workflow } = MADE;
  const comment = "Inputs of the form chosen";
  assert.deepEqual(stored.server.take("workflow/version")[0]?.body, {
    ...{ workflow_api, workflow, workflow_id: "w", comment },
  });
  const source = { workflow_id: "w", version: 4 };
  assert.deepEqual(stored.saved, [{ title: "Named", source, warnings: [], key: "stored:w" }]);

  const given: Opened = { title: "Given workflow", source: { workflow_api: "{}" }, warnings: [] };
  const here = await choose(t, given);
  named(here.el, "Use here").click();
  await until(() => here.saved.length > 0);
  assert.deepEqual(here.saved[0]?.source, { workflow_api, workflow });
  const made = await choose(
    t,
    { ...FILE, key: "file:/home/me/picture.png" },
    { workflow: version },
  );
  assert.equal(made.el.textContent?.includes("Save"), false, "a picture is not written");
  named(made.el, "Store on the server").click();
  await until(() => made.saved.length > 0);
  assert.equal(JSON.stringify(made.server.take("workflow")[0]?.body).includes(FILE.title), true);
});

test("a refusal is said in the dialog, which stays; without inputs the form chooses", async (t) => {
  const refused = () => ({ status: 403, message: "path: must be below Jupyter's root", code: "x" });
  const { el, server, saved, front, check, closed } = await choose(t, FILE, {
    "workflow/export": refused,
  });
  for (const key of front()) check(key ?? "").click();
  await tick();
  assert.match(el.textContent ?? "", /None is chosen: the form itself/);
  named(el, "Save").click();
  await until(() => el.textContent?.includes("must be below Jupyter's root") ?? false);
  assert.match(JSON.stringify(server.take("workflow/export")[0]?.body), /"front":\[\]/);
  assert.deepEqual([saved, named(el, "Save").disabled], [[], false]);
  named(el, "Cancel").click();
  assert.equal(closed(), 1);
});

test("a menu is opened, gone through and closed with keys", async (t) => {
  const called: string[] = [];
  const action = (label: string, disabled = false) => ({
    ...{ label, icon: "copy" as const, disabled, onClick: () => called.push(label) },
  });
  const el = show(t, <Menu label="More" actions={[action("A"), action("B", true), action("C")]} />);
  const button = named(el, "More");
  const open = async () => {
    button.click();
    await tick();
  };
  await open();
  assert.equal(button.getAttribute("aria-expanded"), "true");
  const now = () => document.activeElement?.textContent?.trim();
  assert.equal(now(), "A");
  const menu = find(el, "[role=menu]");
  for (const [key, shown] of [
    ["ArrowDown", "C"],
    ["ArrowDown", "A"],
    ["ArrowUp", "C"],
    ["Home", "A"],
    ["End", "C"],
  ] as const) {
    press(menu, key);
    assert.equal(now(), shown);
  }
  press(menu, "Escape");
  await tick();
  assert.equal(el.querySelector("[role=menu]"), null);
  assert.equal(document.activeElement, button);
  await open();
  named(el, "C").click();
  await tick();
  assert.deepEqual([called, el.querySelector("[role=menu]")], [["C"], null]);
});
