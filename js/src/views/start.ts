/** Shown by a panel without a workflow: buttons for a file, a stored workflow, or an example. */

import { h, icon, setUpRoot } from "../dom.ts";
import { type Context, Subscriptions } from "../model.ts";

type Traits = { files: string[]; stored: string[]; examples: string[]; shown: boolean };

function render({ model, el }: Context<Traits>) {
  setUpRoot(el, "start");
  const events = new Subscriptions(model);

  const choice = (iconName: string, text: string, onclick: () => void) =>
    h(
      "button",
      { type: "button", className: "cd-button cd-choice", title: text, onclick },
      icon(iconName),
      h("span", { className: "cd-cut" }, text),
    );
  const card = (title: string, text: string, choices: HTMLElement[]) =>
    h(
      "section",
      { className: "cd-card", "aria-label": title },
      h("div", { className: "cd-heading" }, title),
      h("p", { className: "cd-faint" }, text),
      choices,
    );
  const pick = (iconName: string) => (title: string) =>
    choice(iconName, title, () => model.send({ kind: "pick", title }));
  /** Act like the button *Open* above. */
  const open = () => {
    const panel = el.closest(".comfydeploy-panel");
    panel?.querySelector<HTMLButtonElement>(".comfydeploy-file button")?.click();
  };

  const show = () => {
    el.hidden = !model.get("shown");
    const [files, stored, examples] = [
      model.get("files"),
      model.get("stored"),
      model.get("examples"),
    ];
    el.replaceChildren(
      card("A file", "A workflow, or a picture, video or sound that ComfyUI made.", [
        ...files.map(pick("file-o")),
        choice("upload", "Open a file of this computer …", open),
      ]),
      card(
        "A stored workflow",
        stored.length
          ? "Changed last:"
          : "There is none yet. Use WorkflowPanel to store workflows.",
        stored.map(pick("bookmark-o")),
      ),
      card(
        "An example",
        examples.length
          ? "These workflows can run on this ComfyUI."
          : "ComfyUI does not answer yet.",
        examples.map((title) =>
          choice("play", title, () => model.send({ kind: "example", title })),
        ),
      ),
    );
  };
  events.on("change:files change:stored change:examples change:shown", show);
  show();
  return () => events.end();
}

export default { render };
