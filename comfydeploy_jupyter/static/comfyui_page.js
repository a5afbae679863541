// Put into ComfyUI's page, so that it works in a folder as it does at the root of a host.
// Some versions of its frontend (1.32 among them) tell their router that the page is at the root:
// it then knows no view for our address, and shows none.
(() => {
  const folder = location.pathname.slice(0, location.pathname.lastIndexOf("/") + 1);
  for (const name of ["pushState", "replaceState"]) {
    const change = history[name];
    history[name] = function (state, title, url) {
      if (url === undefined || url === null) return change.call(this, state, title);
      const wanted = new URL(url, location.href);
      if (wanted.origin === location.origin && !wanted.pathname.startsWith(folder)) {
        wanted.pathname = folder + wanted.pathname.replace(/^\/+/, "");
      }
      return change.call(this, state, title, wanted.href);
    };
  }
  const address = new URL(location.href);
  if (address.searchParams.has("token")) {
    address.searchParams.delete("token");
    history.replaceState(history.state, "", address.href);
  }
  const look = setInterval(async () => {
    const app = document.getElementById("vue-app")?.__vue_app__;
    const router = app?.config.globalProperties.$router;
    if (!router) return;
    clearInterval(look);
    await router.isReady();
    const { matched, query } = router.currentRoute.value;
    if (matched.length === 0) router.replace({ path: "/", query });
  }, 20);
})();
