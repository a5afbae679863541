/** Transfers that are under way. */

import { type ReadonlySignal, useSignal } from "@preact/signals";
import type { ComponentChildren, Ref } from "preact";
import { useRef } from "preact/hooks";
import { formatBytes, messageOf } from "../format.ts";
import { isOpen, type ServerTransfer, type State, type Transfer } from "../transfers/transfer.ts";
import { TransferRate } from "../transfers/transfer_rate.ts";
import { listOf, type Transport } from "../transport.ts";
import { Bar } from "./progress.tsx";
import { Button, CopyButton, ErrorBox, usePolling, useTask } from "./ui.tsx";

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

export type Act = (id: string) => Promise<unknown> | undefined;

type TransferProps = {
  transfer: Transfer;
  /** Cancels it; without it there is no such button. */
  onCancel?: Act | undefined;
  /** Starts it again; without it there is no such button. */
  onRetry?: Act | undefined;
  /** Gives up one that has failed; without it there is no such button. */
  onDismiss?: Act | undefined;
  children?: ComponentChildren;
};

/** The progress of a transfer, with a button that cancels it or starts it again. */
export function TransferProgress(props: TransferProps) {
  const { transfer, onCancel, onRetry, onDismiss, children } = props;
  const { id, name, size, sent, state, error, result } = transfer;
  const rate = useRef<TransferRate | null>(null);
  rate.current ??= new TransferRate();
  const task = useTask();
  const isUnderWay = isOpen(transfer);
  const fraction = size ? Math.min(1, sent / size) : state === "finishing" ? 1 : 0;
  const speed = state === "active" ? rate.current.update(sent, size) : rate.current.reset();
  const total = size ? formatBytes(size) : "";
  const bytes = total && isUnderWay ? `${formatBytes(sent)} of ${total}` : total;
  const text = result?.reused ? "Existed already" : TEXTS[state];
  const buttons: [string, Act | undefined, boolean][] = [
    ["Retry", onRetry, !isUnderWay],
    ["Cancel", onCancel, isUnderWay && state !== "finishing"],
    ["Dismiss", onDismiss, state === "failed"],
  ];
  const parts = isUnderWay
    ? [state === "active" ? `${Math.floor(100 * fraction)} %` : text, bytes, speed, error]
    : [error ? `${text}: ${error}` : text, bytes];
  return (
    <>
      {isUnderWay && <Bar label={name} share={fraction} thin />}
      <div class="cd-line cd-transfer">
        <span class="cd-note">{parts.filter(Boolean).join(" · ")}</span>
        {children}
        {buttons.map(
          ([label, act, isOffered]) =>
            act &&
            isOffered && (
              <Button
                key={label}
                label={label}
                name={`${label} ${name}`}
                disabled={task.busy.value}
                onClick={() => task.run(async () => act(id))}
              />
            ),
        )}
      </div>
      <ErrorBox text={task.error.value} />
    </>
  );
}

/** A transfer in a list: what goes where, and its progress. */
export function TransferRow(props: TransferProps) {
  const { name, where, state, result } = props.transfer;
  const hash = result?.file_hash ?? "";
  return (
    <li data-state={state}>
      <div class="cd-line">
        <b class="cd-words" title={name}>
          {result && result.name !== name ? `${name} as ${result.name}` : name}
        </b>
        <span class="cd-faint cd-words">{where}</span>
      </div>
      <TransferProgress {...props}>
        {hash && (
          <>
            <code title={hash}>SHA-256 {hash.slice(0, 12)}…</code>
            <CopyButton label="Copy hash" name={`Copy the hash of ${name}`} text={hash} />
          </>
        )}
      </TransferProgress>
    </li>
  );
}

const BUSY = 500; // ms between two requests for the transfers while one is under way
const IDLE = 2000;
const UNWANTED = 60_000;
const LOST = 5000; // while nothing answers

/** The transfers of the server, while the panel is seen. */
export function useServerTransfers(
  transport: Transport,
  root: Ref<HTMLElement> & { current: HTMLElement | null },
  /** Whether they are wanted now; a call of `wake` asks again. */
  isWanted: () => boolean = () => true,
): {
  transfers: ReadonlySignal<ServerTransfer[]>;
  /** Why they are not known at present. */
  lost: ReadonlySignal<string>;
  wake: () => void;
  cancel: Act;
  retry: Act;
} {
  const transfers = useSignal<ServerTransfer[]>([]);
  const lost = useSignal("");
  const wake = usePolling(root, async (signal) => {
    if (!isWanted()) return UNWANTED;
    try {
      type Queue = { uploads: ServerTransfer[] };
      const queue = await transport.get<Queue>("upload-queue-status", {}, signal);
      const uploads = listOf(queue.uploads);
      lost.value = "";
      if (JSON.stringify(uploads) !== JSON.stringify(transfers.value)) transfers.value = uploads;
      return uploads.some(isOpen) ? BUSY : IDLE;
    } catch (error) {
      if (!signal.aborted) lost.value = messageOf(error);
      return LOST;
    }
  });
  const order = (path: string) => async (id: string) => {
    await transport.post(path, { id });
    wake();
  };
  return { transfers, lost, wake, cancel: order("cancel-uploads"), retry: order("retry-uploads") };
}
