/** A batch: its progress, its points as a contact sheet, stars for the best, downloads. */

import { useSignal } from "@preact/signals";
import type { CSSProperties, VNode } from "preact";
import { useRef } from "preact/hooks";
import { formatDuration } from "../format.ts";
import { moveFocus } from "../gallery/move_focus.ts";
import { NO_PICTURES } from "../kernel.ts";
import { type Media, mediaOf, Picture } from "../media.tsx";
import { saveFile } from "../save_file.ts";
import type { Batch, ShownFile } from "../shown_runs.ts";
import { RouteError, ThroughKernel, type Transport } from "../transport.ts";
import { Bar } from "./progress.tsx";
import { BatchProof } from "./proof.tsx";
import { Button, ErrorBox, Icon, IconButton, Lost, Note, useFollowing, useTask } from "./ui.tsx";
import { Viewer } from "./viewer.tsx";

/** A point in words, as `batch/{batch_id}/table` has it. */
type Point = {
  point: number;
  label: string;
  values: string[];
  status: string;
  starred: boolean;
  seconds: number | null;
  files: string[];
  texts: string[];
  error: string;
  prompt_id: string;
  picture: ShownFile | null;
};

type Heads = { row_title: string; rows: string[]; column_title: string; columns: string[] };

type Table = { labels: string[]; heads: Heads; points: Point[] };

const RUNNING = 500; // ms between two requests
const STILL = 5000; // while nothing runs; another page or Python may continue the batch
const SHARE = 5; // times the duration of a request, after which the next one begins at the earliest
const MOST = 2000; // points that the page shows
const SIDE = 192; // pixels of a small copy
const [NARROWEST, WIDEST] = [2 / 3, 2]; // width of a cell by its height
const FINAL = ["success", "failed", "cancelled"];
const STATES: Record<Batch["state"], string> = {
  running: "Running",
  paused: "Paused",
  cancelled: "Cancelled",
  done: "Done",
};

type BatchSheetProps = {
  transport: Transport;
  /** The id of the batch; empty while it is being made. */
  batch: string;
  /** Called with the batch each time that it was looked at. */
  onBatch?: (batch: Batch) => void;
  /** What Python says of it, which knows while the page cannot ask. */
  status?: string;
  /** Called if it was deleted. */
  onGone?: () => void;
};

