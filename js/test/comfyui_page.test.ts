import assert from "node:assert/strict";
import { test } from "node:test";
import "./page.ts";

type Request = { url: string; headers: Headers };

test("requests to the extension's routes have the XSRF token, others have none", async () => {
  location.href = "http://jupyter.test/user/ada/comfyui/";
  const requests: Request[] = [];
  window.fetch = async (url, options) => {
    requests.push({ url: String(url), headers: new Headers(options?.headers) });
    return new Response();
  };
  const sockets: string[] = [];
  window.WebSocket = class {
    constructor(url: string) {
      sockets.push(url);
    }
  } as unknown as typeof WebSocket;
  window.EventSource = class {} as unknown as typeof EventSource;
  Object.assign(globalThis, { TOKENS: ["old", "new"] });
  // biome-ignore lint/suspicious/noDocumentCookie: it is what the script reads
  document.cookie = "_xsrf=new";
  await import("../src/page/comfyui_xsrf.ts");

  await window.fetch("/user/ada/comfyui-deploy/run", { method: "POST" });
  await window.fetch("/user/ada/api/contents", { method: "POST" });
  await window.fetch("http://elsewhere.test/user/ada/comfyui/prompt");
  const tokens = requests.map(({ headers }) => headers.get("X-XSRFToken"));
  assert.deepEqual(tokens, ["new", null, null]);

  new window.WebSocket("ws://jupyter.test/user/ada/comfyui/ws?clientId=1&_xsrf=stale");
  new window.WebSocket("ws://elsewhere.test/comfyui/ws");
  assert.deepEqual(sockets, [
    "ws://jupyter.test/user/ada/comfyui/ws?clientId=1&_xsrf=new",
    "ws://elsewhere.test/comfyui/ws",
  ]);

  const form = document.createElement("form");
  form.setAttribute("action", "/user/ada/comfyui/upload");
  document.body.append(form);
  const submit = () => form.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
  submit();
  assert.equal(form.getAttribute("action"), "/user/ada/comfyui/upload", "GET needs no token");
  form.setAttribute("method", "post");
  submit();
  assert.equal(
    form.getAttribute("action"),
    "http://jupyter.test/user/ada/comfyui/upload?_xsrf=new",
  );
});
