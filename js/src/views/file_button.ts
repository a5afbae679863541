/** A button that sends a file of the user's computer to the kernel. */

import { fileButton, isAccepted, setUpRoot } from "../dom.ts";
import { sendFile } from "../files.ts";
import type { Context } from "../model.ts";

const PANEL = ".comfydeploy-panel";

function render({ model, el }: Context<{ label: string; hint: string; accept: string }>) {
  setUpRoot(el, "file");
  const take = (file: File) => {
    if (isAccepted(file, model.get("accept"))) sendFile(model, file, {});
    else model.send({ kind: "refused", name: file.name });
  };
  const more = { title: model.get("hint") };
  el.append(...fileButton(model.get("label"), model.get("accept"), take, more));

  // A file that is dropped on the panel is accepted, too, if no other part of the panel accepts it.
  const panelAt = (event: DragEvent) => {
    const panel = event.target instanceof Element ? event.target.closest(PANEL) : null;
    const isOurs = panel !== null && panel === el.closest(PANEL);
    const isFree = !event.defaultPrevented && !panel?.classList.contains("cd-dead");
    return isOurs && isFree && event.dataTransfer?.types.includes("Files") ? panel : null;
  };
  let marked: Element | null = null;
  const mark = (panel: Element | null) => {
    marked?.classList.remove("cd-drop");
    panel?.classList.add("cd-drop");
    marked = panel;
  };
  const onDragOver = (event: DragEvent) => {
    const panel = panelAt(event);
    if (panel) event.preventDefault();
    mark(panel);
  };
  const onDragLeave = (event: DragEvent) => {
    if (!event.relatedTarget) mark(null);
  };
  const onDrop = (event: DragEvent) => {
    const panel = panelAt(event);
    mark(null);
    if (!panel) return;
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  };
  document.addEventListener("dragover", onDragOver);
  document.addEventListener("dragleave", onDragLeave);
  document.addEventListener("drop", onDrop);
  return () => {
    document.removeEventListener("dragover", onDragOver);
    document.removeEventListener("dragleave", onDragLeave);
    document.removeEventListener("drop", onDrop);
  };
}

export default { render };
