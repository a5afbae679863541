// A button that sends a file of the user's computer to the kernel.

function render({ model, el }) {
  prepare(el, "file");
  const events = listener(model);
  const take = (file) => sendFile(model, file, {});
  const more = { title: model.get("hint") };
  const [button, input] = fileButton(model.get("label"), model.get("accept"), take, more);
  el.append(button, input);
  return () => events.end();
}

export default { render };
