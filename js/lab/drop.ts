/** What is dropped into a notebook from elsewhere in the page, or from the computer. */

import type { IDocumentManager } from "@jupyterlab/docmanager";
import { FileBrowserModel } from "@jupyterlab/filebrowser";
import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import { RUN_DRAG } from "../src/shown_runs.ts";

/** Return the Python that gets a run. */
export function codeOf(promptId: string): string {
  const get = `run = cd.connect().get(${JSON.stringify(promptId)})`;
  return ["import comfydeploy_jupyter as cd", "", get, "run"].join("\n");
}

/** Whether only pictures, videos or sounds of the computer are dragged. */
export function isMedia({ types, items }: DataTransfer): boolean {
  // the browser also says that pictures of the page are files
  if (!types.includes("Files") || types.includes("text/html")) return false;
  const found = [...items];
  return found.every(({ kind, type }) => kind === "file" && /^(image|video|audio)\//.test(type));
}

type Drop = (transfer: DataTransfer, notebook: NotebookPanel, index: number) => void;

/** Take some drags over notebooks; `index` is that of a new cell. Panels and Markdown keep theirs. */
export function takeDrops(
  tracker: INotebookTracker,
  isTaken: (transfer: DataTransfer) => boolean,
  drop: Drop,
): void {
  for (const type of ["dragenter", "dragover", "drop"]) {
    const listen = (given: Event) => {
      const event = given as DragEvent;
      const { target, dataTransfer } = event;
      if (!dataTransfer || !isTaken(dataTransfer) || !(target instanceof Element)) return;
      if (target.closest(".jp-MarkdownCell .cm-editor, .comfydeploy-panel")) return;
      const notebook = tracker.find(({ node }) => node.contains(target));
      if (!notebook) return;
      event.preventDefault();
      event.stopPropagation();
      if (type !== "drop") return;
      const { widgets } = notebook.content;
      const place = widgets.findIndex(({ node }) => node.contains(target));
      drop(dataTransfer, notebook, place < 0 ? widgets.length : place + 1);
    };
    document.addEventListener(type, listen, true);
  }
}

/** Let runs that are dropped into a notebook become cells that get them. */
export function takeRuns(tracker: INotebookTracker): void {
  const isRun = ({ types }: DataTransfer) => types.includes(RUN_DRAG);
  takeDrops(tracker, isRun, (transfer, { content }, index) => {
    const source = codeOf(transfer.getData(RUN_DRAG));
    content.model?.sharedModel.insertCell(index, { cell_type: "code", source });
    content.activeCellIndex = index;
  });
}

/** Upload a file into the folder of a document; return its path. */
export async function upload(manager: IDocumentManager, beside: string, file: File) {
  const { contents } = manager.services;
  const driveName = contents.driveName(beside);
  const model = new FileBrowserModel({ manager, driveName });
  try {
    await model.cd(`/${contents.localPath(beside).split("/").slice(0, -1).join("/")}`);
    return (await model.upload(file)).path; // asks before it replaces one
  } finally {
    model.dispose();
  }
}
