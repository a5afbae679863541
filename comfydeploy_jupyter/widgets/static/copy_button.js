/** A button that copies the trait `text`. */

function render({ model, el }) {
  prepare(el, "button");
  const button = h("button", { type: "button", className: "cd-button", "aria-live": "polite" });
  const label = () => {
    button.textContent = model.get("label");
    button.title = model.get("text");
  };
  button.addEventListener("click", () => copyText(model.get("text"), button, label));
  label();
  model.on("change:text change:label", label);
  el.append(button);
  return () => model.off("change:text change:label", label);
}

export default { render };
