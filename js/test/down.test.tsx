import assert from "node:assert/strict";
import test from "node:test";
import { createRef, render } from "preact";
import { Down } from "../src/components/down.tsx";
import type { Transport } from "../src/transport.ts";
import { scrollEverywhere, until } from "./page.ts";

test("a ComfyUI that is down is told with its cause until it answers", async (t) => {
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  let comfyui: object | null = { reachable: false };
  let fails = false;
  const answers: boolean[] = [];
  const transport = {
    get: async () => {
      if (fails) throw new Error("The server is away");
      return { comfyui };
    },
  } as unknown as Transport;
  const panel = createRef<HTMLDivElement>();
  const show = (machine: string, isNeeded = false) => {
    const onReachable = (isBack: boolean) => answers.push(isBack);
    render(
      <div ref={panel}>
        <Down {...{ transport, root: panel, machine, isNeeded, onReachable }} />
      </div>,
      root,
    );
    scrollEverywhere();
  };
  t.after(() => render(null, root));
  const says = (text: string) => until(() => root.textContent === (text && `● ${text}`));
  show("a");
  await says(""); // nobody has needed it yet
  show("a", true);
  await says("ComfyUI does not answer");
  const crashed = "ComfyUI ended unexpectedly (signal 9)";
  comfyui = { reachable: false, state: "backoff", error: crashed };
  show("b");
  await says(`ComfyUI is down, it is being started again: ${crashed}`);
  fails = true;
  show("c");
  await says(`ComfyUI is down, it is being started again: ${crashed}`);
  fails = false;
  comfyui = { reachable: false, state: "starting", restarts: 1 };
  show("d");
  await says("ComfyUI is down, it is being started again");
  comfyui = { reachable: false, state: "starting", restarts: 0 };
  show("e");
  await says("ComfyUI is being started");
  comfyui = { reachable: false, state: "failed", error: "<b>no torch", hint: "Install it." };
  show("f");
  await says("ComfyUI does not start: <b>no torch. Install it.");
  comfyui = {
    reachable: false,
    error: "ComfyUI at x does not answer: no route",
    hint: "Start it.",
  };
  show("f2");
  await says("ComfyUI at x does not answer: no route. Start it.");
  assert.deepEqual(answers, []);
  comfyui = { reachable: true };
  show("g");
  await says("");
  assert.equal(answers[0], true);
  show("h");
  await until(() => answers.length > 1);
  assert.equal(answers[1], false);
});
