/** Entries of a list of runs: a run, or a batch in place of its points. */

import { useEffect, useRef, useState } from "preact/hooks";
import { counted, formatDuration } from "../format.ts";
import { type Media, mediaOf, Picture } from "../media.tsx";
import {
  type Batch,
  formatTime,
  RUN_DRAG,
  type RunCard,
  type RunCards,
  type ShownFile,
  seedsOf,
  statusOf,
} from "../shown_runs.ts";
import type { Transport } from "../transport.ts";
import type { Marks } from "./about_run.tsx";
import { BatchSheet, headline } from "./batch_sheet.tsx";
import { Button, Checkbox, Icon, NEVER, Question, usePolling } from "./ui.tsx";

const SIDE = 256; // pixels of a small copy
const LARGE_SIDE = 384;
const TILES = 4; // pictures of a batch, or of a run that a large card shows
const MOST_KEPT = 500; // batches whose pictures are kept
const LOOK = 3000; // ms between two looks at a batch that has not ended

export function nameOf(run: RunCard): string {
  return `run of ${new Date(run.created_at).toLocaleString()}`;
}

type AnyProps = {
  isTable: boolean;
  /** Whether it is shown elsewhere, or open. */
  isChosen: boolean;
  isGallery: boolean;
  tabIndex: number;
  on: { current: EntryActions };
};

type EntryProps = AnyProps & {
  media: Media;
  run: RunCard;
  isSelected: boolean;
  /** Whether the runs are those of all workflows. */
  isOfAny: boolean;
};

export type EntryActions = {
  open: (run: RunCard) => void;
  show: (run: RunCard) => void;
  mark: (run: RunCard, marks: Marks) => void;
  select: (run: RunCard, isSelected: boolean) => void;
  remove: (run: RunCard) => void;
  /** Open a batch, or close it. */
  toggle: (batchId: string) => void;
};

function isStarKey({ key, ctrlKey, metaKey, altKey }: KeyboardEvent): boolean {
  return key.toLowerCase() === "s" && !ctrlKey && !metaKey && !altKey;
}

