/** A 3D model that can be turned, in place of its tile. */

import { h, icon, iconButton } from "../dom.ts";
import { formatBytes } from "../format.ts";
import type { Shown } from "../viewers/model_viewer.ts";
import { downloadLink } from "./download_link.ts";
import { type Item, nameOf, type Page } from "./item.ts";

const LARGEST = 64 << 20; // bytes of a model; larger ones would need too much memory and time of the page
const READABLE = /\.(glb|gltf|ply)$/i;

/** The script of the package that shows models; the kernel sends it when it is needed. */
const VIEWER = "model_viewer";

type Viewer = { show: (host: HTMLElement, content: ArrayBuffer) => Promise<Shown> };

/** Return whether a file can be shown as a model that can be turned. */
export function canBeTurned(item: Item): boolean {
  return item.kind === "3d" && READABLE.test(item.name);
}

/** A button that shows a model in place of its tile; an error is shown in the tile. */
export function turnButton(page: Page, item: Item, tile: HTMLElement): HTMLElement {
  const problem = h("div", { className: "cd-faint cd-error-text", role: "status" });
  const button = h(
    "button",
    {
      type: "button",
      className: "cd-button",
      title: `Show ${nameOf(item)} in 3D`,
      onclick: () => open(),
    },
    icon("arrows"),
    " View in 3D",
  );
  const open = async () => {
    button.disabled = true;
    problem.textContent = "Loading …";
    tile.append(problem);
    try {
      const view = await modelView(page, item, () => {
        view.replaceWith(tile);
        button.focus();
      });
      tile.replaceWith(view);
      problem.remove();
    } catch (error) {
      problem.textContent = `It cannot be shown in 3D. ${(error as Error).message}.`;
    } finally {
      button.disabled = false;
    }
  };
  return button;
}

async function modelView(page: Page, item: Item, closed: () => void): Promise<HTMLElement> {
  const { files } = page;
  const size = await files.size(item.query);
  if (size > LARGEST) throw tooLarge(size);
  const reply = await files.read(item.query);
  if (!reply.ok) throw new Error("It is not available any more");
  const content = await reply.arrayBuffer();
  if (content.byteLength > LARGEST) throw tooLarge(content.byteLength);
  const script = String(await files.ask({ kind: "script", name: VIEWER }));
  const viewer: Viewer = await import(script);
  files.revoke(script);
  const stage = h("div", { className: "cd-stage" });
  page.models.close();
  const shown = await viewer.show(stage, content);
  shown.canvas.tabIndex = 0;
  shown.canvas.setAttribute("role", "img");
  shown.canvas.setAttribute("aria-label", `${nameOf(item)}; arrow keys turn it, + and - zoom`);
  page.models.opened(() => {
    shown.close();
    closed();
  });
  return h(
    "figure",
    { className: "cd-model" },
    stage,
    h(
      "figcaption",
      { className: "cd-line" },
      h("span", { className: "cd-grow" }, downloadLink(files, item)),
      iconButton("times", "Close the 3D view", () => page.models.close()),
    ),
  );
}

function tooLarge(size: number): Error {
  return new Error(`It has ${formatBytes(size)}, but at most ${formatBytes(LARGEST)} are allowed`);
}

/** The model of a gallery that is shown: only one, because browsers limit the WebGL contexts. */
export class OpenModel {
  private end: (() => void) | null = null;

  /** Store the function that closes the model that is shown now. */
  opened(end: () => void): void {
    this.end = end;
  }

  close(): void {
    const { end } = this;
    this.end = null;
    end?.();
  }
}
