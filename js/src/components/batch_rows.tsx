/** The batches of a workflow, or of all: each is a row that opens. */

import { useSignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { counted } from "../format.ts";
import { mediaOf, Picture } from "../media.tsx";
import { formatTime, type RunCards, type ShownFile } from "../shown_runs.ts";
import type { Transport } from "../transport.ts";
import { type Batch, BatchSheet, headline } from "./batch_sheet.tsx";
import { Button, Checkbox, Question } from "./ui.tsx";

const PICTURES = 4; // of a row
const SIDE = 64; // pixels of a small copy
const STEP = 20; // further rows

/** The reply of `batches`, as far as it is used. */
export type BatchList = { batches: Batch[]; total: number };

type RowsProps = {
  transport: Transport;
  list: BatchList;
  /** Show so many of them. */
  onMore: (number: number) => void;
  onDelete: (batchId: string, which: { runs: boolean; files: boolean }) => void;
};

export function BatchRows({ transport, list, onMore, onDelete }: RowsProps) {
  const { batches, total } = list;
  const asked = useSignal<Batch | null>(null);
  if (!total) return null;
  return (
    <section aria-label="Batches">
      {batches.map((batch) => (
        <BatchRow
          key={batch.batch_id}
          transport={transport}
          batch={batch}
          onDelete={() => {
            asked.value = batch;
          }}
        />
      ))}
      {total > batches.length && (
        <Button
          label={`Show more batches (${(total - batches.length).toLocaleString()})`}
          onClick={() => onMore(batches.length + STEP)}
        />
      )}
      {asked.value && (
        <DeleteBatch
          batch={asked.value}
          onDelete={onDelete}
          onClose={() => {
            asked.value = null;
          }}
        />
      )}
    </section>
  );
}

type RowProps = { transport: Transport; batch: Batch; onDelete: () => void };

/** A batch: its first pictures and its state; opened, its sheet. */
function BatchRow({ transport, batch, onDelete }: RowProps) {
  const [isOpen, setOpen] = useState(false);
  const [pictures, setPictures] = useState<ShownFile[]>([]);
  const media = mediaOf(transport);
  const { batch_id, finished_at } = batch;
  const done = batch.counts.success ?? 0;
  useEffect(() => {
    const stop = new AbortController();
    const query = { batch_id, limit: PICTURES };
    transport.get<RunCards>("runs/cards", query, stop.signal).then(
      ({ runs }) => setPictures(runs.flatMap((run) => run.pictures.slice(0, 1))),
      () => {}, // the row goes without pictures
    );
    return () => stop.abort();
  }, [transport, batch_id, Math.min(done, PICTURES)]);
  return (
    <details class="cd-batch" open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <span class="cd-line">
          <b>{formatTime(batch.created_at)}</b>
          <span class="cd-grow" dir="auto">
            {[headline(batch), batch.title].filter(Boolean).join(" · ")}
          </span>
          {pictures.map((picture) => (
            <span key={picture.query} class="cd-frame">
              <Picture media={media} query={picture.query} side={SIDE} alt="" />
            </span>
          ))}
        </span>
      </summary>
      {isOpen && (
        <div class="cd-rows">
          <BatchSheet transport={transport} batch={batch_id} />
          <div class="cd-line">
            <Button
              label="Delete the batch …"
              icon="trash-o"
              hint={finished_at ? "" : "Stop it first"}
              disabled={!finished_at}
              onClick={onDelete}
            />
          </div>
        </div>
      )}
    </details>
  );
}

type DeleteProps = { batch: Batch; onDelete: RowsProps["onDelete"]; onClose: () => void };

function DeleteBatch({ batch, onDelete, onClose }: DeleteProps) {
  const [runs, setRuns] = useState(true);
  const [files, setFiles] = useState(false);
  return (
    <Question
      title={`Delete the batch of ${counted(batch.total, "point")}?`}
      action="Delete"
      danger
      onConfirm={() => {
        onClose();
        onDelete(batch.batch_id, { runs: runs || files, files });
      }}
      onClose={onClose}
    >
      <Checkbox label="Delete its runs, too" value={runs || files} onChange={setRuns} />
      <Checkbox
        label="Delete their output files from the disk, too"
        value={files}
        onChange={setFiles}
      />
      <div class="cd-faint">
        Runs that stay are listed one by one. Pinned runs stay, and files that something else uses.
      </div>
    </Question>
  );
}
