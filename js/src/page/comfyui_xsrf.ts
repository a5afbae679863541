/**
 * Adds Jupyter's XSRF token to the requests of ComfyUI's page.
 *
 * Only the token proves to Jupyter that a request comes from this page, because other pages may
 * have the same origin.
 */

/** The tokens that are valid with the user's cookies; the server inserts them here. */
declare const TOKENS: string[];

const given = TOKENS;
const base = location.pathname.slice(0, location.pathname.lastIndexOf("/comfyui/") + 1);
const folders = ["comfyui/", "comfyui-deploy/", "comfydeploy/"].map((name) => base + name);
const PROTOCOLS = ["http:", "https:", "ws:", "wss:"];

function token(): string {
  const found = document.cookie
    .split(/; */)
    .filter((pair) => pair.startsWith("_xsrf="))
    .map((pair) => decodeURIComponent(pair.slice("_xsrf=".length).replace(/^"(.*)"$/, "$1")));
  // The tokens in the page are valid until the user logs in again.
  return given.find((one) => found.includes(one)) ?? found[0] ?? given[0] ?? "";
}

function parse(url: string | URL): URL | null {
  try {
    return new URL(url, document.baseURI);
  } catch {
    return null;
  }
}

/** Return whether requests to an address need the token: those to the extension's routes. */
function isOurs(url: URL | null): url is URL {
  return (
    url !== null &&
    url.host === location.host &&
    PROTOCOLS.includes(url.protocol) &&
    folders.some((folder) => url.pathname.startsWith(folder))
  );
}

/** Add the token to the query, for requests without headers. Jupyter does not forward it. */
function withToken<Url extends string | URL>(url: Url): Url | string {
  const address = parse(url);
  if (!isOurs(address)) return url;
  const pairs = address.search.slice(1).split("&");
  const kept = pairs.filter((pair) => pair !== "" && !pair.startsWith("_xsrf="));
  address.search = [...kept, `_xsrf=${encodeURIComponent(token())}`].join("&");
  return address.href;
}

const { fetch } = window;
window.fetch = function (this: Window, input, options) {
  const isRequest = input instanceof Request;
  if (!isOurs(parse(isRequest ? input.url : input))) return fetch.call(this, input, options);
  const headers = new Headers(options?.headers ?? (isRequest ? input.headers : undefined));
  headers.set("X-XSRFToken", token());
  return fetch.call(this, input, { ...options, headers });
};

type Open = (method: string, url: string | URL, ...more: unknown[]) => void;
const open = XMLHttpRequest.prototype.open as Open;
const openWithToken: Open = function (this: XMLHttpRequest, method, url, ...more) {
  open.call(this, method, url, ...more);
  if (isOurs(parse(url))) this.setRequestHeader("X-XSRFToken", token());
};
XMLHttpRequest.prototype.open = openWithToken;

const { sendBeacon } = Navigator.prototype;
Navigator.prototype.sendBeacon = function (url, ...more) {
  return sendBeacon.call(this, withToken(url), ...more);
};

function connectWithToken<Connection extends typeof WebSocket | typeof EventSource>(
  connection: Connection,
): Connection {
  return new Proxy(connection, {
    construct: (target, [url, ...more], newTarget) =>
      Reflect.construct(target, [withToken(url), ...more], newTarget),
  });
}
window.WebSocket = connectWithToken(window.WebSocket);
window.EventSource = connectWithToken(window.EventSource);

// For a form with the method GET, the browser creates the query from its fields; it needs no token.
function addTokenToForm(form: HTMLFormElement, button: HTMLElement | null): void {
  const method = button?.getAttribute("formmethod") ?? form.getAttribute("method") ?? "get";
  if (method.toLowerCase() !== "post") return;
  const [sender, attribute] = button?.hasAttribute("formaction")
    ? [button, "formaction"]
    : [form, "action"];
  sender.setAttribute(attribute, withToken(sender.getAttribute(attribute) || location.href));
}
addEventListener(
  "submit",
  (event) => addTokenToForm(event.target as HTMLFormElement, event.submitter),
  true,
);
const { submit } = HTMLFormElement.prototype;
HTMLFormElement.prototype.submit = function () {
  addTokenToForm(this, null);
  return submit.call(this);
};

export {};
