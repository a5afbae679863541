/** ComfyUI's editor in a tab. */

import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import { ICommandPalette, WidgetTracker } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { ITranslator } from "@jupyterlab/translation";
import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import { h, newId } from "../src/dom.ts";
import { comfyIcon } from "./icons.ts";
import { baseUrl, transport } from "./server.ts";
import { tell } from "./tell.ts";
import { trans, translate } from "./words.ts";

/** Opens ComfyUI's editor, with a stored workflow if `workflow_id` is given. */
export const OPEN_EDITOR = "comfydeploy:open-editor";

type Edited = { path: string; url: string };

/** The page of ComfyUI; it takes the theme of JupyterLab by itself. */
class EditorWidget extends Widget {
  private readonly frame: HTMLIFrameElement;

  constructor(url: string) {
    const frame = h("iframe", { src: url, title: "ComfyUI" });
    Object.assign(frame.style, { width: "100%", height: "100%", border: "0" });
    super();
    this.node.append(frame);
    this.frame = frame;
    this.title.label = "ComfyUI";
    this.title.icon = comfyIcon;
    this.title.closable = true;
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.frame.focus(); // JupyterLab finds the current widget by the focus
  }

  open(url: string): void {
    this.frame.src = url;
  }
}

export const editor: JupyterFrontEndPlugin<void> = {
  id: "comfydeploy-jupyter:editor",
  description: "ComfyUI's editor in a tab.",
  autoStart: true,
  optional: [ILabShell, ICommandPalette, ILauncher, ILayoutRestorer, ITranslator],
  activate(
    app: JupyterFrontEnd,
    labShell: ILabShell | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    translator: ITranslator | null,
  ) {
    translate(translator);
    const tracker = new WidgetTracker<EditorWidget>({ namespace: "comfydeploy-editor" });
    app.commands.addCommand(OPEN_EDITOR, {
      label: trans.__("ComfyUI's editor"),
      caption: trans.__("Open the editor of ComfyUI in a tab"),
      icon: comfyIcon,
      execute: async ({ workflow_id, id }) => {
        let url = `${baseUrl()}comfyui/`;
        try {
          if (workflow_id) {
            ({ url } = await transport().post<Edited>("workflow/edit", { workflow_id }));
          } else await transport().get("check-status"); // else the tab would show an error of Jupyter
        } catch (error) {
          tell(error);
          return null;
        }
        if (!labShell) {
          window.open(url, "_blank", "noopener");
          return null;
        }
        const shown = tracker.currentWidget;
        if (shown && !id) {
          if (workflow_id) shown.open(url);
          app.shell.activateById(shown.id);
          return shown;
        }
        const widget = new EditorWidget(url);
        widget.id = typeof id === "string" ? id : newId();
        await tracker.add(widget);
        app.shell.add(widget, "main");
        if (!id) app.shell.activateById(widget.id);
        return widget;
      },
    });
    palette?.addItem({ command: OPEN_EDITOR, category: "ComfyUI" });
    if (labShell) launcher?.add({ command: OPEN_EDITOR, category: "ComfyUI", rank: 10 });
    restorer?.restore(tracker, {
      command: OPEN_EDITOR,
      args: ({ id }) => ({ id }),
      name: ({ id }) => id,
    });
  },
};
