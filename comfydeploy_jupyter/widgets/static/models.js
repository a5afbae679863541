// The models of ComfyUI: a table that is searched, sorted and filtered in the page.

const READING = "!"; // stands for a hash that is being read
const SHOWN = 500; // rows; with more, the search is the quicker way
const COLUMNS = [
  ["name", "Name", (model) => model.name.toLowerCase()],
  ["folder", "Folder", (model) => model.folder.toLowerCase()],
  ["size", "Size", (model) => model.size ?? -1],
  ["modified", "Changed", (model) => model.modified ?? 0],
];

export default {
  render({ model, el }) {
    el.classList.add("comfydeploy-models");
    const search = h("input", { type: "search", placeholder: "Search models" });
    search.setAttribute("aria-label", "Search models");
    const folder = h("select");
    folder.setAttribute("aria-label", "Show the models folder");
    for (const control of [search, folder]) control.className = "comfydeploy-control";
    const refresh = button("Refresh", () => model.send({ type: "refresh" }));
    const count = h("div", { className: "comfydeploy-note" });
    count.setAttribute("role", "status");
    const head = h("tr");
    const body = h("tbody");
    const table = h("table", {}, h("thead", {}, head), body);
    const scroller = h("div", { className: "comfydeploy-scroller", tabIndex: 0 }, table);
    scroller.setAttribute("role", "region");
    scroller.setAttribute("aria-label", "Models");
    el.append(h("div", { className: "comfydeploy-bar" }, search, folder, refresh), scroller, count);

    let order = { key: "name", down: false };
    for (const [key, title] of COLUMNS) {
      const sort = h("button", { type: "button", textContent: title });
      sort.addEventListener("click", () => {
        order = { key, down: order.key === key && !order.down };
        draw();
      });
      const cell = h("th", { scope: "col" }, sort);
      cell.dataset.key = key;
      head.append(cell);
    }
    head.append(h("th", { scope: "col", textContent: "SHA-256" }));

    function fillFolders() {
      const chosen = folder.value;
      const names = [...new Set(model.get("models").map((found) => found.folder))].sort();
      folder.replaceChildren(
        h("option", { value: "", textContent: "All folders" }),
        ...names.map((name) => h("option", { value: name, textContent: name })),
      );
      folder.value = names.includes(chosen) ? chosen : "";
    }

    function draw() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const read = COLUMNS.find(([key]) => key === order.key)[2];
      const sign = order.down ? -1 : 1;
      const all = model.get("models");
      const found = all
        .filter((entry) => !folder.value || entry.folder === folder.value)
        .filter((entry) => {
          const text = `${entry.folder}/${entry.name}`.toLowerCase();
          return words.every((word) => text.includes(word));
        })
        .sort((a, b) => sign * (read(a) < read(b) ? -1 : read(a) > read(b) ? 1 : 0));
      body.replaceChildren(...found.slice(0, SHOWN).map(line));
      for (const cell of head.querySelectorAll("th[data-key]")) {
        const own = cell.dataset.key === order.key;
        cell.setAttribute("aria-sort", own ? (order.down ? "descending" : "ascending") : "none");
      }
      scroller.hidden = found.length === 0;
      const size = found.reduce((sum, entry) => sum + (entry.size ?? 0), 0);
      const more = found.length > SHOWN ? `, the first ${SHOWN} are shown` : "";
      const many = `${found.length} model${found.length === 1 ? "" : "s"}, ${human(size)}${more}`;
      const none = all.length === 0 ? "ComfyUI has no models yet" : "No model fits the search";
      count.textContent = !model.get("loaded") ? "Asking ComfyUI …" : found.length ? many : none;
    }

    function line(entry) {
      const changed = entry.modified == null ? "" : new Date(1000 * entry.modified);
      const when = h("td", { textContent: changed && changed.toLocaleDateString() });
      when.title = changed && changed.toLocaleString();
      const name = h("td", { textContent: entry.name, className: "comfydeploy-name" });
      return h(
        "tr",
        {},
        name,
        h("td", { textContent: entry.folder }),
        h("td", { textContent: entry.size == null ? "" : human(entry.size) }),
        when,
        h("td", {}, hashOf(entry)),
      );
    }

    function hashOf(entry) {
      const key = `${entry.folder}/${entry.name}`;
      const known = model.get("hashes")[key];
      if (known && known !== READING) {
        const copy = button(`${known.slice(0, 10)}… copy`, () => copyText(known, copy));
        copy.title = known;
        copy.setAttribute("aria-label", `Copy the hash of ${entry.name}`);
        return copy;
      }
      const text = known === READING ? "Reading …" : "Compute";
      const compute = button(text, () => model.send({ type: "hash", key }));
      compute.disabled = known === READING;
      compute.setAttribute("aria-label", `Compute the hash of ${entry.name}`);
      return compute;
    }

    function news() {
      fillFolders();
      draw();
    }
    search.addEventListener("input", draw);
    folder.addEventListener("change", draw);
    const events = "change:models change:loaded change:hashes";
    model.on(events, news);
    news();
    return () => model.off(events, news);
  },
};
