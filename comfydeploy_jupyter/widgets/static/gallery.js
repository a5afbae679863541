// The outputs of one run: pictures, videos, sounds, texts, files; its seeds and its timings.

const SIDE = 384; // pixels of a small copy

function render({ model, el }) {
  prepare(el, "gallery");
  const events = listener(model);
  let files = new Files(model, events);
  let seen = whenSeen();
  const box = h("dialog", { className: "cd-lightbox", "aria-label": "Picture in full size" });
  const content = h("div");
  el.append(content, box);

  const download = (item, text = item.name) =>
    h(
      "a",
      {
        href: "#",
        className: "cd-download",
        title: `Download ${item.name}`,
        onclick: async (event) => {
          event.preventDefault();
          const href = await files.url(item.query);
          h("a", { href, download: item.name }).click();
        },
      },
      h("i", { className: "fa fa-download", "aria-hidden": "true" }),
      text ? ` ${text}` : "",
    );

  // -- pictures ------------------------------------------------------------------------------

  const pictures = (items) =>
    h(
      "div",
      { className: `cd-pictures${items.length === 1 ? " cd-single" : ""}` },
      items.map((item, index) => {
        const image = h("img", { alt: item.name });
        const button = h(
          "button",
          {
            type: "button",
            className: "cd-picture-button",
            title: item.name,
            "aria-label": `${item.name}: show in full size`,
            onclick: () => enlarge(items, index, button),
          },
          image,
        );
        const failed = () => button.replaceChildren(h("span", { className: "cd-faint" }, item.name));
        const side = items.length === 1 ? 2 * SIDE : SIDE;
        seen.watch(button, () => {
          if (item.small === false) files.show(image, item.query, 0, failed);
          else files.show(image, item.query, side, failed);
        });
        return button;
      }),
    );

  const enlarge = (items, start, opener) => {
    let index = start;
    const image = h("img");
    const name = h("span", { className: "cd-grow cd-cut" });
    const line = h("div", { className: "cd-line" });
    const show = (step) => {
      index = (index + step + items.length) % items.length;
      const item = items[index];
      image.removeAttribute("src");
      image.alt = item.name;
      name.textContent =
        items.length > 1 ? `${item.name}  (${index + 1} of ${items.length})` : item.name;
      files.show(image, item.query, 0, () => (image.alt = `${item.name} cannot be had any more`));
      line.replaceChildren(name, ...turn, download(item, "Download"), close);
    };
    const turn =
      items.length > 1
        ? [
            iconButton("chevron-left", "Previous picture", () => show(-1)),
            iconButton("chevron-right", "Next picture", () => show(1)),
          ]
        : [];
    const close = iconButton("times", "Close", () => box.close());
    box.onkeydown = (event) => {
      if (event.key === "ArrowLeft") show(-1);
      if (event.key === "ArrowRight") show(1);
      event.stopPropagation();
    };
    box.onclick = (event) => event.target === box && box.close();
    box.onclose = () => opener.focus();
    box.replaceChildren(line, h("div", { className: "cd-full" }, image));
    box.showModal();
    show(0);
  };

  // -- the rest ------------------------------------------------------------------------------

  const media = (item) => {
    const player = h(item.kind, { controls: true, preload: "metadata", title: item.name });
    player.setAttribute("aria-label", item.name);
    seen.watch(player, () => files.show(player, item.query));
    return h("figure", {}, player, h("figcaption", {}, download(item)));
  };

  const text = ({ text: words, node }) =>
    h("figure", {}, h("figcaption", {}, node), h("pre", { tabIndex: 0 }, words));

  const timings = (times) => {
    const longest = Math.max(...times.map((each) => each.seconds), 1e-9);
    return h(
      "details",
      { className: "cd-timings" },
      h("summary", {}, "Node timings"),
      h(
        "table",
        { className: "cd-chart" },
        h("caption", { className: "cd-unseen" }, "How long each node took"),
        h(
          "tbody",
          {},
          times.map((each) => {
            const fill = h("div", { className: "cd-fill" });
            fill.style.width = `${Math.max(0.5, (100 * each.seconds) / longest)}%`;
            return h(
              "tr",
              {},
              h("th", { scope: "row", title: each.title }, each.label),
              h("td", {}, fill),
              h("td", { className: "cd-number" }, `${each.seconds.toFixed(2)} s`),
            );
          }),
        ),
      ),
    );
  };

  const show = () => {
    const result = model.get("result");
    seen.end();
    seen = whenSeen();
    if (box.open) box.close();
    el.hidden = !result.prompt_id;
    if (el.hidden) return content.replaceChildren();
    const of = (kind) => result.items.filter((item) => item.kind === kind);
    const seeds = result.seeds.length
      ? [h("span", {}, `seed ${result.seeds.join(", ")}`)]
      : [];
    const head = h(
      "div",
      { className: "cd-line cd-head" },
      h("b", { className: `cd-status cd-${result.status}` }, result.title),
      ...result.facts.map((fact) => h("span", {}, fact)),
      ...seeds,
      h("span", { className: "cd-grow" }),
      result.reusable
        ? h(
            "button",
            {
              type: "button",
              className: "cd-button",
              title: "Put the values of this run, its seeds too, into the form",
              onclick: () => model.send({ kind: "reuse", prompt_id: result.prompt_id }),
            },
            h("i", { className: "fa fa-reply", "aria-hidden": "true" }),
            " Use these values again",
          )
        : null,
    );
    const parts = [head];
    for (const problem of result.problems) {
      parts.push(h("div", { className: "comfydeploy-error", role: "alert" }, problem));
    }
    if (of("image").length) parts.push(pictures(of("image")));
    const players = [...of("video"), ...of("audio")];
    if (players.length) parts.push(h("div", { className: "cd-players" }, players.map(media)));
    parts.push(...result.texts.map(text));
    if (of("file").length) {
      parts.push(h("ul", { className: "cd-files" }, of("file").map((item) => h("li", {}, download(item)))));
    }
    if (result.times.length) parts.push(timings(result.times));
    content.replaceChildren(...parts);
  };

  events.on("change:result", show);
  show();
  return () => {
    seen.end();
    events.end();
    files.end();
  };
}

export default { render };
