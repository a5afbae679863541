/** Says that ComfyUI does not answer, why, and whether it is being started again. */

import { useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import type { Transport } from "../transport.ts";
import { State, usePolling } from "./ui.tsx";

const LOOK = 2000; // ms between two looks

type ComfyUI = {
  reachable: boolean;
  /** Of one that the server starts. */
  state?: string;
  restarts?: number;
  error?: string | null;
  hint?: string | null;
};

/** Return a sentence about a ComfyUI that does not answer; empty for one that nobody has needed. */
function whyDown({ state = "", restarts = 0, error, hint }: ComfyUI, isNeeded: boolean): string {
  const isAgain = state === "backoff" || (state === "starting" && restarts > 0);
  const what = isAgain
    ? "ComfyUI is down, it is being started again"
    : state === "starting"
      ? "ComfyUI is being started"
      : state === "failed"
        ? "ComfyUI does not start"
        : error || isNeeded
          ? "ComfyUI does not answer"
          : "";
  return what && [what, error, hint].filter(Boolean).join(": ");
}

type Props = {
  transport: Transport;
  /** What must be seen for it to look. */
  root: RefObject<HTMLElement | null>;
  machine?: string | null;
  /** Whether it is said also of one that was not started yet. */
  isNeeded?: boolean;
  /** Called with each look at a ComfyUI that answers. */
  onReachable?: () => unknown;
};

export function Down({ transport, root, machine = null, isNeeded = false, onReachable }: Props) {
  const text = useSignal("");
  usePolling(
    root,
    async (signal) => {
      try {
        type Status = { comfyui: ComfyUI | null };
        const { comfyui } = await transport.get<Status>("check-status", { machine }, signal);
        text.value = comfyui && !comfyui.reachable ? whyDown(comfyui, isNeeded) : "";
        if (comfyui?.reachable) await onReachable?.();
      } catch {
        // the other parts of the panel say what is wrong with the server
      }
      return LOOK;
    },
    `${machine} ${isNeeded}`,
  );
  return text.value ? (
    <div class="cd-down">
      <State text={text.value} colour="warn" />
    </div>
  ) : null;
}
