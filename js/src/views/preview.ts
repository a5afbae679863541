/** The preview of the run that is executed, which replaces the last result. */

import { h, setUpRoot } from "../dom.ts";
import { type Buffers, type Context, Subscriptions } from "../model.ts";

function render({ model, el }: Context<{ shown: boolean }>) {
  setUpRoot(el, "preview");
  el.hidden = true;
  const events = new Subscriptions(model);
  const image = h("img", { alt: "Preview of the sampler" });
  el.append(image);
  let url = "";

  const remove = () => {
    el.hidden = true;
    image.removeAttribute("src");
    if (url) URL.revokeObjectURL(url);
    url = "";
  };
  events.on("change:shown", () => {
    if (!model.get("shown")) remove();
  });
  events.on("msg:custom", (message: { kind: string; mime: string }, buffers: Buffers) => {
    if (message.kind !== "preview" || !model.get("shown")) return;
    const old = url;
    url = URL.createObjectURL(new Blob(buffers, { type: message.mime }));
    image.src = url;
    el.hidden = false;
    if (old) URL.revokeObjectURL(old);
  });
  // The kernel replies with the last preview, so that a page that was reloaded shows it, too.
  model.send({ kind: "hello" });
  return () => {
    events.end();
    remove();
  };
}

export default { render };