export function BatchSheet({
  transport,
  batch: batchId,
  onBatch,
  status,
  onGone,
}: BatchSheetProps) {
  const root = useRef<HTMLDivElement>(null);
  const media = mediaOf(transport);
  const batch = useSignal<Batch | null>(null);
  const table = useSignal<Table | null>(null);
  /** Stars that were set or removed here, and when the server had them: later tables have them, too. */
  const wanted = useSignal<ReadonlyMap<number, { starred: boolean; at: number }>>(new Map());
  /** Null: all points are shown; else those with a star, and these, which had one before. */
  const before = useSignal<ReadonlySet<number> | null>(null);
  const open = useSignal<number | null>(null); // the place of the point in the viewer
  const said = useSignal("");
  const order = useTask();
  const seen = useRef("");
  const id = encodeURIComponent(batchId);

  const { wake, lost } = useFollowing(root, async (signal) => {
    if (!batchId) return RUNNING; // Python has not made it yet
    const began = performance.now();
    const found = await transport
      .get<Batch>(`batch/${id}`, { axes: false }, signal)
      .catch((error) => {
        if (error instanceof RouteError && error.code === "not_found") onGone?.();
        throw error;
      });
    const mark = JSON.stringify([batchId, found.state, found.counts]);
    const isStill = found.finished_at !== null || found.state === "paused";
    if (mark !== seen.current || isStill) {
      const asked = performance.now();
      table.value = await transport.get<Table>(`batch/${id}/table`, { limit: MOST }, signal);
      wanted.value = new Map([...wanted.value].filter(([, { at }]) => at > asked));
      seen.current = mark;
    }
    batch.value = found;
    onBatch?.(found);
    return Math.max(isStill ? STILL : RUNNING, SHARE * (performance.now() - began));
  });

  const isSilent = Boolean(
    status && transport instanceof ThroughKernel && transport.isSilent.value,
  );
  const known = isSilent ? null : batch.value; // Python knows more
  const all = table.value?.points ?? [];
  const isStarred = (point: Point) => (wanted.value.get(point.point) ?? point).starred;
  const starred = all.filter(isStarred);
  const onlyStarred = before.value !== null;
  const shown = all.filter(
    (point) => !onlyStarred || before.value?.has(point.point) || isStarred(point),
  );
  const act = (action: string) =>
    order.run(async () => {
      batch.value = await transport.post<Batch>(`batch/${id}/${action}`);
      wake();
    });
  const star = (point: Point) => {
    if (!point.prompt_id) {
      said.value = `${point.label}: it has no run yet`;
      return;
    }
    const starred = !isStarred(point);
    const mine = { starred, at: Infinity };
    wanted.value = new Map(wanted.value).set(point.point, mine);
    said.value = `${point.label}: ${starred ? "star" : "no star"}`;
    order.run(async () => {
      try {
        await transport.post("runs/update", { prompt_ids: [point.prompt_id], starred });
        mine.at = performance.now();
      } catch (error) {
        wanted.value = new Map([...wanted.value].filter(([, each]) => each !== mine));
        throw error;
      }
      wake();
    });
  };
  const download = (kind: "sheet" | "table", format: string) =>
    order.run(async () => {
      const query = { format, starred: onlyStarred };
      const content = await transport.content(`batch/${id}/${kind}`, { query });
      const name = known?.title.replace(/[^\p{L}\p{N}_.-]+/gu, "-").slice(0, 60) || "batch";
      // with a mark of its encoding, for spreadsheets
      const parts = format === "csv" ? ["\ufeff", content] : [content];
      saveFile(`${name}.${format}`, new Blob(parts, { type: content.type }));
    });
  const count = (status: string) => known?.counts[status] ?? 0;
  const isOpen = known !== null && known.finished_at === null;
  // before it has points it can be tried again, too
  const wasCancelled = count("cancelled") > 0 || (known?.state === "cancelled" && !known.total);
  const mayGoOn = known?.state === "paused" || (!isOpen && wasCancelled);
  const isEmpty = !shown.length;
  return (
    <div class="cd-rows comfydeploy-sheet" ref={root} data-shows={batchId}>
      <span class="cd-unseen" role="status">
        {known ? headline(known) : ""}
      </span>
      <span class="cd-unseen" role="status">
        {said}
      </span>
      {known && (
        <>
          <div class="cd-line">
            <span class="cd-grow">{[headline(known), ...(known.notes ?? [])].join(" · ")}</span>
            {isOpen && known.state === "running" && (
              <Button
                label="Pause"
                icon="pause"
                hint="Start no further point; those that run go on"
                disabled={order.busy.value}
                onClick={() => act("pause")}
              />
            )}
            {isOpen && known.state !== "cancelled" && (
              <Button
                label="Stop"
                icon="stop"
                hint="Cancel the points that have not ended; they can be continued"
                disabled={order.busy.value}
                onClick={() => act("cancel")}
              />
            )}
            {mayGoOn && (
              <Button
                label="Continue"
                icon="play"
                hint="Run the points that have not run"
                primary
                disabled={order.busy.value}
                onClick={() => act("resume")}
              />
            )}
            {count("failed") > 0 && (
              <Button
                label={`Retry failed (${count("failed")})`}
                icon="refresh"
                disabled={order.busy.value}
                onClick={() => act("retry")}
              />
            )}
          </div>
          {known.why && <Note live>{known.why}</Note>}
          {isOpen && <Bar share={known.fraction} label="The batch" />}
          <div class="cd-line">
            <button
              type="button"
              class="cd-button"
              title="Show only the points with a star"
              aria-pressed={onlyStarred}
              disabled={!starred.length && !onlyStarred}
              onClick={() => {
                before.value = onlyStarred ? null : new Set(starred.map(({ point }) => point));
              }}
            >
              <Icon name="star" /> Starred only ({starred.length})
            </button>
            <Button
              label="PNG"
              icon="download"
              hint="Download the sheet as a picture"
              disabled={isEmpty || order.busy.value}
              onClick={() => download("sheet", "png")}
            />
            <Button
              label="CSV"
              icon="download"
              hint="Download the table for spreadsheets"
              disabled={isEmpty || order.busy.value}
              onClick={() => download("table", "csv")}
            />
          </div>
        </>
      )}
      {!known && status && <Note live>{status}</Note>}
      {isSilent && <Note>{NO_PICTURES}</Note>}
      {!known && !status && !lost.value && (
        <Note live>{batchId ? "Loading …" : "The batch is being made …"}</Note>
      )}
      <Lost error={lost.value} base={transport.base} />
      <ErrorBox text={order.error.value} />
      {onlyStarred && isEmpty && <Note>No point has a star.</Note>}
      {table.value && !isEmpty && (
        <Sheet
          media={media}
          points={shown}
          heads={onlyStarred ? null : table.value.heads}
          isStarred={isStarred}
          open={(place) => {
            open.value = place;
          }}
          star={star}
        />
      )}
      {known && known.finished_at !== null && count("success") > 0 && (
        <BatchProof
          transport={transport}
          batch={id}
          made={count("success")}
          nameOf={(number) => all.find(({ point }) => point === number)?.label || `Point ${number}`}
        />
      )}
      {known && known.total > all.length && all.length === MOST && (
        <Note>
          The first {MOST} of {known.total} points are shown; the table has all of them.
        </Note>
      )}
      {open.value !== null && shown[open.value] && (
        <Viewer
          media={media}
          pictures={shown.map(fileOf)}
          start={open.value}
          name={(place) => shown[place]?.label ?? ""}
          said={(place) => (shown[place]?.picture ? null : textOf(shown[place]))}
          beside={(_, place) => {
            const point = shown[place];
            if (!point || !table.value) return null;
            return (
              <About
                labels={table.value.labels}
                point={point}
                starred={isStarred(point)}
                star={() => star(point)}
              />
            );
          }}
          onKey={(key, place) => {
            const point = shown[place];
            const isStar = key.toLowerCase() === "s" && point !== undefined;
            if (isStar) star(point);
            return isStar;
          }}
          onClose={() => {
            open.value = null;
          }}
        />
      )}
    </div>
  );
}

