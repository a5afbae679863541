/** A button with a text, an icon or both; one with an icon only has a name for screen readers. */

import { h, icon, setAttribute, setUpRoot } from "../dom.ts";
import { type Context, Subscriptions } from "../model.ts";

type Traits = {
  description: string;
  icon: string;
  hint: string;
  button_style: string;
  disabled: boolean;
};

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "button");
  const events = new Subscriptions(model);
  const button = h("button", { type: "button", onclick: () => model.send({ kind: "click" }) });
  const show = () => {
    const [label, iconName, style] = [
      model.get("description"),
      model.get("icon"),
      model.get("button_style"),
    ];
    button.className = label ? `cd-button ${style ? `cd-${style}` : ""}` : "cd-icon";
    button.disabled = model.get("disabled");
    button.title = model.get("hint");
    setAttribute(button, "aria-label", label ? null : model.get("hint"));
    button.replaceChildren();
    if (iconName) button.append(icon(iconName));
    if (label) button.append(iconName ? ` ${label}` : label);
  };
  events.on("change:description change:icon change:hint change:button_style change:disabled", show);
  show();
  el.append(button);
  return () => events.end();
}

export default { render };
