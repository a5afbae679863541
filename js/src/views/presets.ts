/** The presets of a workflow: choose one, save the present values under a name, delete one. */

import { comboBox } from "../combo_box.ts";
import { h, icon, iconButton, newId, setText, setUpRoot } from "../dom.ts";
import { unconfirmedIn } from "../form/unconfirmed.ts";
import { type Context, Subscriptions } from "../model.ts";

type Traits = {
  names: string[];
  chosen: string;
  shown: boolean;
  stored: boolean;
  message: { text?: string; kind?: "" | "problem" | "conflict" };
};

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "presets");
  const events = new Subscriptions(model);
  const id = newId();
  let name = model.get("chosen");

  const options = () => model.get("names").map((each) => ({ value: each, text: each }));
  const combo = comboBox({
    id,
    label: "Preset",
    value: name,
    options: options(),
    free: true,
    hint: "Choose or name",
    choose: (value) => take(value),
    // Leaving the field does not replace the values of the form: the user may be about to save.
    picked: (value) => {
      take(value);
      if (model.get("names").includes(name)) model.send({ kind: "use", name });
    },
  });
  const take = (value: unknown) => {
    name = String(value ?? "").trim();
    showButtons();
  };
  combo.input.maxLength = 255;
  combo.input.addEventListener("input", () => take(combo.input.value));
  combo.input.addEventListener("focus", () => model.send({ kind: "refresh" }));

  const saveValues = () => model.send({ kind: "save", name, typed: unconfirmedIn(el) });
  const save = h(
    "button",
    { type: "button", className: "cd-button", onclick: saveValues },
    icon("bookmark-o"),
    " Save",
  );
  const remove = iconButton("trash-o", "Delete this preset", () =>
    model.send({ kind: "delete", name }),
  );
  const text = h("span", { className: "cd-grow" });
  const useTheirs = h(
    "button",
    { type: "button", className: "cd-button", onclick: () => model.send({ kind: "use", name }) },
    "Use the other values",
  );
  const replace = h(
    "button",
    { type: "button", className: "cd-button", onclick: saveValues },
    "Replace them with mine",
  );
  const message = h(
    "div",
    { className: "cd-line cd-message", role: "status", "aria-live": "polite" },
    text,
    useTheirs,
    replace,
  );
  el.append(
    h("label", { htmlFor: id }, "Preset"),
    h(
      "div",
      { className: "cd-line" },
      h("div", { className: "cd-grow" }, combo.root),
      save,
      remove,
    ),
    message,
  );

  const showButtons = () => {
    save.disabled = !name;
    save.title = model.get("stored")
      ? "Save the present values under this name"
      : "Save the present values under this name; this also stores the workflow on the server";
    remove.disabled = !model.get("names").includes(name);
  };
  const showMessage = () => {
    const { text: words = "", kind = "" } = model.get("message");
    setText(text, words);
    message.classList.toggle("cd-problem", kind !== "");
    message.classList.toggle("cd-faint", kind === "");
    useTheirs.hidden = replace.hidden = kind !== "conflict";
  };
  const show = () => {
    el.hidden = !model.get("shown");
    showButtons();
    showMessage();
  };
  events.on("change:names", () => {
    // A text that the user is typing stays.
    if (document.activeElement !== combo.input) combo.setOptions(options(), name);
    else combo.setOptions(options(), combo.input.value);
    showButtons();
  });
  events.on("change:chosen", () => {
    name = model.get("chosen");
    combo.set(name);
    showButtons();
  });
  events.on("change:shown change:stored", show);
  events.on("change:message", showMessage);
  show();
  return () => {
    combo.end();
    events.end();
  };
}

export default { render };
