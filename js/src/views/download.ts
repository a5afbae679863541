/** A button that requests a file from the kernel; the browser saves it. */

import { textButton } from "../dom.ts";
import { type Buffers, type Context, Subscriptions } from "../model.ts";
import { saveFile } from "../save_file.ts";

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
    saveFile(message.name, message.mime, buffers);
  });
  el.append(button);
  return () => events.end();
}

export default { render };