/** Return the state of a batch on one line. */
export function headline({ state, counts, total, finished_at, time_left }: Batch): string {
  const done = FINAL.reduce((sum, status) => sum + (counts[status] ?? 0), 0);
  const parts = [`${STATES[state] ?? state}: ${done} of ${total} points`];
  for (const status of ["failed", "cancelled"]) {
    if (counts[status]) parts.push(`${counts[status]} ${status}`);
  }
  if (!finished_at && state === "running" && time_left) {
    parts.push(`${formatDuration(time_left)} left`);
  }
  return parts.join(" · ");
}

/** Return what is shown of a point that has no picture. */
function textOf(point: Point | undefined): string {
  if (!point) return "";
  if (!FINAL.includes(point.status)) return point.status === "running" ? "running" : "waiting";
  if (point.status !== "success") return point.error || point.status;
  return [...point.texts, ...point.files].join("\n") || "no output";
}

/** Return the picture of a point; without one, a file that has only a name. */
function fileOf({ picture, label }: Point): ShownFile {
  return (
    picture ?? { name: label, kind: "file", query: "", small: false, width: null, height: null }
  );
}

type AboutProps = { labels: string[]; point: Point; starred: boolean; star: () => void };

/** What stands beside the picture of a point: its values, and its star. */
function About({ labels, point, starred, star }: AboutProps) {
  const rows: [string, string][] = labels.map((label, place) => [label, point.values[place] ?? ""]);
  rows.push(["Point", String(point.point)], ["Status", point.status]);
  if (point.seconds !== null) rows.push(["Took", formatDuration(point.seconds)]);
  return (
    <div class="cd-about">
      <dl>
        {rows.map(
          ([name, value]) =>
            value && (
              <>
                <dt dir="auto">{name}</dt>
                <dd dir="auto">{value}</dd>
              </>
            ),
        )}
      </dl>
      <div class="cd-line">
        <button
          type="button"
          class="cd-button"
          title="Key S"
          aria-pressed={starred}
          disabled={!point.prompt_id}
          onClick={star}
        >
          <Icon name={starred ? "star" : "star-o"} />{" "}
          {starred ? "Remove the star" : "Give it a star"}
        </button>
      </div>
    </div>
  );
}

type SheetProps = {
  media: Media;
  points: Point[];
  /** Null: each point has its values below it. */
  heads: Heads | null;
  isStarred: (point: Point) => boolean;
  open: (place: number) => void;
  star: (point: Point) => void;
};

