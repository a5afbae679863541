import assert from "node:assert/strict";
import { test } from "node:test";
import { Files } from "../src/files.ts";
import type { Item } from "../src/gallery/item.ts";
import { Lightbox } from "../src/gallery/lightbox.ts";
import { Subscriptions } from "../src/model.ts";
import { forgetPageServer } from "../src/server.ts";
import { answerRequests, asModel, FakeModel, find, press, until } from "./page.ts";

const itemOf = (name: string): Item => ({
  name,
  kind: "image",
  query: `filename=${name}`,
  small: true,
  waits: false,
});

/** Open a lightbox in a page of another server, to which the kernel sends the files. */
function open(names: string[]) {
  forgetPageServer();
  answerRequests(() => ({ instance: "another" }));
  const model = new FakeModel({ server: { base: "/", instance: "one" } });
  const files = new Files(asModel(model), new Subscriptions(asModel(model)));
  const lightbox = new Lightbox();
  const opener = document.createElement("button");
  document.body.replaceChildren(lightbox.root, opener);
  lightbox.open(files, names.map(itemOf), 0, opener);
  const answer = (name: string, content: object) => {
    const id = model.sent.find(({ query }) => query === `filename=${name}`)?.id;
    model.receive({ kind: "file", id, mime: "image/png", ...content });
  };
  return { model, root: lightbox.root, answer };
}

test("a late reply does not show the earlier picture under the name of the next one", async () => {
  const { model, root, answer } = open(["a.png", "b.png", "c.png"]);
  press(root, "ArrowRight");
  press(root, "ArrowRight");
  await until(() => model.sent.length === 3);
  const image = find<HTMLImageElement>(root, "img");
  answer("c.png", {});
  await until(() => image.src.startsWith("blob:"));
  const shown = image.src;
  answer("a.png", {});
  answer("b.png", { error: "no such file" });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(image.src, shown);
  assert.equal(image.alt, "c.png");
  assert.match(find(root, ".cd-cut").textContent ?? "", /^c\.png {2}\(3 of 3\)/);
});

test("without pictures the dialog does not open", () => {
  assert.equal(open([]).root.open, false);
  assert.equal(open(["a.png"]).root.open, true);
});
