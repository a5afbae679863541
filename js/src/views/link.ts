/**
 * The link of a tunnel, a button that copies it, and its QR code for the camera of a phone.
 *
 * The link may contain a secret. So it arrives in a message, which no notebook stores, and the code
 * is folded; the trait `url` is the address without the secret.
 */

import { renderSVG } from "uqr";
import { copyText } from "../clipboard.ts";
import { h, setUpRoot } from "../dom.ts";
import { type Context, Subscriptions } from "../model.ts";

const COPY = "Copy link";
const LONGEST = 1000; // bytes; cameras often cannot read larger codes

function render({ model, el }: Context<{ url: string }>) {
  setUpRoot(el, "link");
  const events = new Subscriptions(model);
  let address = "";
  const link = h("a", { target: "_blank", rel: "noopener noreferrer" });
  const copy = h(
    "button",
    {
      type: "button",
      className: "cd-button",
      "aria-live": "polite",
      onclick: () => copyText(address, copy, () => copy.replaceChildren(COPY)),
    },
    COPY,
  );
  const picture = h("img", { alt: "QR code of the link" });
  const details = h("details", {}, h("summary", {}, "QR code"), picture);
  el.append(h("div", { className: "cd-line" }, link, copy), details);
  const draw = () => {
    if (!details.open) return;
    // The quiet zone around a code is four modules wide; white, also in a dark theme.
    const svg = renderSVG(address, { border: 4, ecc: "M" });
    picture.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  };
  const show = () => {
    const url = model.get("url");
    el.hidden = !url;
    link.textContent = url;
    link.href = address || url;
    copy.disabled = !address;
    copy.title = address;
    details.hidden = !address || new TextEncoder().encode(address).length > LONGEST;
    if (details.hidden) details.open = false;
    draw();
  };
  details.addEventListener("toggle", draw);
  events.on("change:url", show);
  events.on("msg:custom", (message: { address: string }) => {
    address = message.address;
    show();
  });
  show();
  model.send({ kind: "address" });
  return () => events.end();
}

export default { render };
