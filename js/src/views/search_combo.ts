/** A combo box with a label. */

import { comboBox, type Option } from "../combo_box.ts";
import { h, newId, setUpRoot } from "../dom.ts";
import { type Context, Subscriptions } from "../model.ts";

type Traits = {
  description: string;
  /** Each a text, or a text, a value and perhaps a note. */
  options: (string | [text: string, value: unknown, note?: string])[];
  value: unknown;
  placeholder: string;
  free: boolean;
};

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "search");
  const events = new Subscriptions(model);
  const id = newId();
  const options = (): Option[] =>
    model.get("options").map((option) => {
      const [text, value, note] = Array.isArray(option) ? option : [option, option];
      return { text, value, note };
    });
  const combo = comboBox({
    id,
    label: model.get("description"),
    value: model.get("value"),
    options: options(),
    free: model.get("free"),
    hint: model.get("placeholder"),
    choose: (value) => {
      model.set("value", value);
      model.save_changes();
    },
  });
  el.append(h("label", { htmlFor: id }, model.get("description")), combo.root);
  events.on("change:options change:value", () => combo.setOptions(options(), model.get("value")));
  events.on("change:placeholder", () => {
    combo.input.placeholder = model.get("placeholder");
  });
  return () => {
    combo.end();
    events.end();
  };
}

export default { render };
