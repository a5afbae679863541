import assert from "node:assert/strict";
import test from "node:test";
import { render } from "preact";
import { find, scrollEverywhere, unfold } from "./page.ts";
import { file, RECORD, Recorded } from "./recorded.ts";

const { BatchProof, Proof } = await import("../src/components/proof.tsx");

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function seen(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) {
    await wait(60);
    scrollEverywhere();
  }
  await wait(60);
}

const DIFFERS = {
  state: "done",
  prompt_id: "r",
  verdict: "differs",
  differences: ["torch 2.13.0 instead of 2.12.0"],
  outputs: [
    {
      node_id: "9",
      filename: "a.png",
      verdict: "differs",
      reason: "",
      share: 0.25,
      before: file("a.png"),
      after: file("b.png"),
    },
    { node_id: "10", filename: "b.png", verdict: "identical", reason: "", share: null },
  ],
  notes: [],
};

test("the environment of a run is offered as files", async (t) => {
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  t.after(() => render(null, el));
  const transport = new Recorded({ "runs/p/record": () => RECORD });
  Object.assign(transport, { base: "/user/" });
  render(<Proof transport={transport} promptId="p" />, el);
  unfold(find(el, "details"));
  await seen();
  const inner = find<HTMLDetailsElement>(el, "details details");
  unfold(inner);
  await seen();
  const links = [...inner.querySelectorAll("a")].map((a) => [
    a.textContent,
    a.getAttribute("href"),
  ]);
  const address = "/user/comfyui-deploy/runs/p/environment?file=";
  assert.deepEqual(links, [
    ["Dockerfile", `${address}dockerfile`],
    ["Snapshot for ComfyUI-Manager", `${address}manager_snapshot`],
    ["Steps for a machine of ComfyDeploy", `${address}docker_command_steps`],
  ]);
});

test("a record is read when it is opened, and a run is made again", async (t) => {
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  t.after(() => render(null, el));
  const asked: string[] = [];
  const answer = (name: string, body: unknown) => () => {
    asked.push(name);
    return body;
  };
  const transport = new Recorded({
    "runs/p/record": answer("record", RECORD),
    "runs/p/verify": answer("verify", DIFFERS),
    "runs/p/verify/difference": () => new Blob(["white"], { type: "image/webp" }),
    view: () => new Blob(["a picture"], { type: "image/png" }),
  });
  render(<Proof transport={transport} promptId="p" />, el);
  await wait(20);
  assert.deepEqual(asked, []);
  unfold(find(el, "details"));
  await seen();
  assert.deepEqual(asked, ["record"]);
  const text = () => el.textContent ?? "";
  for (const told of ["0.33.0, aaaaaaaaaaaa", "2.12.0", "A pack1.0", "<b>.safetensors0123456789ab"])
    assert.ok(text().includes(told), told);
  const button = [...el.querySelectorAll("button")].find((b) =>
    b.textContent?.includes("Make it again"),
  );
  button?.click();
  await seen();
  assert.deepEqual(asked, ["record", "verify", "verify"]);
  assert.ok(text().includes("It was made again, and differs."));
  assert.ok(text().includes("torch 2.13.0 instead of 2.12.0"));
  assert.ok(text().includes("a.png differs: 25 % of the pixels"));
  assert.ok(!text().includes("b.png"));
  [...el.querySelectorAll("button")].find((b) => b.textContent === "Compare")?.click();
  await seen();
  const dialog = find<HTMLDialogElement>(el, "dialog");
  const tags = () => [...dialog.querySelectorAll(".cd-tag")].map((tag) => tag.textContent);
  assert.deepEqual(new Set(tags()), new Set(["before", "after"]));
  find<HTMLButtonElement>(dialog, "[title='Next picture']").click();
  await seen();
  assert.deepEqual(new Set(tags()), new Set(["before", "difference"]));
  const [difference] = transport.take("runs/p/verify/difference");
  assert.deepEqual(difference?.query, { output: "0" });
});

test("the points of a batch are made again, which can be cancelled", async (t) => {
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  t.after(() => render(null, el));
  const counts = { identical: 0, differs: 0, cannot: 0 };
  const none = { status: 404, code: "not_found", message: "It was not verified" };
  let state: object | null = null;
  const begun = (more: object) => ({
    state: "running",
    why: "Waiting until local executes nothing",
    total: 7,
    counts,
    differences: [],
    points: [],
    ...more,
  });
  const transport = new Recorded({
    "batch/b/verify": ({ method, query }) => {
      if (method === "POST") state = begun({});
      const points = [{ point: 3, verdict: query.verdict, reason: "a.png differs: 2 %" }];
      return state ? { ...state, points } : none;
    },
    "batch/b/verify/cancel": () => {
      state = begun({
        state: "cancelled",
        counts: { identical: 2, differs: 1, cannot: 0 },
        differences: ["torch 2.13.0 instead of 2.12.0"],
      });
      return state;
    },
  });
  const names = (point: number) => `Seed ${point}`;
  render(<BatchProof transport={transport} batch="b" made={7} nameOf={names} />, el);
  unfold(find(el, "details"));
  await seen();
  const press = async (label: string) => {
    [...el.querySelectorAll("button")].find((b) => b.textContent?.includes(label))?.click();
    await seen();
  };
  assert.ok(el.textContent?.includes("Make 7 points again"));
  assert.equal(el.querySelector(".comfydeploy-error"), null);
  await press("A sample of 5");
  const posted = transport.take("batch/b/verify").find(({ method }) => method === "POST");
  assert.deepEqual(posted?.body, { points: 5 });
  assert.ok(el.textContent?.includes("0 of 7: 0 identical"));
  assert.ok(el.textContent?.includes("Waiting until local executes nothing"));
  await press("Cancel");
  assert.ok(el.textContent?.includes("Cancelled: 2 identical · 1 differs"));
  assert.ok(el.textContent?.includes("torch 2.13.0 instead of 2.12.0"));
  assert.ok(el.textContent?.includes("Seed 3: a.png differs: 2 %"));
});
