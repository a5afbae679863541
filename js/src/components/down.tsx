/** Says that ComfyUI does not answer, why, and whether it is being started again. */

import { type Signal, useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import { useRef } from "preact/hooks";
import { whyDown } from "../state/overview.ts";
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

type Props = {
  transport: Transport;
  /** What must be seen for it to look. */
  root: RefObject<HTMLElement | null>;
  machine?: string | null;
  /** Whether it is said also of one that was not started yet. */
  isNeeded?: boolean;
  /** Called with each look at a ComfyUI that answers; `isBack` if it did not at the look before. */
  onReachable?: (isBack: boolean) => unknown;
  /** What is said, for other parts of the panel. */
  text?: Signal<string>;
};

export function Down({ transport, root, machine = null, isNeeded = false, ...more }: Props) {
  const { onReachable } = more;
  const own = useSignal("");
  const text = more.text ?? own;
  const wasDown = useRef(false);
  usePolling(
    root,
    async (signal) => {
      try {
        type Status = { comfyui: ComfyUI | null };
        const { comfyui } = await transport.get<Status>("check-status", { machine }, signal);
        text.value = comfyui && !comfyui.reachable ? whyDown(comfyui, isNeeded) : "";
        const isBack = wasDown.current;
        wasDown.current = comfyui !== null && !comfyui.reachable;
        if (comfyui?.reachable) await onReachable?.(isBack);
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
