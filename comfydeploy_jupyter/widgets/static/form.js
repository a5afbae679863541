// The form of a workflow's inputs.

// The kinds of input that take a file: what it is called, what the dialog offers, what shows it.
const MEDIA = {
  image: { word: "picture", accept: "image/*,.exr,.hdr", tag: "img", ready: "load" },
  video: {
    word: "video",
    accept: "video/*,.mkv,image/gif,image/webp",
    tag: "video",
    ready: "loadedmetadata",
  },
  audio: { word: "sound", accept: "audio/*,video/*,.opus", tag: "audio", ready: "loadedmetadata" },
};

/** Show fields by their kind; each control tells `changed(text or boolean)`. */
function render({ model, el }) {
  prepare(el, "form");
  const events = listener(model);
  const files = new Files(model, events);
  const rows = new Map();

  // Values go to the kernel as messages, in order with the clicks of other parts of the panel:
  // changes of a model's state may be held back and arrive after them.
  const put = (values) => model.set("values", { ...model.get("values"), ...values });
  const typed = new Map(); // what the kernel has not confirmed yet, by message
  const tell = (key, value) => {
    const entry = rows.get(key);
    if (entry) entry.shown = value;
    const id = newId();
    typed.set(id, { [key]: value });
    put({ [key]: value });
    model.send({ kind: "typed", id, values: { [key]: value } });
  };
  const control = (field, id, hintId) => {
    const value = model.get("values")[field.key];
    const common = { id, "aria-describedby": hintId };
    const change = (event) => tell(field.key, event.target.value);
    if (field.kind === "bool") {
      const box = h("input", {
        ...common,
        type: "checkbox",
        checked: Boolean(value),
        onchange: () => tell(field.key, box.checked),
      });
      return { root: box, set: (now) => (box.checked = Boolean(now)) };
    }
    if (field.kind === "multiline") {
      const area = h("textarea", { ...common, rows: 3, value, oninput: change });
      return { root: area, set: (now) => (area.value = now) };
    }
    if (field.kind in MEDIA) return media(field, id, hintId, value);
    if (field.options) return choice(field, id, hintId, value);
    if (field.kind === "color") {
      const picker = h("input", {
        type: "color",
        value,
        "aria-label": `${field.label}: pick a colour`,
        oninput: () => {
          text.value = picker.value;
          tell(field.key, picker.value);
        },
      });
      const text = h("input", {
        ...common,
        type: "text",
        value,
        spellcheck: false,
        className: "cd-short",
        oninput: () => {
          if (/^#[0-9a-f]{6}$/i.test(text.value)) picker.value = text.value;
          tell(field.key, text.value);
        },
      });
      const set = (now) => ([picker.value, text.value] = [now, now]);
      return { root: h("div", { className: "cd-line" }, picker, text), set };
    }
    if (field.kind === "seed") return seed(field, common, value, change);
    const number = field.kind === "int" || field.kind === "float";
    const input = h("input", {
      ...common,
      type: number ? "number" : "text",
      className: number ? "cd-short" : "",
      value,
      min: number ? field.min : undefined,
      max: number ? field.max : undefined,
      step: number ? field.step || "any" : undefined,
      oninput: change,
    });
    return { root: input, set: (now) => (input.value = now) };
  };

  const choice = (field, id, hintId, value) => {
    const all = field.options.includes(value) ? field.options : [value, ...field.options];
    if (all.length > 10) {
      const combo = searchCombo({
        id,
        label: field.label,
        value,
        options: all.map((each) => ({ value: each, text: String(each) })),
        describedby: hintId,
        choose: (now) => tell(field.key, now),
      });
      return combo;
    }
    const select = h(
      "select",
      {
        id,
        "aria-describedby": hintId,
        onchange: () => tell(field.key, all[select.selectedIndex]),
      },
      all.map((each) => h("option", {}, String(each))),
    );
    const set = (now) => {
      if (!all.includes(now)) {
        all.push(now);
        select.append(h("option", {}, String(now)));
      }
      select.selectedIndex = all.indexOf(now);
    };
    set(value);
    return { root: select, set };
  };

  const seed = (field, common, value, change) => {
    const input = h("input", {
      ...common,
      type: "text",
      inputMode: "numeric",
      className: "cd-short",
      spellcheck: false,
      value,
      oninput: change,
    });
    const dice = iconButton("random", `${field.label}: draw a number`, () =>
      model.send({ kind: "draw", key: field.key }),
    );
    const locked = () => model.get("locked").includes(field.key);
    const lock = iconButton("lock", "", () => {
      const others = model.get("locked").filter((key) => key !== field.key);
      const now = !locked();
      model.set("locked", now ? [...others, field.key] : others);
      model.send({ kind: "lock", key: field.key, locked: now });
    });
    const state = h("span", { className: "cd-faint" });
    const show = () => {
      lock.firstChild.className = `fa fa-${locked() ? "lock" : "unlock-alt"}`;
      lock.setAttribute("aria-pressed", String(locked()));
      const name = `${field.label}: keep for every run`;
      lock.title = name;
      lock.setAttribute("aria-label", name);
      state.textContent = locked() ? "kept" : "new for each run";
    };
    show();
    events.on("change:locked", show);
    const root = h("div", { className: "cd-line" }, input, dice, lock, state);
    return { root, set: (now) => (input.value = now) };
  };

  const media = (field, id, hintId, value) => {
    const { word, accept, tag, ready } = MEDIA[field.kind];
    const isPicture = tag === "img";
    const shown = isPicture
      ? h("img", { alt: "" })
      : h(tag, { controls: true, preload: "metadata" });
    const frame = h("div", { className: `cd-frame cd-${tag}` }, shown);
    shown.addEventListener(ready, () => frame.classList.add("cd-there"));
    const state = h("span", { className: "cd-faint", role: "status" });
    let wanted = null;
    const look = async (name) => {
      wanted = name;
      frame.classList.remove("cd-there");
      shown.removeAttribute("src");
      if (!isPicture) shown.load();
      if (!name || /^[a-z]+:/i.test(name)) return;
      // A film does not go through the kernel for a look alone.
      if (!isPicture && (await pageServer(model.get("server"))) === null) return;
      if (wanted !== name) return;
      const label = `${field.label}: ${name}`;
      if (isPicture) shown.alt = label;
      else shown.setAttribute("aria-label", label);
      const found = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(name);
      const cut = found[1].lastIndexOf("/");
      const query = new URLSearchParams({
        filename: found[1].slice(cut + 1),
        subfolder: cut < 0 ? "" : found[1].slice(0, cut),
        type: found[2] || "input",
      });
      const machine = model.get("machine");
      if (machine) query.set("machine", machine);
      files.show(shown, query.toString(), isPicture ? 128 : 0);
    };
    const names = () => {
      const listed = rowsOf(field.key).options ?? [];
      return listed.map((each) => ({ value: each, text: String(each) }));
    };
    const combo = searchCombo({
      id,
      label: field.label,
      value,
      options: names(),
      free: true,
      hint: "a file of ComfyUI's input folder, or an address",
      describedby: hintId,
      choose: (now) => {
        refuse("");
        tell(field.key, now);
        look(now);
      },
    });
    const send = async (file) => {
      if (!isAccepted(file, accept)) {
        const workflow = /\.json$/i.test(file.name)
          ? "; to open it as a workflow, drop it beside the inputs or use Open"
          : "";
        return refuse(`${file.name} is no ${word}${workflow}`);
      }
      refuse("");
      state.textContent = `Sending ${file.name} …`;
      const base = await pageServer(model.get("server"));
      if (base === null) return sendFile(model, file, { key: field.key });
      const place = { type: "input", subfolder: "", overwrite: false, machine: model.get("machine") };
      const tell = (fraction) => {
        const stage = fraction < 1 ? `${Math.floor(100 * fraction)} %` : "being stored …";
        state.textContent = `Sending ${file.name}: ${stage}`;
      };
      try {
        const { name } = await postFile(base, file, place, tell).done;
        model.send({ kind: "uploaded", key: field.key, name });
      } catch (error) {
        state.textContent = "";
        refuse(`Not uploaded: ${error.message}`);
      }
    };
    const refuse = (text) => {
      rows.get(field.key).refused = text;
      rows.get(field.key).blame();
    };
    const [button, input] = fileButton("Upload", accept, send, {
      title: `Upload a ${word} for ${field.label}, or drop one here`,
      "aria-label": `${field.label}: upload a ${word}`,
    });
    const root = h(
      "div",
      { className: "cd-line cd-picture" },
      frame,
      h("div", { className: "cd-grow" }, combo.root),
      button,
      input,
      state,
    );
    root.addEventListener("dragover", (event) => {
      event.preventDefault();
      root.classList.add("cd-drop");
    });
    root.addEventListener("dragleave", () => root.classList.remove("cd-drop"));
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      root.classList.remove("cd-drop");
      if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    });
    look(value);
    return {
      root,
      end: combo.end,
      set(now) {
        combo.setOptions(names(), now);
        state.textContent = "";
        refuse("");
        look(now);
      },
      fail(problem) {
        state.textContent = "";
        refuse(problem);
      },
    };
  };

  const rowsOf = (key) => model.get("fields").find((field) => field.key === key) ?? {};

  /** The buttons that add an input to a group, and remove the last one. */
  const group = (field) => {
    const change = (icon, label, more, can) =>
      iconButton(icon, `${field.label}: ${label}`, () => model.send({ kind: "grow", key: field.key, more }), {
        disabled: !can,
      });
    return h(
      "div",
      { className: "cd-field cd-group", role: "group", "aria-label": field.label },
      h("span", { className: "cd-label", title: field.label }, field.label),
      h(
        "div",
        { className: "cd-line" },
        change("plus", "add a value", true, field.can_grow),
        change("minus", "remove the last value", false, field.can_shrink),
        h("span", { className: "cd-faint", role: "status" }, field.hint),
      ),
    );
  };

  const row = (field) => {
    if (field.kind === "group") {
      const root = group(field);
      const input = root.querySelector("button");
      const none = () => {};
      rows.set(field.key, { root, input, set: none, mark: none, blame: none });
      return root;
    }
    const id = newId();
    const hintId = newId();
    const made = control(field, id, hintId);
    const back = iconButton("undo", `${field.label}: back to the value of the workflow`, () => {
      made.set(field.original);
      tell(field.key, field.original);
    });
    back.classList.add("cd-back");
    const problem = h("div", {
      id: newId(),
      className: "cd-problem",
      "aria-live": "polite",
      hidden: true,
    });
    const root = h(
      "div",
      { className: `cd-field cd-${field.kind}` },
      h("label", { htmlFor: id, title: field.tooltip || field.label }, field.label),
      h("div", { className: "cd-control" }, made.root, back),
      h("div", { id: hintId, className: "cd-hint" }, field.hint),
      problem,
    );
    const input = root.querySelector(`#${id}`);
    const blame = () => {
      const text = rows.get(field.key)?.refused || (model.get("problems")[field.key] ?? "");
      problem.textContent = text;
      problem.hidden = !text;
      root.classList.toggle("cd-wrong", Boolean(text));
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      input.setAttribute("aria-describedby", text ? `${problem.id} ${hintId}` : hintId);
    };
    blame();
    const mark = () => {
      const changed = model.get("values")[field.key] !== field.original;
      root.classList.toggle("cd-changed", changed);
      back.disabled = !changed;
    };
    rows.set(field.key, { ...made, root, input, mark, blame, shown: model.get("values")[field.key] });
    mark();
    return root;
  };

  const build = () => {
    // What is chosen may change which fields there are: the one that has the focus keeps it.
    const active = document.activeElement;
    const [key] = [...rows].find(([, each]) => each.root.contains(active)) ?? [];
    const place = key && controlsOf(rows.get(key).root).indexOf(active);
    for (const each of rows.values()) each.end?.();
    rows.clear();
    const fields = model.get("fields");
    const plain = fields.filter((field) => !field.more);
    const more = fields.filter((field) => field.more);
    el.replaceChildren(...plain.map(row));
    unfold = () => {};
    if (more.length) el.append(others(more));
    el.append(unseen);
    tellUnseen();
    const again = rows.get(key);
    if (again) (controlsOf(again.root).filter((each) => !each.disabled)[place] ?? again.input).focus();
  };
  const controlsOf = (root) => [...root.querySelectorAll("input, select, textarea, button")];

  /** What code has set and no field shows. */
  const unseen = h("div", { className: "cd-unshown cd-faint" });
  const tellUnseen = () => {
    const set = model.get("others");
    unseen.hidden = !set.length;
    unseen.textContent = `Also set: ${set.map(({ key, value }) => `${key} = ${value}`).join(" · ")}`;
  };
  let unfold = () => {};

  /** The fields that wait: made when they are first looked at. */
  const others = (fields) => {
    const search = h("input", {
      type: "search",
      placeholder: "Find an input",
      "aria-label": "Find an input",
      oninput: () => {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        for (const field of fields) {
          const text = `${field.label} ${field.key}`.toLowerCase();
          rows.get(field.key).root.hidden = !words.every((word) => text.includes(word));
        }
      },
    });
    const details = h(
      "details",
      { className: "cd-others", open: model.get("opened") },
      h("summary", {}, `More inputs (${fields.length})`),
    );
    const open = () => {
      if (!details.open || details.children.length > 1) return;
      const head = fields.length > 8 ? [h("div", { className: "cd-search" }, search)] : [];
      details.append(...head, ...fields.map(row));
    };
    details.addEventListener("toggle", () => {
      open();
      model.set("opened", details.open);
      model.send({ kind: "open", opened: details.open });
    });
    open();
    unfold = () => {
      details.open = true;
      open();
    };
    return details;
  };

  events.on("change:fields", build);
  events.on("change:values", () => {
    // What was typed meanwhile comes to the kernel after what it told.
    const newer = Object.assign({}, ...typed.values());
    const values = model.get("values");
    if (Object.keys(newer).some((key) => key in values && values[key] !== newer[key])) {
      return put(newer);
    }
    for (const [key, each] of rows) {
      const value = model.get("values")[key];
      // A control that shows it already keeps its cursor.
      if (each.shown !== value) each.set(value);
      each.shown = value;
      each.mark();
    }
  });
  events.on("change:problems", () => {
    for (const each of rows.values()) each.blame();
  });
  events.on("change:others", tellUnseen);
  events.on("msg:custom", (message) => {
    if (message.kind === "took") typed.delete(message.id);
    if (message.kind === "focus") {
      if (!rows.has(message.key)) unfold();
      const { root, input } = rows.get(message.key);
      root.hidden = false;
      root.scrollIntoView({ block: "center" });
      input.focus({ preventScroll: true });
    }
    if (message.kind === "problem") rows.get(message.key)?.fail?.(message.text);
  });
  build();
  return () => {
    for (const each of rows.values()) each.end?.();
    events.end();
    files.end();
  };
}

export default { render };
