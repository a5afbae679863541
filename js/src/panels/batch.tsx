/** A batch. */

import { BatchSheet, headline } from "../components/batch_sheet.tsx";
import type { PanelProps } from "../state/traits.ts";

/** `summary` is for Python, `status` from Python. */
type Shared = { batch: string; summary: string; status: string };

export function BatchPanel({ transport, traits }: PanelProps<Shared>) {
  const say = (summary: string) => {
    if (traits.summary.value !== summary) traits.set({ summary });
  };
  return (
    <BatchSheet
      transport={transport}
      batch={traits.batch.value}
      onBatch={(batch) => say(headline(batch))}
      status={traits.status.value}
    />
  );
}
