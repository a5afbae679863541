// The outputs of one run: pictures, videos, sounds, texts, files; its seeds and its timings.

const SIDE = 384; // pixels of a small copy
const LARGEST_COPY = 1024; // what is shown of a picture that browsers cannot show
const ICONS = { image: "picture-o", hdr: "picture-o", video: "film", audio: "music", "3d": "cube", file: "file-o" };

const STEPS = {
  ArrowLeft: -1,
  ArrowDown: -1,
  ArrowRight: 1,
  ArrowUp: 1,
  PageDown: -10,
  PageUp: 10,
  Home: -100,
  End: 100,
};

// What is not seen, or makes a name read otherwise than it is.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The name of a file as it may be shown. */
function nameOf(item) {
  return item.name.replace(UNSEEN, "\ufffd");
}

function render({ model, el }) {
  prepare(el, "gallery");
  const events = listener(model);
  let files = new Files(model, events);
  let seen = whenSeen();
  const box = h("dialog", { className: "cd-lightbox", "aria-label": "Picture in full size" });
  const content = h("div");
  el.append(content, box);

  const download = (item, text = nameOf(item)) =>
    h(
      "a",
      {
        href: "#",
        className: "cd-download",
        title: `Download ${nameOf(item)}`,
        onclick: async (event) => {
          event.preventDefault();
          const url = await files.url(item.query);
          // A download says no more of its page than a script of another user's would.
          const xsrf = url.startsWith("blob:") ? null : pageHeaders()["X-XSRFToken"];
          const href = xsrf ? `${url}&_xsrf=${encodeURIComponent(xsrf)}` : url;
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
        const image = h("img", { alt: nameOf(item) });
        const button = h(
          "button",
          {
            type: "button",
            className: "cd-picture-button",
            title: nameOf(item),
            "aria-label": `${nameOf(item)}: show in full size`,
            onclick: () => enlarge(items, index, button),
          },
          image,
        );
        const failed = () => button.replaceWith(tile(item));
        const side = items.length === 1 ? 2 * SIDE : SIDE;
        seen.watch(button, () => files.show(image, item.query, item.small === false ? 0 : side, failed));
        return button;
      }),
    );

  /** A file that is not shown: what it is called, how large it is, and its download. */
  const tile = (item) => {
    const size = h("span", { className: "cd-faint" });
    const root = h(
      "div",
      { className: "cd-tile", title: nameOf(item) },
      h("i", { className: `fa fa-${ICONS[item.kind] ?? ICONS.file}`, "aria-hidden": "true" }),
      h("span", { className: "cd-cut cd-grow" }, nameOf(item)),
      size,
      download(item, ""),
    );
    seen.watch(root, async () => {
      try {
        const bytes = await files.size(item.query);
        size.textContent = bytes < 0 ? "" : human(bytes);
      } catch {
        size.textContent = "gone";
      }
    });
    return root;
  };

  /** Two pictures, one over the other: a slider says how much of each is seen. */
  const comparison = ([before, after]) => {
    const [below, above] = [after, before].map((item) => h("img", { alt: nameOf(item) }));
    const slider = h("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 50,
      title: "Before and after",
      "aria-label": `Compare ${nameOf(before)} with ${nameOf(after)}`,
    });
    const move = () => {
      root.style.setProperty("--cd-cut", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `${slider.value} % before`);
    };
    slider.addEventListener("input", move);
    // JupyterLab keeps browsers from doing what arrow keys do in a slider.
    slider.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      event.stopPropagation();
      slider.value = Number(slider.value) + STEPS[event.key];
      move();
    });
    const root = h(
      "div",
      { className: "cd-compare" },
      h(
        "div",
        { className: "cd-stack" },
        below,
        above,
        h("span", { className: "cd-tag" }, "before"),
        h("span", { className: "cd-tag cd-after" }, "after"),
        slider,
      ),
      h("div", { className: "cd-line" }, download(before), download(after)),
    );
    move();
    const failed = () => root.replaceChildren(tile(before), tile(after));
    seen.watch(root, () => {
      files.show(below, after.query, LARGEST_COPY, failed);
      files.show(above, before.query, LARGEST_COPY, failed);
    });
    return root;
  };

  const enlarge = (items, start, opener) => {
    let index = start;
    const image = h("img");
    const name = h("span", { className: "cd-grow cd-cut" });
    const line = h("div", { className: "cd-line" });
    const show = (step) => {
      index = (index + step + items.length) % items.length;
      const item = items[index];
      image.removeAttribute("src");
      image.alt = nameOf(item);
      name.textContent =
        items.length > 1 ? `${nameOf(item)}  (${index + 1} of ${items.length})` : nameOf(item);
      const side = item.kind === "hdr" ? LARGEST_COPY : 0;
      files.show(image, item.query, side, () => (image.alt = `${nameOf(item)} cannot be had any more`));
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
    const player = h(item.kind, { controls: true, preload: "metadata", title: nameOf(item) });
    player.setAttribute("aria-label", nameOf(item));
    const figure = h("figure", {}, player, h("figcaption", {}, download(item)));
    seen.watch(player, () => files.show(player, item.query, 0, () => figure.replaceChildren(tile(item))));
    return figure;
  };

  /** A text; a long one is folded, and put into the page when it is first looked at. */
  const text = ({ text: words, beginning, node }) => {
    const whole = h("pre", { tabIndex: 0 });
    const head = h("figcaption", {}, node);
    if (beginning === words) {
      whole.textContent = words;
      return h("figure", {}, head, whole);
    }
    const some = h("pre", {}, `${beginning} …`);
    const details = h(
      "details",
      {},
      h("summary", {}, `All ${words.length.toLocaleString()} characters`),
      whole,
    );
    details.addEventListener("toggle", () => {
      whole.textContent = details.open ? words : "";
      some.hidden = details.open;
    });
    return h("figure", {}, head, some, details);
  };

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

  /** What nodes have made: that which is shown at once, or that which waits. */
  const outputs = ({ items, pairs, texts }, waits) => {
    const compared = new Set(pairs.flat());
    const mine = items.filter((item, place) => item.waits === waits && !compared.has(place));
    const of = (...kinds) => mine.filter((item) => kinds.includes(item.kind));
    const parts = pairs
      .filter(([before]) => items[before].waits === waits)
      .map((pair) => comparison(pair.map((place) => items[place])));
    if (of("image", "hdr").length) parts.push(pictures(of("image", "hdr")));
    const players = of("video", "audio");
    if (players.length) parts.push(h("div", { className: "cd-players" }, players.map(media)));
    parts.push(...texts.filter((each) => each.waits === waits).map(text));
    const others = of("3d", "file");
    if (others.length) parts.push(h("div", { className: "cd-tiles" }, others.map(tile)));
    return parts;
  };

  const show = () => {
    const result = model.get("result");
    seen.end();
    seen = whenSeen();
    if (box.open) box.close();
    el.hidden = !result.prompt_id;
    if (el.hidden) return content.replaceChildren();
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
    parts.push(...outputs(result, false));
    const waiting = [...result.items, ...result.texts].filter((each) => each.waits).length;
    if (waiting) {
      const details = h("details", { className: "cd-rest" }, h("summary", {}, `Other outputs (${waiting})`));
      details.addEventListener("toggle", () => {
        if (details.children.length === 1) details.append(...outputs(result, true));
      });
      parts.push(details);
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
