/** What can be done from the palette, the menu and by keys. */

import {
  ILabShell,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import { ICommandPalette, InputDialog, Notification } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ITranslator } from "@jupyterlab/translation";
import { Widget } from "@lumino/widgets";
import { h } from "../src/dom.ts";
import { messageOf } from "../src/format.ts";
import { openText } from "../src/workflows/source.ts";
import { factoryOf, openCarrier } from "./document.ts";
import { comfyIcon } from "./icons.ts";
import { openBatch } from "./open.ts";
import { OPEN_PANEL } from "./panels.ts";
import { transport } from "./server.ts";
import { tell } from "./tell.ts";
import { trans, translate } from "./words.ts";
import { formatOf } from "./workflow_file.ts";

const CATEGORY = "ComfyUI";
const FOLLOW = 3000; // ms between two looks at the log, while it is seen
const LINES = 500; // of the log
const READY = 30_000; // ms until the form of a workflow is there
const NAMED = /(["'])((?:(?!\1)[^\\\n])+\.(?:json|png|webp|jpe?g|mp4|webm|flac|mp3|opus))\1/i;

type Batch = { batch_id: string; title: string; state: string; total: number };
type Freed = { gpu: { freed: number }; ram: { freed: number }; pending?: boolean };

/** The last lines of ComfyUI's log, which follows it while it is seen. */
class LogWidget extends Widget {
  private readonly text = h("pre");
  private follows = true; // whether the last line is seen
  private readonly timer = setInterval(() => this.read(), FOLLOW);

  constructor(title: string) {
    super();
    this.id = "comfydeploy-log";
    Object.assign(this.node.style, { overflow: "auto", padding: "8px", outline: "none" });
    this.node.tabIndex = -1;
    this.node.append(this.text);
    this.node.onscroll = () => {
      const { scrollTop, clientHeight, scrollHeight } = this.node;
      this.follows = scrollTop + clientHeight >= scrollHeight - 4;
    };
    this.title.label = title;
    this.title.icon = comfyIcon;
    this.title.closable = true;
  }

  protected override onAfterShow(): void {
    this.read();
  }

  protected override onAfterAttach(): void {
    this.read();
  }

  protected override onResize(): void {
    if (this.follows) this.node.scrollTop = this.node.scrollHeight;
  }

  protected override onActivateRequest(): void {
    this.node.focus({ preventScroll: true });
  }

  override dispose(): void {
    clearInterval(this.timer);
    super.dispose();
  }

  private async read(): Promise<void> {
    if (!this.isVisible || document.hidden) return;
    try {
      const query = { lines: LINES };
      const { lines } = await transport().get<{ lines: string[] }>("comfyui/log", query);
      this.text.textContent = lines.join("\n");
    } catch (error) {
      this.text.textContent = messageOf(error);
    }
    this.onResize();
  }
}

/** Click the button *Run* of a panel when its form is there; return whether there was one. */
async function press(root: ParentNode): Promise<boolean> {
  const find = () =>
    [...root.querySelectorAll<HTMLButtonElement>(".comfydeploy-panel button")].find(
      (button) => button.textContent?.trim() === "Run" && !button.closest("[role=tablist]"),
    );
  for (let waited = 0; waited < READY; waited += 200) {
    const button = find();
    if (button && !button.disabled) {
      button.click();
      return true;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return false;
}

export const commands: JupyterFrontEndPlugin<void> = {
  id: "comfydeploy-jupyter:commands",
  description: "Commands of ComfyUI.",
  autoStart: true,
  optional: [ILabShell, ICommandPalette, INotebookTracker, ITranslator],
  activate(
    app: JupyterFrontEnd,
    labShell: ILabShell | null,
    palette: ICommandPalette | null,
    notebooks: INotebookTracker | null,
    translator: ITranslator | null,
  ) {
    translate(translator);
    const { contents } = app.serviceManager;

    /** Add a command whose errors are shown as a notification. */
    const add = (name: string, label: string, act: () => Promise<unknown>, isOffered = true) => {
      const id = `comfydeploy:${name}`;
      const execute = () => act().catch((error) => void tell(error));
      app.commands.addCommand(id, { label, icon: comfyIcon, execute, isVisible: () => isOffered });
      if (isOffered) palette?.addItem({ command: id, category: CATEGORY });
    };
    const isLab = labShell !== null;

    add("start", trans.__("Start ComfyUI"), async () => {
      await transport().post("comfyui/start");
      Notification.info(trans.__("ComfyUI is being started."), { autoClose: 4000 });
    });
    add("stop", trans.__("Stop ComfyUI"), async () => {
      await transport().post("comfyui/stop");
      Notification.info(trans.__("ComfyUI was stopped."), { autoClose: 4000 });
    });
    add("free", trans.__("Free memory of ComfyUI"), async () => {
      const { gpu, ram, pending } = await transport().post<Freed>("free");
      const freed = ((gpu.freed + ram.freed) / 2 ** 30).toFixed(1);
      const later = trans.__("ComfyUI frees its memory after the present run.");
      const text = pending ? later : trans.__("ComfyUI has freed %1 GiB.", freed);
      Notification.success(text, { autoClose: 4000 });
    });

    let log: LogWidget | null = null;
    add(
      "log",
      trans.__("Log of ComfyUI"),
      async () => {
        if (!log || log.isDisposed) {
          log = new LogWidget(trans.__("Log of ComfyUI"));
          app.shell.add(log, "main", { mode: "split-bottom" });
        }
        app.shell.activateById(log.id);
      },
      isLab,
    );
    add(
      "batch",
      trans.__("Open a batch"),
      async () => {
        const { batches } = await transport().get<{ batches: Batch[] }>("batches", { limit: 100 });
        if (!batches.length) {
          const text = trans.__("There is no batch yet: give inputs several values in a panel.");
          Notification.info(text, { autoClose: 4000 });
          return;
        }
        const names = batches.map(({ title, state, total, batch_id }, place) =>
          trans.__("%1. %2: %3, %4 points", place + 1, title || batch_id, state, total),
        );
        const { value } = await InputDialog.getItem({
          title: trans.__("Open a batch"),
          items: names,
        });
        const chosen = batches[names.indexOf(value ?? "")];
        if (chosen) await openBatch(app, chosen.batch_id, chosen.title);
      },
      isLab,
    );

    add("run-cell", trans.__("Run the workflow of this cell"), async () => {
      const cell = notebooks?.activeCell;
      const panel = notebooks?.currentWidget;
      if (!cell || !panel) throw new Error(trans.__("Select a cell of a notebook first."));
      if (cell.node.querySelector(".comfydeploy-panel")) {
        if (await press(cell.node)) return;
        throw new Error(trans.__("The panel of this cell has nothing that it can run."));
      }
      const source = cell.model.sharedModel.getSource();
      const named = NAMED.exec(source)?.[2];
      if (!named && !formatOf(source)) {
        const text = trans.__(
          "This cell has no workflow: select one that shows a panel, names a workflow file, or is the JSON of a workflow.",
        );
        throw new Error(text);
      }
      const folder = panel.context.path.split("/").slice(0, -1);
      const path = contents.resolvePath(folder.join("/"), named ?? "");
      const shown_workflow = named
        ? await openCarrier(contents, path)
        : await openText(transport(), source);
      if (!isLab) {
        if (!named)
          throw new Error(
            trans.__("Notebook runs only cells that show a panel or name a workflow file."),
          );
        return app.commands.execute("docmanager:open", { path, factory: factoryOf(path) });
      }
      const values = { shown_workflow };
      const mode = "split-right";
      const widget: Widget = await app.commands.execute(OPEN_PANEL, { values, mode } as never);
      await press(widget.node);
    });
  },
};
