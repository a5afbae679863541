import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { render } from "preact";
import type { RunDetails } from "../src/shown_runs.ts";
import { find, scrollEverywhere } from "./page.ts";
import { details, file, output, Recorded, serverOf } from "./recorded.ts";

const { Gallery } = await import("../src/components/gallery.tsx");

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function show(t: TestContext, run: Partial<RunDetails>, view?: () => unknown) {
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const answers = { ...serverOf([]), ...(view && { view }) };
  const transport = new Recorded(answers);
  const draw = async (more: Partial<RunDetails>) => {
    const reused = async (id: string) => `The values of ${id} are in the form now.`;
    render(<Gallery transport={transport} run={details(more)} onReuse={reused} />, el);
    for (let turn = 0; turn < 2; turn += 1) {
      await wait(60);
      scrollEverywhere();
    }
    await wait(60);
  };
  t.after(() => render(null, el));
  await draw(run);
  return { el, transport, draw };
}

const PICTURE = file("a.png");
const outputOf = (...files: ReturnType<typeof file>[]) => ({ outputs: [output("2", { files })] });

test("few pictures and films share one grid, more are below each other", async (t) => {
  const counts = async (pictures: number, films: number) => {
    const many = (count: number, name: string, kind: "image" | "video") =>
      [...Array(count).keys()].map((place) => file(`${place}${name}`, { kind }));
    const files = [...many(pictures, ".png", "image"), ...many(films, ".mp4", "video")];
    const { el } = await show(t, outputOf(...files));
    const own = [...el.querySelectorAll(".cd-pictures, .cd-players")];
    return own.map((part) => [part.className, part.children.length]);
  };
  assert.deepEqual(await counts(1, 0), [["cd-pictures cd-single", 1]]);
  assert.deepEqual(await counts(0, 1), [["cd-players", 1]]);
  assert.deepEqual(await counts(3, 1), [["cd-pictures cd-few", 4]]);
  assert.deepEqual(await counts(4, 1), [
    ["cd-pictures", 4],
    ["cd-players", 1],
  ]);
  assert.deepEqual(await counts(5, 0), [["cd-pictures", 5]]);
});

test("invisible characters in names are replaced, and an option is not broken", async (t) => {
  const why = "start it with --lowvram (launch_args), <b>";
  const odd = file("gpj.\u202eevil\u0000.png", { kind: "file" });
  const { el } = await show(t, { ...outputOf(odd), status: "failed", why });
  assert.equal(find(el, ".cd-tile").title, "gpj.\ufffdevil\ufffd.png");
  assert.equal(find(el, "[role=alert]").textContent, why);
  assert.equal(find(el, ".cd-unbroken").textContent, "--lowvram");
});

test("pairs are compared, and their pictures are not shown twice", async (t) => {
  const files = [PICTURE, file("b.png"), file("c.png")];
  const { el } = await show(t, { outputs: [output("2", { files, pairs: [[0, 1]] })] });
  const slider = find<HTMLInputElement>(el, ".cd-compare input[type=range]");
  assert.match(slider.getAttribute("aria-label") ?? "", /a\.png.*b\.png/);
  assert.equal(el.querySelectorAll(".cd-picture-button").length, 1);
});

test("a file that is no picture is shown by the asset that shows it", async (t) => {
  const model = file("a.fbx", { kind: "3d", preview: "b0cd" });
  const files = [model, file("b.fbx", { kind: "3d" })];
  const { el, transport } = await show(t, outputOf(...files), () => new Blob(["x"]));
  const [first, second] = el.querySelectorAll<HTMLElement>(".cd-tile");
  assert.equal(second?.querySelector("img"), null);
  const picture = find<HTMLImageElement>(first as HTMLElement, "img.cd-preview");
  assert.match(picture.src, /^blob:/);
  const asked = transport.take("view").map(({ query }) => query);
  assert.deepEqual(
    asked.filter((query) => query?.preview).map((query) => [query?.filename, query?.preview]),
    [["a.fbx", "b0cd"]],
  );
  picture.dispatchEvent(new Event("error"));
  await wait(60);
  assert.equal(first?.querySelector("img"), null, "ComfyUI does not have it any more");
  assert.ok(first?.querySelector(".fa, svg"));
});

test("a model is shown in 3D on a click; errors are shown in its tile", async (t) => {
  let reply: unknown;
  const models = [file("a.glb", { kind: "3d" }), file("b.spz", { kind: "3d" })];
  const { el } = await show(t, outputOf(...models), () => reply);
  const buttons = () => [...el.querySelectorAll<HTMLButtonElement>(".cd-tile > .cd-button")];
  assert.equal(buttons().length, 1, "a splat in a format of its own has none");
  const large = Object.defineProperty(new Blob([]), "size", { value: 65 << 20 });
  for (const [answer, said] of [
    [large, "It has 65.0 MiB, but at most 64.0 MiB are allowed"],
    [{ status: 404, code: "gone", message: "gone" }, "It is not available any more"],
  ] as const) {
    reply = answer;
    buttons()[0]?.click();
    await wait(200);
    assert.equal(
      el.querySelector(".cd-tile .cd-error-text")?.textContent,
      `It cannot be shown in 3D. ${said}.`,
    );
  }
});

test("a long text is in the page only while it is unfolded", async (t) => {
  const long = "word ".repeat(1000);
  const { el } = await show(t, { outputs: [output("2", { texts: [long] })] });
  const text = find(el, "pre");
  assert.ok((text.textContent ?? "").length < 1300);
  find(el, "figure button").click();
  await wait(60);
  assert.equal(text.textContent, long);
});

test("the values of a run can be used again, which is said until another one is shown", async (t) => {
  const { el, draw } = await show(t, {});
  find(el, ".cd-head button").click();
  await wait(60);
  const told = () => find(el, ".cd-reused").textContent;
  assert.equal(told(), "The values of p are in the form now.");
  await draw({ prompt_id: "p2" });
  assert.equal(told(), "");
});
