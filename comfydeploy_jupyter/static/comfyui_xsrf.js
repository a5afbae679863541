// Added to ComfyUI's page, so that its requests bring Jupyter's XSRF token. Jupyter takes nothing
// else as proof that they come from this page: other pages may be of the same origin.
(() => {
  const given = TOKENS;
  const base = location.pathname.slice(0, location.pathname.lastIndexOf("/comfyui/") + 1);
  const ours = ["comfyui/", "comfyui-deploy/", "comfydeploy/"].map((name) => base + name);
  const token = () => {
    const found = document.cookie
      .split(/; */)
      .filter((pair) => pair.startsWith("_xsrf="))
      .map((pair) => decodeURIComponent(pair.slice("_xsrf=".length).replace(/^"(.*)"$/, "$1")));
    // Those that came with the page are right until the user logs in again.
    return given.find((one) => found.includes(one)) ?? found[0] ?? given[0];
  };
  const parse = (url) => {
    try {
      return new URL(url, document.baseURI);
    } catch {
      return null;
    }
  };
  const isOurs = (url) =>
    url !== null &&
    url.host === location.host &&
    ["http:", "https:", "ws:", "wss:"].includes(url.protocol) &&
    ours.some((folder) => url.pathname.startsWith(folder));
  // Where no header can be set, the token goes into the query. Jupyter does not pass it on.
  const withToken = (url) => {
    const address = parse(url);
    if (!isOurs(address)) return url;
    const query = address.search.slice(1).split("&");
    const kept = query.filter((pair) => pair !== "" && !pair.startsWith("_xsrf="));
    address.search = [...kept, `_xsrf=${encodeURIComponent(token())}`].join("&");
    return address.href;
  };

  const { fetch } = window;
  window.fetch = function (input, options) {
    const isRequest = input instanceof Request;
    if (!isOurs(parse(isRequest ? input.url : input))) return fetch.call(this, input, options);
    const headers = new Headers(options?.headers ?? (isRequest ? input.headers : undefined));
    headers.set("X-XSRFToken", token());
    return fetch.call(this, input, { ...options, headers });
  };

  const { open } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    const answer = open.call(this, method, url, ...rest);
    if (isOurs(parse(url))) this.setRequestHeader("X-XSRFToken", token());
    return answer;
  };

  const { sendBeacon } = Navigator.prototype;
  Navigator.prototype.sendBeacon = function (url, ...rest) {
    return sendBeacon.call(this, withToken(url), ...rest);
  };

  for (const name of ["WebSocket", "EventSource"]) {
    window[name] = new Proxy(window[name], {
      construct: (target, [url, ...rest], made) =>
        Reflect.construct(target, [withToken(url), ...rest], made),
    });
  }

  // The query of a form that is sent by GET is made of its fields, and needs no token.
  const prepare = (form, button) => {
    const method = button?.getAttribute("formmethod") ?? form.getAttribute("method") ?? "get";
    if (method.toLowerCase() !== "post") return;
    const sender = button?.hasAttribute("formaction") ? button : form;
    const attribute = sender === form ? "action" : "formaction";
    sender.setAttribute(attribute, withToken(sender.getAttribute(attribute) || location.href));
  };
  addEventListener("submit", (event) => prepare(event.target, event.submitter), true);
  const { submit } = HTMLFormElement.prototype;
  HTMLFormElement.prototype.submit = function () {
    prepare(this, null);
    return submit.call(this);
  };
})();