/** The points as a table if they have headings, else one after another with their values. */
function Sheet({ media, points, heads, isStarred, open, star }: SheetProps) {
  const active = useSignal(0);
  const ratio = useSignal(0); // all cells have the shape of the first picture
  const style = (ratio.value ? { "--cd-ratio": String(ratio.value) } : {}) as CSSProperties;
  const reached = points[active.value] ? active.value : 0;
  const cell = (point: Point, place: number) => (
    <Cell
      media={media}
      point={point}
      starred={isStarred(point)}
      tabbed={place === reached}
      open={() => open(place)}
      star={() => star(point)}
      focused={() => {
        active.value = place;
      }}
      measured={({ naturalWidth, naturalHeight }) => {
        if (ratio.value || !naturalHeight) return;
        ratio.value = Math.max(NARROWEST, Math.min(WIDEST, naturalWidth / naturalHeight));
      }}
    />
  );
  const onKeyDown = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const point = points[reached];
    if (event.key.toLowerCase() === "s" && point) {
      event.preventDefault();
      event.stopPropagation();
      star(point);
    } else moveFocus(event.currentTarget, event);
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys are those of the buttons in it
    <div class="cd-sheet" style={style} onKeyDown={onKeyDown}>
      {heads?.columns.length ? (
        <Grid heads={heads} cells={points.map(cell)} />
      ) : (
        <ul class="cd-points">
          {points.map((point, place) => (
            <li key={point.point}>
              {cell(point, place)}
              <div class="cd-caption" dir="auto" title={point.label}>
                {point.label}
              </div>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function Grid({ heads, cells }: { heads: Heads; cells: VNode[] }) {
  const { columns, column_title, rows, row_title } = heads;
  const width = columns.length;
  const starts = (rows.length ? rows : [""]).map((_, row) => row * width);
  return (
    <table>
      <thead>
        <tr>
          {rows.length > 0 && <td />}
          <th scope="colgroup" colSpan={width} dir="auto" title={column_title}>
            <span>{column_title}</span>
          </th>
        </tr>
        <tr>
          {rows.length > 0 && <Head text={row_title} scope="col" />}
          {columns.map((text, place) => (
            <Head key={place} text={text} scope="col" />
          ))}
        </tr>
      </thead>
      <tbody>
        {starts
          .filter((start) => start < cells.length)
          .map((start, row) => (
            <tr key={start}>
              {rows.length > 0 && <Head text={rows[row] ?? ""} scope="row" />}
              {cells.slice(start, start + width).map((cell, place) => (
                <td key={place}>{cell}</td>
              ))}
            </tr>
          ))}
      </tbody>
    </table>
  );
}

function Head({ text, scope }: { text: string; scope: "row" | "col" }) {
  return (
    <th scope={scope} dir="auto" title={text}>
      <span>{text}</span>
    </th>
  );
}

type CellProps = {
  media: Media;
  point: Point;
  starred: boolean;
  /** Whether the Tab key reaches it. */
  tabbed: boolean;
  open: () => void;
  star: () => void;
  focused: () => void;
  measured: (image: HTMLImageElement) => void;
};

/** One point: its picture or a text, and its star. */
function Cell(props: CellProps) {
  const { media, point, starred, tabbed, open, star, focused, measured } = props;
  const isGone = useSignal("");
  const { picture, label, status } = point;
  const tabIndex = tabbed ? 0 : -1;
  return (
    <div class={`cd-point cd-is-${status}`} onFocusIn={focused}>
      <button
        type="button"
        class="cd-picture-button"
        title={label}
        aria-label={`${label}: ${status}`}
        tabIndex={tabIndex}
        onClick={open}
      >
        {picture && isGone.value !== picture.query ? (
          <Picture
            media={media}
            query={picture.query}
            side={SIDE}
            alt={label}
            loaded={measured}
            dragged={picture}
            failed={() => {
              isGone.value = picture.query;
            }}
          />
        ) : (
          <span class="cd-says" dir="auto">
            {picture ? "The picture is not available any more" : textOf(point)}
          </span>
        )}
      </button>
      <IconButton
        class="cd-star"
        icon={starred ? "star" : "star-o"}
        label={`${starred ? "Remove the star of" : "Give a star to"} ${label}`}
        pressed={starred}
        disabled={!point.prompt_id}
        tabIndex={tabIndex}
        onClick={star}
      />
    </div>
  );
}
