/** The progress of a run: the node, a bar for the run and one for the node, the time. */

import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { formatDuration } from "../format.ts";
import type { RunQueue } from "../state/runs.ts";
import { usePolling } from "./ui.tsx";

const TICK = 500; // ms between two updates of the clock, of which every second asks for the place

/** A bar that is full at 1. */
export function Bar({ label, share, thin }: { label: string; share: number; thin?: boolean }) {
  const part = Math.round(100 * Math.min(1, Math.max(0, share)));
  return (
    <div
      class={`cd-bar${thin ? " cd-thin" : ""}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={part}
    >
      <div style={{ width: `${100 * share}%` }} />
    </div>
  );
}

export function ProgressView({ runs }: { runs: RunQueue }) {
  const root = useRef<HTMLDivElement>(null);
  const now = useSignal(Date.now());
  const turns = useRef(0);
  const progress = runs.progress.value;
  usePolling(root, async (signal) => {
    now.value = Date.now();
    turns.current += 1;
    if (turns.current % 2) await runs.ask(signal).catch(() => {}); // following it says what is wrong
    return TICK;
  });
  if (!progress) return <div ref={root} hidden />;
  const { text, fraction, step, steps, since, left, leftAt } = progress;
  const others = runs.followed.value.length - 1;
  const withSteps = steps > 1 ? `${text} ${step}/${steps}` : text;
  const shown = others > 0 ? `${withSteps} — ${others} more waiting` : withSteps;
  const parts = [
    `${Math.round(100 * fraction)} %`,
    formatDuration(Math.max(0, now.value - since) / 1000),
  ];
  if (left !== null) {
    parts.push(`about ${formatDuration(Math.max(0, left - (now.value - leftAt) / 1000))} left`);
  }
  return (
    <div class="comfydeploy-view comfydeploy-progress" ref={root}>
      <div class="cd-line cd-spread">
        <span class="cd-node" title={shown}>
          {shown}
        </span>
        <span class="cd-faint cd-number">{parts.join(" · ")}</span>
      </div>
      <span class="cd-unseen" role="status" aria-live="polite">
        {text}
      </span>
      <Bar label="The whole run" share={fraction} />
      <div style={{ visibility: steps > 1 ? "visible" : "hidden" }}>
        <Bar label="This node" share={steps > 1 ? step / steps : 0} thin />
      </div>
    </div>
  );
}
