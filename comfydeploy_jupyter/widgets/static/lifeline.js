// Notices that the kernel of a panel or a sweep is gone: nothing in it would be heard any more.

const GONE = new Set(["restarting", "autorestarting", "terminating", "dead"]);
const CONTROLS = "button, input, select, textarea";
const LIVING = ".cd-picture-button, .cd-lightbox *"; // they only show what is there

function render({ model, el }) {
  prepare(el, "lifeline");
  el.setAttribute("role", "alert");
  el.hidden = true;
  const events = listener(model);
  const ends = [];
  let gone = false;

  /** Disable what is in the panel, also what its scripts put there later. */
  const disable = (panel) => {
    for (const control of panel.querySelectorAll(CONTROLS)) {
      if (!control.disabled && !control.matches(LIVING)) control.disabled = true;
    }
  };
  const die = () => {
    const panel = el.closest(`.${model.get("around")}`);
    if (gone || !panel) return;
    gone = true;
    panel.classList.add("cd-dead");
    disable(panel);
    const observer = new MutationObserver(() => disable(panel));
    observer.observe(panel, { subtree: true, childList: true, attributeFilter: ["disabled"] });
    ends.push(() => observer.disconnect());
    el.hidden = false;
    el.replaceChildren(h("div", { className: "comfydeploy-error" }, model.get("text")));
  };

  // Every page of ipywidgets marks what has no connection to a kernel, also what was only saved.
  const look = () => {
    if (el.closest(".jupyter-widgets-disconnected")) die();
  };
  events.on("comm:close comm_live_update", () => setTimeout(look));
  const observer = new MutationObserver(look);
  observer.observe(el, { attributeFilter: ["class"] });
  const timer = setTimeout(look);
  ends.push(() => observer.disconnect(), () => clearTimeout(timer));

  // JupyterLab and Notebook do not mark it where a kernel dies or is shut down: there its state is
  // asked for.
  const session = model.widget_manager?.context?.sessionContext;
  const first = session?.session?.kernel?.id;
  const change = () => {
    const kernel = session.session?.kernel;
    if (!kernel || kernel.id !== first || GONE.has(kernel.status)) die();
  };
  for (const signal of [session?.statusChanged, session?.kernelChanged]) {
    signal?.connect(change);
    ends.push(() => signal?.disconnect(change));
  }
  return () => {
    events.end();
    for (const end of ends) end();
  };
}

export default { render };
