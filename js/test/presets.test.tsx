import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { render } from "preact";
import { find, press, type } from "./page.ts";
import { Recorded } from "./recorded.ts";

const { Presets } = await import("../src/components/presets.tsx");
const { FormState } = await import("../src/state/form.ts");

/** Let what was changed be shown; effects come after a frame. */
const tick = () => new Promise((resolve) => setTimeout(resolve, 150));

type Preset = { name: string; inputs: object; locked: string[]; revision: string };

/** A server that keeps presets as ours does: a change must name the revision. */
async function show(t: TestContext, names: string[], workflowId: string | null = "w1") {
  let made = 0;
  const revision = () => `r${++made}`;
  const kept = new Map<string, Preset>();
  const keep = (name: string, inputs: object = {}) =>
    kept.set(name, { name, inputs, locked: [], revision: revision() });
  for (const name of names) keep(name, { "1.text": name });
  const conflict = (name: string) => ({
    status: 409,
    code: "conflict",
    message: "it was changed",
    details: { preset: kept.get(name) ?? null },
  });
  const transport = new Recorded({
    "workflow/form": ({ body }) => {
      const { inputs } = body as { inputs: object };
      const row = { key: "1.text", keys: ["1.text"], node: "1", input: "text", label: "text" };
      const field = { ...row, kind: "text", original: "", choices: null, hint: "" };
      const values = { "1.text": "", ...inputs };
      const empty = { choices: [], unlocked: [], outputs: [], notes: [], problems: {}, others: {} };
      return { ...empty, rows: [field], values, given: inputs, structure: "", defined: true };
    },
    "workflow/presets": () => [...kept.values()],
    "workflow/preset": ({ body }) => {
      const preset = body as Preset;
      if ((kept.get(preset.name)?.revision ?? "") !== preset.revision) return conflict(preset.name);
      keep(preset.name, preset.inputs);
      return kept.get(preset.name);
    },
    "workflow/preset/delete": ({ body }) => {
      const preset = body as Preset;
      if (kept.get(preset.name)?.revision !== preset.revision) return conflict(preset.name);
      kept.delete(preset.name);
      return {};
    },
  });
  const form = new FormState(transport);
  await form.open({ workflow_id: "w1" });
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const store = async () => "stored";
  const props = { transport, form, workflowId, store };
  render(<Presets {...props} />, el);
  t.after(() => render(null, el));
  await tick();
  const input = find<HTMLInputElement>(el, "input");
  const button = (name: string) => {
    const all = [...el.querySelectorAll("button")];
    const found = all.find(
      (each) => each.textContent?.trim() === name || each.getAttribute("aria-label") === name,
    );
    assert.ok(found, `there is no button ${name}`);
    return found;
  };
  const click = async (name: string) => {
    button(name).click();
    await tick();
  };
  const said = () => el.querySelector(".cd-message span")?.textContent ?? "";
  const value = () => form.values.value["1.text"];
  return { el, input, form, transport, kept, keep, button, click, said, value };
}

test("presets are chosen, saved under a new name, and deleted", async (t) => {
  const { input, form, transport, kept, button, click, said, value } = await show(t, ["Soft"]);
  const remove = () => button("Delete this preset");
  assert.deepEqual([button("Save").disabled, remove().disabled], [true, true]);
  form.change("1.text", "mine");
  type(input, "Hard");
  await tick();
  assert.deepEqual([button("Save").disabled, remove().disabled], [false, true]);
  await click("Save");
  assert.deepEqual(kept.get("Hard")?.inputs, { "1.text": "mine" });
  assert.equal(said(), "Saved as Hard");
  form.lock("1.text", true);
  await tick();
  assert.equal(said(), "The values were changed since.");
  form.lock("1.text", false);
  form.change("1.text", "other");
  await tick();
  assert.equal(said(), "The values were changed since.");
  form.change("1.text", "mine");
  await tick();
  assert.equal(said(), "");
  type(input, "Soft");
  await tick();
  assert.match(said(), /^The form does not have the values of this preset/);
  press(input, "Enter");
  await tick();
  assert.deepEqual([value(), said()], ["Soft", ""]);
  form.reset();
  await tick();
  assert.equal(said(), "The values were changed since.");
  await click("Delete this preset");
  assert.deepEqual([...kept.keys()], ["Hard"]);
  assert.equal(remove().disabled, true);
  assert.equal(transport.take("workflow/preset/delete").length, 1);
});

test("values are saved under the name of another preset without loading that one before", async (t) => {
  const { input, form, kept, click, value } = await show(t, ["Soft", "Hard"]);
  form.change("1.text", "mine");
  type(input, "Soft");
  window.dispatchEvent(new Event("resize"));
  input.dispatchEvent(new Event("blur"));
  await tick();
  await click("Save");
  assert.equal(value(), "mine");
  assert.deepEqual(kept.get("Soft")?.inputs, { "1.text": "mine" });
});

test("a preset can be chosen again, which brings its values back", async (t) => {
  const { el, input, form, value } = await show(t, ["Soft"]);
  for (const text of ["Soft", "So"]) {
    form.change("1.text", "mine");
    type(input, text);
    find(el, "li").click();
    await tick();
    assert.equal(input.value, "Soft");
    assert.equal(value(), "Soft");
  }
});

test("a preset that another panel has changed offers both values", async (t) => {
  const { input, form, kept, keep, click, said, value } = await show(t, ["Soft"]);
  type(input, "Soft");
  press(input, "Enter");
  await tick();
  form.change("1.text", "mine");
  keep("Soft", { "1.text": "theirs" });
  await click("Save");
  assert.match(said(), /Another panel has changed this preset. Your values are still here/);
  assert.equal(value(), "mine");
  await click("Use the other values");
  assert.equal(value(), "theirs");
  form.change("1.text", "mine");
  keep("Soft", { "1.text": "theirs" });
  await click("Save");
  await click("Replace them with mine");
  assert.deepEqual(kept.get("Soft")?.inputs, { "1.text": "mine" });
  keep("Soft", { "1.text": "theirs" });
  await click("Save");
  assert.match(said(), /Another panel has changed/);
  type(input, "Another"); // the question is about a preset with the other name
  await tick();
  assert.equal(said(), "");
  type(input, "Soft");
  kept.delete("Soft");
  await tick();
  await click("Delete this preset");
  assert.match(said(), /Another panel has deleted/);
});

test("what is typed stays when the names of presets arrive", async (t) => {
  const { input, keep } = await show(t, []);
  keep("Soft");
  input.focus();
  type(input, "Half a na");
  await tick();
  assert.equal(input.value, "Half a na");
});

test("saving stores a workflow that is not stored", async (t) => {
  const { input, transport, click } = await show(t, [], null);
  type(input, "Soft");
  await tick();
  await click("Save");
  const [saved] = transport.take("workflow/preset");
  assert.equal(Reflect.get(Object(saved?.body), "workflow_id"), "stored");
});
