// A button whose icon is silent for screen readers.

function render({ model, el }) {
  prepare(el, "button");
  const events = listener(model);
  const button = h("button", { type: "button", onclick: () => model.send({ kind: "click" }) });
  const show = () => {
    const [label, icon, style] = ["description", "icon", "button_style"].map((key) => model.get(key));
    button.className = label ? `cd-button ${style ? `cd-${style}` : ""}` : "cd-icon";
    button.disabled = model.get("disabled");
    button.title = model.get("hint");
    if (label) button.removeAttribute("aria-label");
    else button.setAttribute("aria-label", model.get("hint"));
    button.replaceChildren();
    if (icon) button.append(h("i", { className: `fa fa-${icon}`, "aria-hidden": "true" }));
    if (label) button.append(icon ? ` ${label}` : label);
  };
  events.on("change:description change:icon change:hint change:button_style change:disabled", show);
  show();
  el.append(button);
  return () => events.end();
}

export default { render };
