// A button that sends a file of the user's computer to the kernel.

function render({ model, el }) {
  prepare(el, "file");
  const events = listener(model);
  const take = (file) => {
    if (isAccepted(file, model.get("accept"))) sendFile(model, file, {});
    else model.send({ kind: "refused", name: file.name });
  };
  const more = { title: model.get("hint") };
  const [button, input] = fileButton(model.get("label"), model.get("accept"), take, more);
  el.append(button, input);

  // A file that is dropped on the panel, and that no part of it wants for itself, is taken too.
  const panelAt = (event) => {
    const panel = event.target.closest?.(".comfydeploy-panel");
    const mine = panel && panel === el.closest(".comfydeploy-panel");
    const free = !event.defaultPrevented && !panel?.classList.contains("cd-dead");
    const files = event.dataTransfer?.types.includes("Files");
    return mine && free && files ? panel : null;
  };
  let marked = null;
  const mark = (panel) => {
    marked?.classList.remove("cd-drop");
    panel?.classList.add("cd-drop");
    marked = panel;
  };
  const over = (event) => {
    const panel = panelAt(event);
    if (panel) event.preventDefault();
    mark(panel);
  };
  const leave = (event) => {
    if (!event.relatedTarget) mark(null);
  };
  const drop = (event) => {
    const panel = panelAt(event);
    mark(null);
    if (!panel) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  };
  const heard = { dragover: over, dragleave: leave, drop };
  for (const [name, hear] of Object.entries(heard)) document.addEventListener(name, hear);
  return () => {
    events.end();
    for (const [name, hear] of Object.entries(heard)) document.removeEventListener(name, hear);
  };
}

export default { render };
