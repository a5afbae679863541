/** One transfer in the list. */

import { copyText } from "../clipboard.ts";
import { h, setText, textButton } from "../dom.ts";
import { formatBytes } from "../format.ts";
import { isOpen, isRetryable, type State, type Transfer } from "./transfer.ts";
import { TransferRate } from "./transfer_rate.ts";

const TEXTS: Record<State, string> = {
  queued: "Waiting",
  active: "",
  finishing: "Storing …",
  retrying: "Will be tried again",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  lost: "The page that sent it was closed; choose the file again",
};

/** The row of a transfer. Elements without a change are not replaced, so that they keep the focus. */
export class TransferRow {
  private readonly rate = new TransferRate();
  private readonly name = h("span", { className: "comfydeploy-name" });
  private readonly where = h("span", { className: "comfydeploy-note" });
  private readonly progress = h("progress", { max: 1 });
  private readonly note = h("span", { className: "comfydeploy-note" });
  private readonly hash = h("code", { className: "comfydeploy-hash" });
  private readonly copy = textButton("Copy hash", () =>
    copyText(this.data.result?.file_hash ?? "", this.copy),
  );
  private readonly cancel: HTMLButtonElement;
  private readonly retry: HTMLButtonElement;
  readonly root: HTMLLIElement;

  constructor(
    public data: Transfer,
    actions: { cancel: (id: string) => void; retry: (id: string) => void },
  ) {
    const { id } = data;
    this.cancel = textButton("Cancel", () => actions.cancel(id));
    this.retry = textButton("Retry", () => actions.retry(id));
    this.root = h(
      "li",
      {},
      h("div", { className: "comfydeploy-line" }, this.name, this.where, this.retry, this.cancel),
      this.progress,
      h("div", { className: "comfydeploy-line" }, this.note, this.hash, this.copy),
    );
    this.update(data);
  }

  update(data: Transfer): void {
    const { name, where, size, sent, state, error, result } = data;
    this.data = data;
    this.root.dataset.state = state;
    setText(this.name, result && result.name !== name ? `${name} as ${result.name}` : name);
    this.name.title = name;
    setText(this.where, where);
    const open = isOpen(data);
    this.progress.hidden = !open;
    const fraction = size ? sent / size : state === "finishing" ? 1 : 0;
    this.progress.value = fraction;
    const percent = `${Math.floor(100 * fraction)} %`;
    this.progress.setAttribute("aria-label", `${name}: ${percent}`);
    const rate = state === "active" ? this.rate.update(sent, size) : this.rate.reset();
    const total = size ? formatBytes(size) : "";
    const bytes = total && open ? `${formatBytes(sent)} of ${total}` : total;
    const text = result?.reused ? "Existed already" : TEXTS[state];
    const parts = open
      ? [state === "active" ? percent : text, bytes, rate, error]
      : [error ? `${text}: ${error}` : text, bytes];
    setText(this.note, parts.filter(Boolean).join(" · "));
    const hash = result?.file_hash ?? "";
    setText(this.hash, hash ? `SHA-256 ${hash.slice(0, 12)}…` : "");
    this.hash.title = hash;
    this.copy.hidden = !hash;
    this.cancel.hidden = !open || state === "finishing";
    this.retry.hidden = !isRetryable(data);
    this.cancel.setAttribute("aria-label", `Cancel ${name}`);
    this.retry.setAttribute("aria-label", `Retry ${name}`);
    this.copy.setAttribute("aria-label", `Copy the hash of ${name}`);
  }
}
