// Made from js/src/page/comfyui_xsrf.ts by `make js-build`; do not edit it here.
"use strict";
(() => {
  // src/page/comfyui_xsrf.ts
  var given = TOKENS;
  var base = location.pathname.slice(0, location.pathname.lastIndexOf("/comfyui/") + 1);
  var folders = ["comfyui/", "comfyui-deploy/", "comfydeploy/"].map((name) => base + name);
  var PROTOCOLS = ["http:", "https:", "ws:", "wss:"];
  function token() {
    const found = document.cookie.split(/; */).filter((pair) => pair.startsWith("_xsrf=")).map((pair) => decodeURIComponent(pair.slice("_xsrf=".length).replace(/^"(.*)"$/, "$1")));
    return given.find((one) => found.includes(one)) ?? found[0] ?? given[0] ?? "";
  }
  function parse(url) {
    try {
      return new URL(url, document.baseURI);
    } catch {
      return null;
    }
  }
  function isOurs(url) {
    return url !== null && url.host === location.host && PROTOCOLS.includes(url.protocol) && folders.some((folder) => url.pathname.startsWith(folder));
  }
  function withToken(url) {
    const address = parse(url);
    if (!isOurs(address)) return url;
    const pairs = address.search.slice(1).split("&");
    const kept = pairs.filter((pair) => pair !== "" && !pair.startsWith("_xsrf="));
    address.search = [...kept, `_xsrf=${encodeURIComponent(token())}`].join("&");
    return address.href;
  }
  var { fetch } = window;
  window.fetch = function(input, options) {
    const isRequest = input instanceof Request;
    if (!isOurs(parse(isRequest ? input.url : input))) return fetch.call(this, input, options);
    const headers = new Headers(options?.headers ?? (isRequest ? input.headers : void 0));
    headers.set("X-XSRFToken", token());
    return fetch.call(this, input, { ...options, headers });
  };
  var open = XMLHttpRequest.prototype.open;
  var openWithToken = function(method, url, ...more) {
    open.call(this, method, url, ...more);
    if (isOurs(parse(url))) this.setRequestHeader("X-XSRFToken", token());
  };
  XMLHttpRequest.prototype.open = openWithToken;
  var { sendBeacon } = Navigator.prototype;
  Navigator.prototype.sendBeacon = function(url, ...more) {
    return sendBeacon.call(this, withToken(url), ...more);
  };
  function connectWithToken(connection) {
    return new Proxy(connection, {
      construct: (target, [url, ...more], newTarget) => Reflect.construct(target, [withToken(url), ...more], newTarget)
    });
  }
  window.WebSocket = connectWithToken(window.WebSocket);
  window.EventSource = connectWithToken(window.EventSource);
  function addTokenToForm(form, button) {
    const method = button?.getAttribute("formmethod") ?? form.getAttribute("method") ?? "get";
    if (method.toLowerCase() !== "post") return;
    const [sender, attribute] = button?.hasAttribute("formaction") ? [button, "formaction"] : [form, "action"];
    sender.setAttribute(attribute, withToken(sender.getAttribute(attribute) || location.href));
  }
  addEventListener(
    "submit",
    (event) => addTokenToForm(event.target, event.submitter),
    true
  );
  var { submit } = HTMLFormElement.prototype;
  HTMLFormElement.prototype.submit = function() {
    addTokenToForm(this, null);
    return submit.call(this);
  };
})();
