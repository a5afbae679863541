import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import type { Model } from "../src/model.ts";
import { mount } from "../src/panels/index.tsx";
import { FakeModel, scrollEverywhere } from "./page.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 20));
const json = (value: object) => [
  new DataView(new TextEncoder().encode(JSON.stringify(value)).buffer),
];
const STOPPED = { running: false, state: "stopped", target: "comfyui", details: {} };

/** Show a panel whose page does not come from the server, so that the test answers its requests. */
async function open(t: TestContext, state: Record<string, unknown>) {
  const server = { base: "", instance: "1" };
  const model = new FakeModel({
    component: "TunnelPanel",
    server,
    error: "",
    record: "",
    ...state,
  });
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const end = mount(model as unknown as Model, el);
  t.after(end);
  await tick();
  await new Promise((resolve) => setTimeout(resolve, 150)); // effects come after a frame
  scrollEverywhere();
  await tick();
  const answer = async (reply: object, status = 200) => {
    const [sent] = model.takeSent().filter(({ path }) => path !== "check-status");
    assert.ok(sent, "nothing was asked");
    model.receive({ kind: "reply", id: sent.id, status }, json(reply));
    await tick();
    return sent;
  };
  const press = async (text: string) => {
    const button = [...el.querySelectorAll("button")].find((each) =>
      each.textContent?.includes(text),
    );
    button?.click();
    await tick();
  };
  return { model, el, end, answer, press };
}

test("a tunnel is started with what was typed, and its secret is no trait", async (t) => {
  const { model, el, answer, press, end } = await open(t, { target: "comfyui", summary: "" });
  assert.equal((await answer(STOPPED)).query, "");
  assert.match(el.textContent, /Stopped/);
  const token = el.querySelector<HTMLInputElement>("input[type=password]");
  assert.ok(token);
  token.value = " secret-token ";
  token.dispatchEvent(new Event("input", { bubbles: true }));
  await press("Start");
  const running = {
    ...STOPPED,
    running: true,
    state: "running",
    url: "https://a.test/",
    access_url: "https://a.test/?access=hidden",
    protection: "gate",
    port: 8188,
  };
  const { path, body } = await answer(running);
  assert.equal(path, "tunnel/start");
  assert.equal(JSON.parse(body).token, "secret-token");
  assert.equal(JSON.parse(body).wait, false);
  assert.match(el.textContent, /Running/);
  assert.equal(el.querySelector("a")?.getAttribute("href"), running.access_url);
  const traits = ["target", "summary", "error"].map((name) => model.get(name)).join();
  assert.match(traits, /a\.test/);
  assert.doesNotMatch(traits, /hidden|secret/);
  end();
  assert.equal(model.listenerCount, 0);
});

test("hostile texts are texts, and a kernel that ends disables the panel", async (t) => {
  const { model, el, answer } = await open(t, { target: "jupyter", summary: "" });
  const error = "<img src=x onerror=alert(1)>";
  await answer({ ...STOPPED, target: "jupyter", error, details: { log: ["<b>"] } });
  assert.equal(el.querySelector("img"), null);
  assert.ok(el.textContent.includes(error));
  assert.match(el.textContent, /Failed/);
  model.set("error", "something else <i>");
  await tick();
  assert.ok(el.textContent.includes("something else <i>"));
  el.classList.add("jupyter-widgets-disconnected");
  await tick();
  assert.match(el.textContent, /Run this cell again/);
  assert.equal(el.querySelector("fieldset")?.disabled, true);
});
