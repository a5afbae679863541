/** A button that copies the trait `text`. */

import { copyText } from "../clipboard.ts";
import { h, setUpRoot } from "../dom.ts";
import { type Context, Subscriptions } from "../model.ts";

function render({ model, el }: Context<{ text: string; label: string }>) {
  setUpRoot(el, "button");
  const events = new Subscriptions(model);
  const button = h("button", {
    type: "button",
    className: "cd-button",
    "aria-live": "polite",
    onclick: () => copyText(model.get("text"), button, show),
  });
  const show = () => {
    button.textContent = model.get("label");
    button.title = model.get("text");
  };
  show();
  events.on("change:text change:label", show);
  el.append(button);
  return () => events.end();
}

export default { render };
