// Made from js/src/page/comfyui_page.ts by `make js-build`; do not edit it here.
"use strict";
(() => {
  // src/page/comfyui_page.ts
  var INTERVAL = 20;
  var folder = location.pathname.slice(0, location.pathname.lastIndexOf("/") + 1);
  function inFolder(url) {
    if (!URL.canParse(url, location.href)) return String(url);
    const address2 = new URL(url, location.href);
    const isHere = address2.protocol === location.protocol && address2.host === location.host;
    if (isHere && !address2.pathname.startsWith(folder)) {
      address2.pathname = folder + address2.pathname.replace(/^\/+/, "");
    }
    return address2.href;
  }
  for (const name of ["pushState", "replaceState"]) {
    const change = history[name];
    history[name] = function(state, title, url) {
      if (url === void 0 || url === null) return change.call(this, state, title);
      return change.call(this, state, title, inFolder(url));
    };
  }
  for (const [kind, name] of [
    [HTMLLinkElement, "href"],
    [HTMLImageElement, "src"]
  ]) {
    const property = Object.getOwnPropertyDescriptor(kind.prototype, name);
    Object.defineProperty(kind.prototype, name, {
      ...property,
      set(address2) {
        property?.set?.call(this, inFolder(address2));
      }
    });
  }
  var address = new URL(location.href);
  if (address.searchParams.has("token")) {
    address.searchParams.delete("token");
    history.replaceState(history.state, "", address.href);
  }
  var timer = setInterval(async () => {
    const root = document.getElementById("vue-app");
    const router = root?.__vue_app__?.config.globalProperties.$router;
    if (!router) return;
    clearInterval(timer);
    await router.isReady();
    const { matched, query } = router.currentRoute.value;
    if (matched.length === 0) router.replace({ path: "/", query });
  }, INTERVAL);
})();
