/** The panels in the main area, without a notebook and a kernel. */

import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import { ICommandPalette, WidgetTracker } from "@jupyterlab/apputils";
import { IDefaultFileBrowser } from "@jupyterlab/filebrowser";
import { ILauncher } from "@jupyterlab/launcher";
import { ITranslator } from "@jupyterlab/translation";
import { newId } from "../src/dom.ts";
import { toJson } from "../src/exact.ts";
import { comfyIcon } from "./icons.ts";
import { PanelWidget, type Values } from "./panel_widget.ts";
import { trans, translate } from "./words.ts";

export const CATEGORY = "ComfyUI";

/** Opens a panel: `panel` is its name, `values` are those that it begins with. */
export const OPEN_PANEL = "comfydeploy:open-panel";

const MAX_KEPT = 100_000; // characters of the values of a panel that a layout keeps

type Args = { panel?: string; id?: string; values?: Values; mode?: "split-right" };

/** The values of each panel that a restored one has again. */
const KEPT: Record<string, string[]> = {
  RunPanel: ["shown_workflow", "values", "locked", "varied", "batch", "machine", "runs"],
  WorkflowPanel: [
    ...["workflow_id", "version", "source", "title", "values", "search_text", "cloud", "tab"],
    "format",
  ],
  GalleryPanel: [],
  UploadPanel: ["place", "subfolder", "overwrite", "machine"],
  TunnelPanel: ["target"],
  ComfyDeployPanel: ["tab", "machine"],
  BatchPanel: ["batch", "title"],
};
/** The same of the panels in tabs of another one. */
const INNER: Record<string, typeof KEPT> = {
  ComfyDeployPanel: Object.fromEntries(
    ["RunPanel", "WorkflowPanel", "UploadPanel", "TunnelPanel"].map((name) => [
      name,
      KEPT[name] ?? [],
    ]),
  ),
};

/** Those of which several can be open. */
const SEVERAL = ["RunPanel", "WorkflowPanel", "BatchPanel"];

/** The values of a panel that a layout keeps: a large graph is not opened again. */
function keptOf({ state }: PanelWidget): Values {
  if (toJson(state).length <= MAX_KEPT) return state;
  const { shown_workflow, source, values, varied, inner, ...others } = state;
  return others;
}

export const panels: JupyterFrontEndPlugin<void> = {
  id: "comfydeploy-jupyter:panels",
  description: "The panels of ComfyUI in the main area.",
  autoStart: true,
  optional: [
    ILabShell,
    ICommandPalette,
    ILauncher,
    ILayoutRestorer,
    IDefaultFileBrowser,
    ITranslator,
  ],
  activate(
    app: JupyterFrontEnd,
    labShell: ILabShell | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    browser: IDefaultFileBrowser | null,
    translator: ITranslator | null,
  ) {
    if (!labShell) return; // the main area of Notebook has one place, for the notebook
    translate(translator);
    const names: Record<string, string> = {
      RunPanel: trans.__("Run a workflow"),
      WorkflowPanel: trans.__("Workflows"),
      GalleryPanel: trans.__("Gallery"),
      UploadPanel: trans.__("Files and models"),
      TunnelPanel: trans.__("Tunnel"),
      ComfyDeployPanel: trans.__("Machines"),
      BatchPanel: trans.__("Batch"),
    };
    const offered = Object.keys(names).filter((name) => name !== "BatchPanel"); // it shows a given one
    const tracker = new WidgetTracker<PanelWidget>({ namespace: "comfydeploy-panels" });

    /** The folder of the file browser, whose workflow files a panel offers. */
    const directory = () => {
      const path = browser ? app.serviceManager.contents.localPath(browser.model.path) : "";
      return path || ".";
    };

    app.commands.addCommand(OPEN_PANEL, {
      label: ({ panel }) => names[String(panel)] ?? trans.__("Open a panel of ComfyUI"),
      caption: ({ panel }) =>
        names[String(panel)] ? trans.__("ComfyUI: %1", names[String(panel)]) : "",
      icon: comfyIcon,
      execute: async ({ panel = "RunPanel", id, values = {}, mode }: Args) => {
        const name = names[panel];
        if (!name) throw new Error(trans.__("There is no panel %1", panel));
        const open = SEVERAL.includes(panel)
          ? undefined
          : tracker.find((each) => each.panel === panel);
        if (open) {
          app.shell.activateById(open.id);
          return open;
        }
        const begin = { directory: directory(), ...values };
        const widget = new PanelWidget(panel, begin, KEPT[panel], INNER[panel]);
        widget.id = id ?? newId();
        const { title } = widget;
        title.icon = comfyIcon;
        const show = () => {
          const { shown_workflow, title: ofWorkflow } = widget.state;
          const shown = (shown_workflow as { title?: string } | null)?.title || ofWorkflow;
          title.label = String(shown || name);
          title.caption = shown ? `${name}: ${shown}` : name;
        };
        show();
        widget.changed.connect(() => {
          show();
          void tracker.save(widget);
        });
        await tracker.add(widget);
        app.shell.add(widget, "main", mode && { mode });
        if (!id) app.shell.activateById(widget.id); // a restored layout knows which one is in front
        return widget;
      },
    });
    for (const [rank, panel] of offered.entries()) {
      palette?.addItem({ command: OPEN_PANEL, category: CATEGORY, args: { panel }, rank });
      launcher?.add({ command: OPEN_PANEL, category: CATEGORY, args: { panel }, rank });
    }
    restorer?.restore(tracker, {
      command: OPEN_PANEL,
      args: (widget) => ({ panel: widget.panel, id: widget.id, values: keptOf(widget) }) as never,
      name: ({ id }) => id,
    });
  },
};
