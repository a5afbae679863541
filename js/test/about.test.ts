import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { Files } from "../src/files.ts";
import type { Item } from "../src/gallery/item.ts";
import { About } from "../src/history/about.ts";
import type { EarlierRun } from "../src/history/run.ts";
import { folderAddress } from "../src/server.ts";
import { until } from "./page.ts";

const RUN = {
  prompt_id: "p1",
  created_at: "2020-01-02T03:04:05Z",
  seconds: 1,
  labels: {},
  seeds: ["7"],
  pinned: false,
  from_editor: false,
} as EarlierRun;
const ITEM = { name: "a.png", kind: "image", query: "filename=a.png" } as Item;
const FILES = { size: async () => 2048 } as unknown as Files;
const NOTHING = { reuse() {}, use() {}, pin() {}, remove() {} };

const drawn = new Blob(["a picture"], { type: "image/png" });
const CLIPBOARD = Object.getOwnPropertyDescriptor(navigator, "clipboard");

/** Give the page a clipboard, and canvases that make pictures as browsers do. */
function setUp(write: (items: { content: Record<string, Promise<Blob>> }[]) => Promise<void>) {
  class Copied {
    constructor(readonly content: Record<string, Promise<Blob>>) {}
  }
  Object.defineProperty(navigator, "clipboard", { value: { write }, configurable: true });
  Object.assign(window, { ClipboardItem: Copied, isSecureContext: true });
  Object.assign(globalThis, { ClipboardItem: Copied });
  HTMLCanvasElement.prototype.toBlob = (give) => give(drawn);
}

afterEach(() => {
  if (CLIPBOARD) Object.defineProperty(navigator, "clipboard", CLIPBOARD);
  Reflect.deleteProperty(window, "ClipboardItem");
  document.head.replaceChildren();
});

function copyButton(item: Item): HTMLButtonElement | undefined {
  const about = new About(RUN, item, document.createElement("img"), FILES, [], NOTHING);
  const buttons = [...about.root.querySelectorAll("button")];
  return buttons.find((each) => each.textContent === " Copy picture");
}

test("a picture is copied as PNG", async () => {
  const copied: Blob[] = [];
  setUp(async ([item]) => {
    const content = await item?.content["image/png"];
    if (content) copied.push(content);
  });
  const copy = copyButton(ITEM);
  copy?.click();
  await until(() => copy?.textContent === " Copied");
  assert.deepEqual(copied, [drawn]);
});

test("a browser that refuses is told; other files and other browsers have no button", async () => {
  setUp(() => Promise.reject(new Error("not allowed")));
  const copy = copyButton(ITEM);
  copy?.click();
  await until(() => copy?.textContent === " Not copied");
  assert.equal(copyButton({ ...ITEM, kind: "video" }), undefined);
  Reflect.deleteProperty(window, "ClipboardItem");
  assert.equal(copyButton(ITEM), undefined);
});

function servePageFrom(root: string): void {
  const config = document.createElement("script");
  config.type = "application/json";
  config.id = "jupyter-config-data";
  config.textContent = JSON.stringify({ baseUrl: "/user/ann/", serverRoot: root });
  document.head.append(config);
}

test("a folder below Jupyter's root has a link that opens it in JupyterLab", () => {
  servePageFrom("/home/ann/");
  const about = new About(RUN, ITEM, document.createElement("img"), FILES, [], NOTHING);
  about.show({ prompts: [], folder: "/home/ann/my files/50 %" });
  const link = about.root.querySelector("a");
  assert.equal(link?.textContent, " Open in JupyterLab");
  assert.equal(link?.getAttribute("href"), "/user/ann/lab/tree/my%20files/50%20%25");
  assert.match(about.root.textContent ?? "", /\/home\/ann\/my files\/50 %/);
  about.show({ prompts: [], folder: "/home/annette/files" });
  assert.equal(about.root.querySelector("a"), null, "it is not below the root");
  assert.match(about.root.textContent ?? "", /\/home\/annette\/files/);
  about.show({ prompts: [], folder: "" });
  assert.doesNotMatch(about.root.textContent ?? "", /Folder/);
});

test("pages without JupyterLab, and servers of the whole disk", () => {
  assert.equal(folderAddress("/home/ann"), null);
  servePageFrom("/");
  assert.equal(folderAddress("/srv/out"), "/user/ann/lab/tree/srv/out");
});
