/** The trait `text` as a QR code, for the camera of a phone; folded, because it may be a secret. */

import { renderSVG } from "uqr";
import { h, setUpRoot } from "../dom.ts";
import { type Context, Subscriptions } from "../model.ts";

const LONGEST = 1000; // bytes; cameras often cannot read larger codes

function render({ model, el }: Context<{ text: string }>) {
  setUpRoot(el, "qr");
  const events = new Subscriptions(model);
  const picture = h("img", { alt: "QR code of the link" });
  const details = h("details", {}, h("summary", {}, "QR code"), picture);
  el.append(details);
  const draw = () => {
    if (!details.open) return;
    // The quiet zone around a code is four modules wide; white, also in a dark theme.
    const svg = renderSVG(model.get("text"), { border: 4, ecc: "M" });
    picture.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  };
  const show = () => {
    const { length } = new TextEncoder().encode(model.get("text"));
    el.hidden = !length || length > LONGEST;
    if (el.hidden) details.open = false;
    draw();
  };
  details.addEventListener("toggle", draw);
  events.on("change:text", show);
  show();
  return () => events.end();
}

export default { render };