/** A run as a card or as a row of the table. */
export function Entry(props: EntryProps) {
  const { run, isTable, isSelected, tabIndex, on } = props;
  const name = nameOf(run);
  const seconds = run.seconds === null ? "" : formatDuration(run.seconds);
  const status = run.status === "success" && !isTable ? "" : statusOf(run);
  const facts = [status, run.from_editor ? "Editor" : "", seconds, props.isOfAny && run.workflow]
    .filter(Boolean)
    .join(" · ");
  const hint = [run.note, run.why, run.inputs.join("\n")]
    .filter(Boolean)
    .join("\n\n")
    .slice(0, 2000);
  const keys = (event: KeyboardEvent) => {
    if (event.key === "Delete") on.current.remove(run);
    else if (event.key === " ") on.current.select(run, !isSelected);
    else if (isStarKey(event)) on.current.mark(run, { starred: !run.starred });
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const labels = Object.entries(run.metadata).map((label) => label.join(": "));
  return (
    <>
      <button
        type="button"
        class="cd-run cd-main"
        tabIndex={tabIndex}
        title={hint}
        aria-pressed={props.isChosen}
        draggable
        onDragStart={({ dataTransfer }) => dataTransfer?.setData(RUN_DRAG, run.prompt_id)}
        onClick={() => on.current.show(run)}
        onKeyDown={keys}
      >
        <span class="cd-unseen">run of </span>
        <Frame
          media={props.media}
          run={run}
          isSmall={isTable}
          tiles={props.isGallery && !isTable ? TILES : 1}
        />
        <span class="cd-when">{formatTime(run.created_at)}</span>
        <span class={`cd-status cd-${run.status}`}>{facts}</span>
        {isTable && (
          <>
            <span class="cd-number cd-cut">{seedsOf(run).join(", ")}</span>
            <span class="cd-cut cd-faint" dir="auto">
              {[run.note, run.why, ...run.inputs, ...labels].filter(Boolean).join(" · ")}
            </span>
          </>
        )}
        {run.pinned && <span class="cd-unseen">, pinned</span>}
        {run.starred && <span class="cd-unseen">, with a star</span>}
      </button>
      <input
        type="checkbox"
        class="cd-select"
        tabIndex={tabIndex}
        checked={isSelected}
        title="Select"
        aria-label={`Select ${name}`}
        onChange={(event) => on.current.select(run, event.currentTarget.checked)}
      />
      <button
        type="button"
        class="cd-icon cd-star"
        tabIndex={tabIndex}
        title={run.starred ? "Remove the star (S)" : "Star (S)"}
        aria-label={`Star ${name}`}
        aria-pressed={run.starred}
        onClick={() => on.current.mark(run, { starred: !run.starred })}
      >
        <Icon name={run.starred ? "star" : "star-o"} />
      </button>
      <button
        type="button"
        class="cd-icon cd-pin"
        tabIndex={tabIndex}
        title={run.pinned ? "Unpin" : "Pin"}
        aria-label={`${run.pinned ? "Unpin" : "Pin"} ${name}`}
        aria-pressed={run.pinned}
        onClick={() => on.current.mark(run, { pinned: !run.pinned })}
      >
        <Icon name="thumb-tack" />
      </button>
      {run.pictures.length > 0 && (
        <button
          type="button"
          class="cd-icon cd-larger"
          tabIndex={tabIndex}
          title="Show the picture in full size"
          aria-label={`Show the picture of the ${name} in full size`}
          onClick={() => on.current.open(run)}
        >
          <Icon name="expand" />
        </button>
      )}
    </>
  );
}

type FrameProps = {
  media: Media;
  run: Pick<RunCard, "pictures" | "why" | "status" | "medium">;
  isSmall: boolean;
  tiles: number;
};

/** The picture of a run, or several; without one, why it failed or waits, or the kind of its outputs. */
function Frame({ media, run, isSmall, tiles }: FrameProps) {
  const [isGone, setGone] = useState(false);
  const [picture] = run.pictures;
  const shown = run.pictures.slice(0, tiles);
  const side = tiles > 1 && shown.length === 1 ? LARGE_SIDE : SIDE;
  const instead = () => {
    if (picture) return <span>{isSmall ? "–" : "gone"}</span>;
    if (!isSmall && run.why) return <span class="cd-why">{run.why}</span>;
    if (run.status === "success") return <span>{run.medium || (isSmall ? "–" : "no output")}</span>;
    if (!run.status) return null; // a batch that goes on
    return <Icon name={run.status === "cancelled" ? "ban" : "exclamation-triangle"} />;
  };
  const more = run.pictures.length - shown.length;
  return (
    <span class={`cd-frame${shown.length > 1 ? " cd-mosaic" : ""}`}>
      {picture && !isGone
        ? shown.map((file) => (
            <Picture
              key={file.query}
              media={media}
              query={file.query}
              side={file.small ? side : 0}
              alt=""
              dragged={file}
              failed={() => setGone(true)}
            />
          ))
        : instead()}
      {more > 0 && !isSmall && <span class="cd-tag cd-more-pictures">+{more}</span>}
    </span>
  );
}

/** The pictures of batches that were in the page: an entry may leave it and come again. */
const kept = new WeakMap<Transport, Map<string, Promise<ShownFile[]>>>();

/** Return the first pictures of a batch of which so many points have succeeded. */
function picturesOf(transport: Transport, batch_id: string, done: number): Promise<ShownFile[]> {
  const all = kept.get(transport) ?? new Map<string, Promise<ShownFile[]>>();
  kept.set(transport, all);
  if (all.size > MOST_KEPT) all.clear();
  const key = `${batch_id} ${done}`;
  const query = { batch_id, limit: TILES, count: false };
  const found =
    all.get(key) ??
    transport.get<RunCards>("runs/cards", query).then(
      ({ runs }) => runs.flatMap((run) => run.pictures.slice(0, 1)),
      () => {
        all.delete(key);
        return []; // the entry goes without pictures
      },
    );
  all.set(key, found);
  return found;
}

type BatchEntryProps = AnyProps & { transport: Transport; batch: Batch };

/** A batch as a card or as a row of the table: its first pictures and its state. */
export function BatchEntry({ transport, batch, isTable, isChosen, tabIndex, on }: BatchEntryProps) {
  const root = useRef<HTMLButtonElement>(null);
  const [known, setKnown] = useState(batch);
  const [pictures, setPictures] = useState<ShownFile[]>([]);
  const { batch_id } = batch;
  const isOver = known.finished_at !== null;
  const wake = usePolling(root, async (signal) => {
    if (isOver) return NEVER;
    const path = `batch/${encodeURIComponent(batch_id)}`;
    setKnown(await transport.get<Batch>(path, { axes: false }, signal));
    return LOOK;
  });
  useEffect(() => {
    setKnown(batch);
    wake();
  }, [batch]);
  const done = known.counts.success ?? 0;
  useEffect(() => {
    let isGone = false;
    picturesOf(transport, batch_id, Math.min(done, TILES)).then(
      (found) => isGone || setPictures(found),
    );
    return () => {
      isGone = true;
    };
  }, [transport, batch_id, Math.min(done, TILES)]);
  const shown = { pictures, why: known.why, status: isOver ? "success" : "", medium: "" as const };
  return (
    <button
      ref={root}
      type="button"
      class="cd-run cd-main cd-batch"
      tabIndex={tabIndex}
      title={[known.title, headline(known)].filter(Boolean).join("\n")}
      aria-expanded={isChosen}
      onClick={() => on.current.toggle(batch_id)}
    >
      <span class="cd-unseen">batch of </span>
      <Frame media={mediaOf(transport)} run={shown} isSmall={isTable} tiles={isTable ? 1 : TILES} />
      <span class="cd-when">{formatTime(batch.created_at)}</span>
      <span class="cd-status">
        <Icon name="clone" /> {headline(known)}
      </span>
      {isTable && <span class="cd-number" />}
      {isTable && (
        <span class="cd-cut cd-faint" dir="auto">
          {known.title}
        </span>
      )}
    </button>
  );
}

type OpenBatchProps = {
  transport: Transport;
  batchId: string;
  onDelete: (batchId: string, which: { runs: boolean; files: boolean }) => void;
  onClose: () => void;
};

/** An open batch: its sheet. */
export function OpenBatch({ transport, batchId, onDelete, onClose }: OpenBatchProps) {
  const [batch, setBatch] = useState<Batch | null>(null);
  const [isAsked, setAsked] = useState(false);
  return (
    <div class="cd-rows">
      <BatchSheet transport={transport} batch={batchId} onBatch={setBatch} onGone={onClose} />
      <div class="cd-line">
        <Button
          label="Delete the batch …"
          icon="trash-o"
          hint={batch?.finished_at ? "" : "Stop it first"}
          disabled={!batch?.finished_at}
          onClick={() => setAsked(true)}
        />
        <Button label="Close" icon="times" onClick={onClose} />
      </div>
      {isAsked && batch && (
        <DeleteBatch batch={batch} onDelete={onDelete} onClose={() => setAsked(false)} />
      )}
    </div>
  );
}

type DeleteProps = { batch: Batch; onDelete: OpenBatchProps["onDelete"]; onClose: () => void };

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
