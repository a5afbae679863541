/** A batch. */

import { BatchSheet } from "../components/batch_sheet.tsx";
import type { PanelProps } from "../state/traits.ts";

export function BatchPanel({ transport, traits }: PanelProps<{ batch: string; summary: string }>) {
  const say = (summary: string) => {
    if (traits.summary.value !== summary) traits.set({ summary });
  };
  return <BatchSheet transport={transport} batch={traits.batch.value} onSummary={say} />;
}
