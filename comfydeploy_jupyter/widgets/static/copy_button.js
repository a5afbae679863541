/** A button that copies the trait `text`. */

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Plain HTTP to another host: browsers have no clipboard there but this one.
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  area.style.opacity = "0";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refuses");
}

function render({ model, el }) {
  prepare(el, "button");
  const button = h("button", { type: "button", className: "cd-button", "aria-live": "polite" });
  const label = () => {
    button.textContent = model.get("label");
    button.title = model.get("text");
  };
  button.addEventListener("click", async () => {
    try {
      await copy(model.get("text"));
      button.textContent = "Copied";
    } catch (error) {
      button.textContent = "Not copied";
    }
    setTimeout(label, 1500);
  });
  label();
  model.on("change:text change:label", label);
  el.append(button);
  return () => model.off("change:text change:label", label);
}

export default { render };
