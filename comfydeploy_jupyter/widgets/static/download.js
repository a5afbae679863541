// A button that asks the kernel for a file and has the browser save it.

export default {
  render({ model, el }) {
    const download = button(model.get("label"), () => {
      download.disabled = true;
      model.send({ type: "wanted" });
    });
    Object.assign(download.style, { width: "auto", margin: "0" });
    const save = (message, buffers) => {
      download.disabled = false;
      if (message.type !== "file") return;
      const url = URL.createObjectURL(new Blob(buffers, { type: message.mime }));
      h("a", { href: url, download: message.name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    };
    model.on("msg:custom", save);
    el.append(download);
    return () => model.off("msg:custom", save);
  },
};
