/** A dialog over the page. */

/** Open a dialog; when it is closed, `opener` gets the focus. */
export function openDialog(dialog: HTMLDialogElement, opener: Element | null): void {
  dialog.onkeydown = (event) => event.stopPropagation();
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
  dialog.onclose = () => {
    if (opener instanceof HTMLElement) opener.focus();
  };
  dialog.showModal();
}
