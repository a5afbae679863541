/** The area where files are chosen or dropped, and the list of transfers, of one view. */

import { h, setText, textButton } from "../dom.ts";
import { type ChosenFile, droppedFiles } from "./dropped_files.ts";
import { isOpen, isRetryable, type ServerTransfer, type Transfer } from "./transfer.ts";
import { TransferRow } from "./transfer_row.ts";

export type Actions = {
  add: (chosen: ChosenFile[]) => void;
  cancel: (id: string) => void;
  retry: (id: string) => void;
  forget: (ids: string[]) => void;
};

export class TransferList {
  private readonly rows = new Map<string, TransferRow>();
  private readonly summary = h("span", { className: "comfydeploy-summary", role: "status" });
  private readonly cancelAll: HTMLButtonElement;
  private readonly retryFailed: HTMLButtonElement;
  private readonly clearFinished: HTMLButtonElement;
  private readonly bar: HTMLElement;
  private readonly list = h("ul", {
    className: "comfydeploy-rows",
    hidden: true,
    "aria-label": "Transfers",
  });

  constructor(
    el: HTMLElement,
    private readonly actions: Actions,
  ) {
    const { cancel, retry, forget } = actions;
    this.cancelAll = textButton("Cancel all", () => this.each(isOpen, cancel));
    this.retryFailed = textButton("Retry failed", () => this.each(hasFailed, retry));
    this.clearFinished = textButton("Clear finished", () => {
      const ended = this.transfers.filter((transfer) => !isOpen(transfer));
      forget(ended.map(({ id }) => id));
    });
    this.bar = h(
      "div",
      { className: "comfydeploy-bar", hidden: true },
      this.summary,
      this.cancelAll,
      this.retryFailed,
      this.clearFinished,
    );
    el.classList.add("comfydeploy-transfers");
    el.append(this.dropZone(), this.bar, this.list);
  }

  /** Show the present state of uploads. */
  show(uploads: Transfer[]): void {
    for (const upload of uploads) this.update(upload);
    this.summarize();
  }

  /** Show these transfers of the server, and remove its other ones. */
  showTransfers(transfers: ServerTransfer[]): void {
    const ids = new Set(transfers.map(({ id }) => id));
    for (const { id, direction } of this.transfers) {
      if (direction && !ids.has(id)) this.remove(id);
    }
    for (const transfer of transfers) {
      const where = transfer.direction === "up" ? "from ComfyUI" : "to ComfyUI";
      this.update({ ...transfer, name: transfer.filename, where });
    }
    this.summarize();
  }

  forget(ids: string[]): void {
    for (const id of ids) this.remove(id);
    this.summarize();
  }

  private get transfers(): Transfer[] {
    return [...this.rows.values()].map((row) => row.data);
  }

  private dropZone(): HTMLElement {
    const { add } = this.actions;
    const input = h("input", {
      type: "file",
      multiple: true,
      hidden: true,
      tabIndex: -1,
      "aria-label": "Files to upload",
      onchange: () => {
        add([...(input.files ?? [])].map((file) => ({ file, folder: "" })));
        input.value = "";
      },
    });
    const choose = textButton("Choose files", () => input.click(), "mod-primary");
    const hint = h("span", { className: "comfydeploy-note", textContent: "or drop them here" });
    const onDragOver = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      event.dataTransfer.dropEffect = "copy";
      zone.classList.add("mod-over");
    };
    const zone = h(
      "div",
      {
        className: "comfydeploy-zone",
        ondragenter: onDragOver,
        ondragover: onDragOver,
        ondragleave: (event) => {
          const isInside = zone.contains(event.relatedTarget as Node | null);
          if (!isInside) zone.classList.remove("mod-over");
        },
        ondrop: async (event) => {
          event.preventDefault();
          event.stopPropagation();
          zone.classList.remove("mod-over");
          if (event.dataTransfer) add(await droppedFiles(event.dataTransfer));
        },
      },
      choose,
      hint,
      input,
    );
    return zone;
  }

  private update(transfer: Transfer): void {
    const row = this.rows.get(transfer.id);
    if (row) {
      row.update(transfer);
      return;
    }
    const added = new TransferRow(transfer, this.actions);
    this.rows.set(transfer.id, added);
    this.list.prepend(added.root);
  }

  private remove(id: string): void {
    this.rows.get(id)?.root.remove();
    this.rows.delete(id);
  }

  private each(applies: (transfer: Transfer) => boolean, action: (id: string) => void): void {
    for (const transfer of this.transfers) if (applies(transfer)) action(transfer.id);
  }

  private summarize(): void {
    const { transfers } = this;
    const open = transfers.filter(isOpen).length;
    const counts = ["done", "failed", "cancelled", "lost"]
      .map((state) => ({ state, count: transfers.filter((each) => each.state === state).length }))
      .filter(({ count }) => count > 0)
      .map(({ state, count }) => `${count} ${state}`);
    const parts = open ? [`${open} in progress`, ...counts] : counts;
    setText(this.summary, parts.join(", "));
    this.bar.hidden = this.list.hidden = transfers.length === 0;
    this.cancelAll.disabled = open === 0;
    this.retryFailed.disabled = !transfers.some(hasFailed);
    this.clearFinished.disabled = open === transfers.length;
  }
}

function hasFailed(transfer: Transfer): boolean {
  return transfer.state === "failed" && isRetryable(transfer);
}
