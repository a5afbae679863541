import assert from "node:assert/strict";
import { beforeEach, type TestContext, test } from "node:test";
import { Files, KEPT } from "../src/files.ts";
import { downloadLink } from "../src/gallery/download_link.ts";
import { Subscriptions } from "../src/model.ts";
import { forgetPageServer, pageHeaders, pageServer } from "../src/server.ts";
import { answerRequests, asModel, blobUrls, FakeModel, until } from "./page.ts";

const OURS = { base: "/", instance: "one" };

beforeEach(() => {
  forgetPageServer();
  document.body.replaceChildren();
});

function filesOf(server: object) {
  const model = new FakeModel({ server });
  const files = new Files(asModel(model), new Subscriptions(asModel(model)));
  return { model, files };
}

test("a page of the kernel's own server shows files by their URL, and asks once", async () => {
  const requests = answerRequests(() => ({ instance: "one" }));
  const { model, files } = filesOf(OURS);
  assert.equal(
    await files.url("filename=a.png", 384),
    "/comfyui-deploy/view?filename=a.png&thumbnail=384",
  );
  assert.equal(await files.url("filename=a.png"), "/comfyui-deploy/view?filename=a.png");
  assert.deepEqual(
    requests.map(({ url }) => url),
    ["/comfyui-deploy/check-status"],
  );
  assert.deepEqual(model.sent, []);
});

test("a page of another server gets files from the kernel", async () => {
  answerRequests(() => ({ instance: "another" }));
  const { model, files } = filesOf(OURS);
  const url = files.url("filename=a.png", 384);
  await until(() => model.sent.length > 0);
  const [{ id, ...message }] = model.takeSent() as [{ id: string }];
  assert.deepEqual(message, { kind: "file", query: "filename=a.png", side: 384 });
  model.receive({ kind: "file", id: "of another view", mime: "image/png" });
  model.receive({ kind: "file", id, mime: "image/png" }, [new DataView(new ArrayBuffer(3))]);
  assert.match(await url, /^blob:/);
  const missing = files.url("filename=b.png");
  await until(() => model.sent.length > 0);
  model.receive({ kind: "file", id: model.takeSent()[0]?.id, error: "no such file" });
  await assert.rejects(missing, /no such file/);
});

test("small copies that the kernel sends unasked are shown where it answers no requests", async () => {
  answerRequests(() => ({ instance: "another" }));
  const { files, model } = filesOf(OURS);
  const early = files.url("filename=a.png", 192);
  await until(() => model.sent.length === 1);
  const copy = { kind: "copy", query: "filename=a.png", mime: "image/webp" };
  model.receive(copy, [new DataView(new ArrayBuffer(2))]);
  const url = await early;
  assert.match(url, /^blob:/);
  assert.equal(await files.url("filename=a.png", 192), url);
  files.url("filename=a.png");
  await until(() => model.sent.length === 2);
  assert.equal(model.sent[1]?.side, 0, "the picture in full size is requested");
});

/** The files of a page to which the kernel sends them, and the blob URLs that are in use. */
function kernelPage(t: TestContext) {
  answerRequests(() => ({ instance: "another" }));
  const { model, files } = filesOf(OURS);
  const urls = blobUrls(t);
  const answer = async (asked: Promise<unknown>): Promise<number> => {
    await Promise.race([asked, until(() => model.sent.length > 0)]);
    const requests = model.takeSent();
    for (const { id } of requests) model.receive({ kind: "file", id, mime: "image/png" });
    await asked;
    return requests.length;
  };
  return { files, urls, answer };
}

test("a small copy of the kernel is requested once, and the last ones used are kept", async (t) => {
  const { files, urls, answer } = kernelPage(t);
  const image = document.createElement("img");
  const both = Promise.all([files.show(image, "a", 192), files.url("a", 192)]);
  assert.equal(await answer(both), 1);
  const { src } = image;
  files.free(image);
  assert.equal(image.hasAttribute("src"), false);
  assert.equal(await answer(files.show(image, "a", 192)), 0);
  assert.equal(image.src, src);
  assert.equal(await answer(files.url("a", 384)), 1, "of another size");
  for (let n = 2; n < KEPT; n += 1) await answer(files.url(`${n}`, 192));
  await files.url("a", 192);
  assert.equal(urls.size, KEPT);
  await answer(files.url("one more", 192));
  assert.equal(urls.size, KEPT);
  assert.equal(await answer(files.url("a", 192)), 0);
  assert.equal(await answer(files.url("a", 384)), 1, "it was used before the others");
  files.end();
  assert.equal(urls.size, 0);
});

test("a whole file of the kernel is freed when its element shows another one, or none", async (t) => {
  const { files, urls, answer } = kernelPage(t);
  const image = document.createElement("img");
  const box = document.createElement("div");
  box.append(image);
  await answer(files.show(image, "a"));
  const first = image.src;
  await answer(files.show(image, "b", 1024));
  assert.notEqual(image.src, first);
  assert.deepEqual([...urls], [image.src]);
  files.free(box);
  assert.equal(urls.size, 0);
  const late = files.show(image, "a");
  files.free(image);
  await answer(late);
  assert.deepEqual([image.hasAttribute("src"), urls.size], [false, 0], "it came too late");
  await answer(files.show(image, "a"));
  image.dispatchEvent(new Event("error"));
  assert.equal(urls.size, 0, "it cannot be shown");
});

test("a file of the kernel that was downloaded is freed", async (t) => {
  const { files, urls, answer } = kernelPage(t);
  const timers: (() => void)[] = [];
  t.mock.method(globalThis, "setTimeout", (action: () => void) => timers.push(action));
  const item = { name: "a.png", kind: "image", query: "a", small: true, waits: false } as const;
  const link = downloadLink(files, item);
  link.click();
  await answer(until(() => urls.size > 0));
  await until(() => timers.length > 0);
  assert.equal(urls.size, 1, "the browser still saves it");
  for (const action of timers) action();
  assert.equal(urls.size, 0);
});

test("a server that did not answer is asked again", async () => {
  globalThis.fetch = () => Promise.reject(new Error("away"));
  assert.equal(await pageServer(OURS), null);
  answerRequests(() => ({ instance: "one" }));
  assert.equal(await pageServer(OURS), "/");
});

test("a page of Jupyter waits for its server, without which no kernel can be reached", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  document.body.innerHTML = `<script id="jupyter-config-data">{"baseUrl": "/own/"}</script>`;
  t.after(() => document.body.replaceChildren());
  let tries = 0;
  answerRequests(() => {
    tries += 1;
    if (tries < 3) throw new TypeError("failed to fetch");
    return { instance: "one" };
  });
  const found = pageServer({ base: "/own/", instance: "one" });
  for (let turn = 0; turn < 40; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    t.mock.timers.tick(1000);
  }
  assert.deepEqual([await found, tries], ["/own/", 3]);
});

test("a page uses its own base URL and token, not those of the kernel", async () => {
  const config = document.createElement("script");
  config.id = "jupyter-config-data";
  config.textContent = JSON.stringify({ baseUrl: "/user/ada/", token: "secret" });
  document.body.append(config);
  const requests = answerRequests(() => ({ instance: "one" }));
  assert.equal(await pageServer(OURS), "/user/ada/");
  assert.equal(requests[0]?.url, "/user/ada/comfyui-deploy/check-status");
  assert.equal(pageHeaders().Authorization, "token secret");
});

test("without a known server no request is sent", async () => {
  const requests = answerRequests(() => ({}));
  assert.equal(await pageServer({}), null);
  assert.equal(await pageServer({ base: "/" }), null);
  assert.deepEqual(requests, []);
});
