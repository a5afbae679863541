/** A button that requests a file from the kernel; the browser saves it. */

import { h, textButton } from "../dom.ts";
import { type Buffers, type Context, Subscriptions } from "../model.ts";

const KEPT_FOR = 60_000; // ms in which the browser must begin to save the file

type Message = { type: string; name: string; mime: string };

function render({ model, el }: Context<{ label: string }>) {
  const events = new Subscriptions(model);
  const button = textButton(model.get("label"), () => {
    button.disabled = true;
    model.send({ type: "wanted" });
  });
  Object.assign(button.style, { width: "auto", margin: "0" });
  events.on("msg:custom", (message: Message, buffers: Buffers) => {
    button.disabled = false;
    if (message.type !== "file") return;
    const url = URL.createObjectURL(new Blob(buffers, { type: message.mime }));
    h("a", { href: url, download: message.name }).click();
    setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR);
  });
  el.append(button);
  return () => events.end();
}

export default { render };
