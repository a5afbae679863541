/** Workflow files: what opens them, new ones, and drags from the file browser. */

import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import {
  ICommandPalette,
  type IWidgetTracker,
  Notification,
  WidgetTracker,
} from "@jupyterlab/apputils";
import { IDocumentManager } from "@jupyterlab/docmanager";
import { TextModelFactory } from "@jupyterlab/docregistry";
import { IDefaultFileBrowser } from "@jupyterlab/filebrowser";
import { ILauncher } from "@jupyterlab/launcher";
import { INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import type { Contents } from "@jupyterlab/services";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import type { Drag } from "@lumino/dragdrop";
import type { Widget } from "@lumino/widgets";
import { h } from "../src/dom.ts";
import { messageOf } from "../src/format.ts";
import { openFile } from "../src/workflows/source.ts";
import {
  ABOUT,
  CARRIER,
  CARRIERS,
  CarrierFactory,
  EDIT,
  FACTORY,
  factoryOf,
  fileOf,
  openCarrier,
  WorkflowFactory,
} from "./document.ts";
import { isMedia, takeDrops, upload } from "./drop.ts";
import { comfyIcon } from "./icons.ts";
import { transport } from "./server.ts";
import { tell } from "./tell.ts";
import { trans, translate } from "./words.ts";
import { EMPTY, formatOf, MAX_FILE, relative } from "./workflow_file.ts";

const ID = "comfydeploy-jupyter:files";
const NEW = "comfydeploy:new-workflow";
const INSERT = "comfydeploy:insert-cell";
const CSS = `[data-jp-item-name=${EDIT}] .jp-ToolbarButtonComponent-label { margin-inline-start: 4px; }`;
const DRAGGED = "application/x-jupyter-icontents"; // the paths of files of the file browser

/** A model that knows only the name of a file, whose content the server reads. */
class AboutFactory extends TextModelFactory {
  override get name(): string {
    return ABOUT;
  }

  override get fileFormat(): Contents.FileFormat {
    return null;
  }
}

/** What a JSON file is, by its content: one that is too large to be read is no workflow. */
async function kindOf(
  contents: Contents.IManager,
  path: string,
): Promise<"workflow" | "encoded" | ""> {
  try {
    const { type, size } = await contents.get(path, { content: false });
    if (type !== "file" || (size ?? 0) > MAX_FILE) return "";
    const { content } = await contents.get(path, { type: "file", format: "text", content: true });
    return typeof content === "string" && formatOf(content) !== null ? "workflow" : "";
  } catch (error) {
    if ((error as { response?: Response }).response?.status !== 400) return "";
    // what opens it says what else is wrong
    return decoded(contents, path).then(
      (text) => (formatOf(text) ? "encoded" : ""),
      () => "",
    );
  }
}

/** Return the text of a file that is not in UTF-8. */
async function decoded(contents: Contents.IManager, path: string): Promise<string> {
  const bytes = await (await fileOf(contents, path)).arrayBuffer();
  const mark = new DataView(bytes).getUint16(0);
  const encoding = mark === 0xfffe ? "utf-16le" : mark === 0xfeff ? "utf-16be" : "windows-1252";
  return new TextDecoder(encoding).decode(bytes);
}

/** Let workflows among the JSON files open as documents, where no other program is named. */
function openByContent(manager: IDocumentManager, isWanted: () => boolean): void {
  const contents = manager.services.contents;
  const open = manager.openOrReveal.bind(manager);
  manager.openOrReveal = (path, given, ...more) => {
    const usually = (name = given) => open(path, name, ...more);
    // null in newer versions
    const isMeant = given === FACTORY || ((given ?? "default") === "default" && isWanted());
    if (!isMeant || !/\.json$/i.test(path)) return usually();
    if (manager.findWidget(path, FACTORY)) return usually(FACTORY);
    const write = async () => {
      try {
        const content = await decoded(contents, path);
        await contents.save(path, { type: "file", format: "text", content });
        usually(FACTORY);
      } catch (error) {
        tell(error);
      }
    };
    // who opens a file so does not use what this returns, or awaits it
    return kindOf(contents, path).then((kind) => {
      if (kind !== "encoded") return usually(kind ? FACTORY : given);
      const text = trans.__("%1 is a workflow, but not in UTF-8, as JupyterLab needs it.", path);
      const actions = [{ label: trans.__("Write it in UTF-8"), callback: () => void write() }];
      Notification.error(text, { autoClose: false, actions });
    }) as never;
  };
}

/** Let files that are dragged from the file browser be dropped on panels like those of a computer. */
function dropOnPanels(contents: Contents.IManager): void {
  const pathsOf = ({ mimeData }: Drag.Event): string[] =>
    mimeData.hasData(DRAGGED) ? (mimeData.getData(DRAGGED) as string[]) : [];
  const panelOf = ({ target }: Event) =>
    target instanceof Element ? target.closest(".comfydeploy-panel") : null;
  /** Send the event of a browser to where the pointer is; return whether it was taken. */
  const send = (type: string, { target, clientX, clientY }: Drag.Event, files: File[]) => {
    const dataTransfer = new DataTransfer();
    for (const file of files) dataTransfer.items.add(file);
    const about = { bubbles: true, cancelable: true, clientX, clientY, dataTransfer };
    return !(target as Element).dispatchEvent(new DragEvent(type, about));
  };
  const named = (paths: string[]) => paths.map((path) => new File([], path.replace(/^.*\//, "")));
  const on = (type: string, action: (event: Drag.Event, paths: string[]) => void) => {
    const listen = (event: Event) => {
      const paths = pathsOf(event as Drag.Event);
      if (!paths.length || !panelOf(event)) return;
      event.preventDefault();
      event.stopPropagation();
      action(event as Drag.Event, paths);
    };
    document.addEventListener(type, listen, true);
  };
  on("lm-dragenter", () => {});
  on("lm-dragleave", (event) => send("dragleave", event, []));
  on("lm-dragover", (event, paths) => {
    event.dropAction = send("dragover", event, named(paths)) ? event.proposedAction : "none";
  });
  on("lm-drop", (event, paths) => {
    event.dropAction = event.proposedAction; // the file browser offers to move, and moves nothing itself
    Promise.all(paths.map((path) => fileOf(contents, path))).then(
      (files) => send("drop", event, files),
      (error) => tell(error),
    );
  });
}

export const files: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Opens workflows of ComfyUI, and files that carry one.",
  autoStart: true,
  requires: [IDocumentManager],
  optional: [
    ILabShell,
    ICommandPalette,
    ILauncher,
    ILayoutRestorer,
    IDefaultFileBrowser,
    INotebookTracker,
    ISettingRegistry,
    ITranslator,
  ],
  activate(
    app: JupyterFrontEnd,
    manager: IDocumentManager,
    labShell: ILabShell | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    browser: IDefaultFileBrowser | null,
    notebooks: INotebookTracker | null,
    settings: ISettingRegistry | null,
    translator: ITranslator | null,
  ) {
    translate(translator);
    document.head.append(h("style", {}, CSS));
    const { docRegistry, commands } = app;
    const { contents } = app.serviceManager;
    const lab = { contents, commands };
    const tracker = new WidgetTracker<Widget>({ namespace: "comfydeploy-documents" });
    docRegistry.addModelFactory(new AboutFactory());
    docRegistry.addFileType({
      name: "comfydeploy-carrier",
      displayName: trans.__("File of ComfyUI"),
      extensions: CARRIERS,
      contentType: "file",
      fileFormat: "base64",
    });
    const common = { label: "ComfyUI", translator: translator ?? nullTranslator };
    const json = { ...common, name: FACTORY, fileTypes: ["json"], modelName: "text" };
    const carrier = { ...common, name: CARRIER, fileTypes: ["comfydeploy-carrier"] };
    const factories = [
      new WorkflowFactory(json, lab),
      new CarrierFactory({ ...carrier, modelName: ABOUT, readOnly: true }, lab),
    ];
    for (const factory of factories) {
      docRegistry.addWidgetFactory(factory);
      factory.widgetCreated.connect((_, widget) => {
        widget.context.pathChanged.connect(() => void tracker.save(widget));
        void tracker.add(widget);
      });
    }
    const pathOf = (widget: Widget) =>
      (widget as unknown as { context: { path: string } }).context.path;
    restorer?.restore(tracker as IWidgetTracker<Widget> as WidgetTracker<Widget>, {
      command: "docmanager:open",
      args: (widget) => ({ path: pathOf(widget), factory: factoryOf(pathOf(widget)) ?? FACTORY }),
      name: (widget) => `comfydeploy:${pathOf(widget)}`,
    });

    let isWanted = true;
    settings?.load(ID).then(
      (found) => {
        const read = () => {
          isWanted = found.get("openWorkflows").composite !== false;
        };
        found.changed.connect(read);
        read();
      },
      () => {}, // the schema is not there: as by default
    );
    if (labShell) openByContent(manager, () => isWanted); // Notebook opens another page at once
    dropOnPanels(contents);

    commands.addCommand(NEW, {
      label: ({ isPalette }) =>
        isPalette ? trans.__("New workflow") : trans.__("ComfyUI workflow"),
      caption: trans.__("Create a workflow of ComfyUI"),
      icon: comfyIcon,
      execute: async ({ cwd }) => {
        const path = typeof cwd === "string" ? cwd : (browser?.model.path ?? "");
        try {
          const made = await contents.newUntitled({ path, type: "file", ext: ".json" });
          await contents.save(made.path, { ...made, type: "file", format: "text", content: EMPTY });
          return commands.execute("docmanager:open", { path: made.path, factory: FACTORY });
        } catch (error) {
          return tell(error);
        }
      },
    });
    palette?.addItem({ command: NEW, category: "ComfyUI", args: { isPalette: true } });
    launcher?.add({ command: NEW, category: "ComfyUI", rank: 20 });

    if (notebooks) {
      const selected = () => browser?.selectedItems().next().value?.path;
      commands.addCommand(INSERT, {
        label: trans.__("Insert a cell that runs this workflow"),
        icon: comfyIcon,
        isVisible: () => notebooks.currentWidget !== null && factoryOf(selected()) !== null,
        execute: async ({ path: given, at }) => {
          const path = typeof given === "string" ? given : selected();
          const panel = notebooks.currentWidget;
          if (!path || !panel) return;
          try {
            await openCarrier(contents, path);
          } catch (error) {
            tell(`${path}: ${messageOf(error)}`);
            return;
          }
          if (typeof at === "number") panel.content.activeCellIndex = at;
          insertBelow(panel, contents.localPath(path));
        },
      });
      dropOnNotebooks((path, at) => void commands.execute(INSERT, { path, at }));
      takeDrops(notebooks, isMedia, async ({ files }, notebook, index) => {
        try {
          for (const [place, file] of [...files].entries()) {
            await openFile(transport(), file); // else it is not put there
            const path = await upload(manager, notebook.context.path, file);
            notebook.content.activeCellIndex = index + place - 1;
            insertBelow(notebook, contents.localPath(path));
          }
        } catch (error) {
          tell(error);
        }
      });
    }
  },
};

/** Insert a cell that runs a workflow below the active one; `path` is without the name of a drive. */
function insertBelow({ content, context }: NotebookPanel, path: string): void {
  NotebookActions.insertBelow(content);
  const name = JSON.stringify(relative(context.localPath, path));
  content.activeCell?.model.sharedModel.setSource(
    `from comfydeploy_jupyter import RunPanel\n\nRunPanel(${name})`,
  );
}

/** Let a workflow, or a file with one, be dropped between the cells of a notebook. */
function dropOnNotebooks(insert: (path: string, at: number) => void): void {
  const find = (event: Drag.Event): string | null => {
    const { target, mimeData } = event;
    if (!(target instanceof Element) || !target.closest(".jp-Notebook")) return null;
    // cells of Markdown take pictures as attachments
    if (target.closest(".comfydeploy-panel, .jp-MarkdownCell")) return null;
    const paths = mimeData.hasData(DRAGGED) ? (mimeData.getData(DRAGGED) as string[]) : [];
    const [path] = paths;
    return path && paths.length === 1 && factoryOf(path) ? path : null;
  };
  for (const type of ["lm-dragenter", "lm-dragover", "lm-drop"]) {
    const listen = (given: Event) => {
      const event = given as Drag.Event;
      const path = find(event);
      if (!path) return;
      event.preventDefault();
      event.stopPropagation();
      event.dropAction = event.proposedAction;
      if (type !== "lm-drop") return;
      const cell = (event.target as Element).closest(".jp-Cell");
      const index = Number((cell as HTMLElement | null)?.dataset.windowedListIndex ?? Number.NaN);
      insert(path, index);
    };
    document.addEventListener(type, listen, true);
  }
}
