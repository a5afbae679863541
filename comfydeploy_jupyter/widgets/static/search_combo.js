// A labelled field with choices that can be searched.

function render({ model, el }) {
  prepare(el, "search");
  const events = listener(model);
  const id = newId();
  const options = () =>
    model.get("options").map((each) => {
      const [text, value, note] = Array.isArray(each) ? each : [each, each];
      return { text, value, note };
    });
  const combo = searchCombo({
    id,
    label: model.get("description"),
    value: model.get("value"),
    options: options(),
    free: model.get("free"),
    hint: model.get("placeholder"),
    choose: (value) => {
      model.set("value", value);
      model.save_changes();
    },
  });
  const label = h("label", { htmlFor: id }, model.get("description"));
  el.append(label, combo.root);
  events.on("change:options change:value", () => combo.setOptions(options(), model.get("value")));
  events.on("change:placeholder", () => (combo.input.placeholder = model.get("placeholder")));
  return () => {
    combo.end();
    events.end();
  };
}

export default { render };
