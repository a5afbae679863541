/** The area beside a picture in full size: its size, seed and prompt, and buttons. */

import { copyText } from "../clipboard.ts";
import { h, icon } from "../dom.ts";
import type { Files } from "../files.ts";
import { formatBytes, formatDuration } from "../format.ts";
import type { Item } from "../gallery/item.ts";
import { folderAddress } from "../server.ts";
import { type EarlierRun, formatTime } from "./run.ts";

/** The data of a picture from the kernel. */
export type Facts = { prompts: string[][]; folder: string; problem?: string };

/** The actions on a picture and its run. */
export type Actions = {
  reuse: (run: EarlierRun) => void;
  use: (run: EarlierRun, item: Item, key: string) => void;
  pin: (run: EarlierRun) => void;
  remove: (run: EarlierRun) => void;
};

function action(iconName: string, text: string, onclick: (event: MouseEvent) => void) {
  return h(
    "button",
    { type: "button", className: "cd-button", onclick },
    icon(iconName),
    ` ${text}`,
  );
}

function copyButton(text: string, label: string): HTMLButtonElement {
  const button = action("clipboard", label, () =>
    copyText(text, button, () => button.replaceChildren(icon("clipboard"), ` ${label}`)),
  );
  return button;
}

/** Browsers can copy pictures to the clipboard only as PNG. */
async function copyPicture(image: HTMLImageElement): Promise<void> {
  const canvas = h("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  canvas.getContext("2d")?.drawImage(image, 0, 0);
  const content = new Promise<Blob>((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png");
  });
  await navigator.clipboard.write([new ClipboardItem({ "image/png": content })]);
}

export class About {
  readonly root = h("div", { className: "cd-about" });
  private readonly size = h("dd");
  private readonly bytes = h("dd");
  private readonly more = h("div", { className: "cd-prompts" });

  constructor(
    private readonly run: EarlierRun,
    private readonly item: Item,
    private readonly image: HTMLImageElement,
    files: Files,
    inputs: string[][],
    actions: Actions,
  ) {
    image.addEventListener("load", () => this.measure(), { once: true });
    this.measure();
    files.size(item.query).then(
      (size) => {
        this.bytes.textContent = size < 0 ? "–" : formatBytes(size);
      },
      () => {
        this.bytes.textContent = "gone";
      },
    );
    const labels = Object.entries(run.labels).map((label) => label.join(": "));
    const facts: [string, HTMLElement | string][] = [
      ["Size", this.size],
      ["File", this.bytes],
      ["Seed", run.seeds.join(", ") || "–"],
      ["Made", formatTime(run.created_at)],
      ["Took", run.seconds === null ? "–" : formatDuration(run.seconds)],
      ["From", run.from_editor ? "ComfyUI's editor" : ""],
      ["Labels", labels.join(", ")],
    ];
    const rows = facts
      .filter(([, value]) => value)
      .flatMap(([name, value]) => [
        h("dt", {}, name),
        value instanceof HTMLElement ? value : h("dd", { dir: "auto" }, value),
      ]);
    this.root.replaceChildren(
      h("dl", {}, rows),
      h("div", { className: "cd-line" }, this.buttons(inputs, actions)),
      this.more,
    );
    this.more.replaceChildren(h("span", { className: "cd-faint" }, "…"));
  }

  /** Show the data from the kernel. */
  show({ prompts, folder, problem }: Facts): void {
    const parts = prompts.map(([label = "", text = ""]) =>
      h(
        "figure",
        {},
        h(
          "figcaption",
          { className: "cd-line cd-spread" },
          h("b", { dir: "auto" }, label),
          copyButton(text, "Copy"),
        ),
        h("div", { className: "cd-prompt", tabIndex: 0, dir: "auto" }, text),
      ),
    );
    this.more.replaceChildren(...parts);
    if (problem) this.more.append(h("div", { className: "comfydeploy-error" }, problem));
    if (!folder) return;
    const address = folderAddress(folder);
    const link = address
      ? h(
          "a",
          { href: address, target: "_blank", rel: "noopener" },
          icon("folder-open-o"),
          " Open in JupyterLab",
        )
      : null;
    this.more.append(
      h(
        "figure",
        {},
        h(
          "figcaption",
          { className: "cd-line cd-spread" },
          h("b", {}, "Folder"),
          link,
          copyButton(folder, "Copy"),
        ),
        h("div", { className: "cd-prompt", tabIndex: 0 }, folder),
      ),
    );
  }

  private measure(): void {
    const { naturalWidth, naturalHeight } = this.image;
    this.size.textContent = naturalWidth ? `${naturalWidth} × ${naturalHeight}` : "…";
  }

  private buttons(inputs: string[][], actions: Actions): HTMLElement[] {
    const { run, item } = this;
    const buttons = [
      action("reply", "Use these values", () => actions.reuse(run)),
      action("thumb-tack", run.pinned ? "Unpin" : "Pin", () => actions.pin(run)),
      action("trash-o", "Delete …", () => actions.remove(run)),
    ];
    if (item.kind === "image" && "ClipboardItem" in window && window.isSecureContext) {
      const copy = action("clone", "Copy picture", async () => {
        try {
          await copyPicture(this.image);
          copy.lastChild?.replaceWith(" Copied");
        } catch {
          copy.lastChild?.replaceWith(" Not copied");
        }
      });
      buttons.push(copy);
    }
    const [first] = inputs;
    if (inputs.length === 1 && first?.[0]) {
      const [key, label = key] = first;
      buttons.push(action("sign-in", `Use as ${label}`, () => actions.use(run, item, key)));
      return buttons;
    }
    if (!inputs.length) return buttons;
    const choice = h(
      "select",
      { "aria-label": "Use this picture as an input" },
      h("option", { value: "" }, "Use as input …"),
      inputs.map(([key = "", label = key]) => h("option", { value: key }, label)),
    );
    choice.onchange = () => {
      if (choice.value) actions.use(run, item, choice.value);
      choice.value = "";
    };
    return [...buttons, choice];
  }
}
