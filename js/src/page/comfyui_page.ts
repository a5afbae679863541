/**
 * Makes ComfyUI's page work in a folder as it does at the root of a host.
 *
 * Some versions of its frontend (for example 1.32) configure their router for a page at the root.
 * Then the router has no view for the page's address, and the page stays empty.
 */

import { followLab } from "../editor/lab_theme.ts";
import { openNamedWorkflow } from "../editor/open_workflow.ts";

/** The part of Vue's router that is used here. */
type Router = {
  isReady(): Promise<void>;
  currentRoute: { value: { matched: unknown[]; query: unknown } };
  replace(route: { path: string; query: unknown }): void;
};

type App = { config: { globalProperties: { $router?: Router } } };

const INTERVAL = 20; // ms between two searches for the router

const folder = location.pathname.slice(0, location.pathname.lastIndexOf("/") + 1);

/** Return an address of the page's own host moved into the folder, and any other unchanged. */
function inFolder(url: string | URL): string {
  if (!URL.canParse(url, location.href)) return String(url);
  const address = new URL(url, location.href);
  const isHere = address.protocol === location.protocol && address.host === location.host;
  if (isHere && !address.pathname.startsWith(folder)) {
    address.pathname = folder + address.pathname.replace(/^\/+/, "");
  }
  return address.href;
}

for (const name of ["pushState", "replaceState"] as const) {
  const change = history[name];
  history[name] = function (
    this: History,
    state: unknown,
    title: string,
    url?: string | URL | null,
  ) {
    if (url === undefined || url === null) return change.call(this, state, title);
    return change.call(this, state, title, inFolder(url));
  };
}

// The icon that shows the progress of a run, and some pictures, have addresses at the root.
for (const [kind, name] of [
  [HTMLLinkElement, "href"],
  [HTMLImageElement, "src"],
] as const) {
  const property = Object.getOwnPropertyDescriptor(kind.prototype, name);
  Object.defineProperty(kind.prototype, name, {
    ...property,
    set(address: string) {
      property?.set?.call(this, inFolder(address));
    },
  });
}

const address = new URL(location.href);
if (address.searchParams.has("token")) {
  address.searchParams.delete("token");
  history.replaceState(history.state, "", address.href);
}

const timer = setInterval(async () => {
  const root = document.getElementById("vue-app") as (HTMLElement & { __vue_app__?: App }) | null;
  const router = root?.__vue_app__?.config.globalProperties.$router;
  if (!router) return;
  clearInterval(timer);
  await router.isReady();
  const { matched, query } = router.currentRoute.value;
  if (matched.length === 0) router.replace({ path: "/", query });
}, INTERVAL);

openNamedWorkflow();
followLab();
