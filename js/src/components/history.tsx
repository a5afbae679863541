/** The earlier runs of a workflow, or of all workflows, newest first. */

import type { ReadonlySignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { counted, formatBytes, messageOf } from "../format.ts";
import { mediaOf } from "../media.tsx";
import { type Difference, formatTime, type RunCard, type ShownFile } from "../shown_runs.ts";
import { isBatch, keyOf, type Listed, RunList } from "../state/run_list.ts";
import type { Transport } from "../transport.ts";
import { AboutRun, type Marks, type RunActions } from "./about_run.tsx";
import { Comparison } from "./comparison.tsx";
import { BatchEntry, Entry, type EntryActions, nameOf, OpenBatch } from "./entries.tsx";
import { EVERYTHING, Filters, isFiltered, SUCCESSFUL } from "./filters.tsx";
import { Gallery, useDetails } from "./gallery.tsx";
import {
  Button,
  Checkbox,
  Dialog,
  ErrorBox,
  IconButton,
  NEVER,
  Question,
  usePolling,
} from "./ui.tsx";
import { Viewer } from "./viewer.tsx";
import { Wall } from "./wall.tsx";

const MOST_WORKFLOWS = 1000;
const MADE = 500; // entries that are kept while they are not in the page
const CARD = { height: 196, gap: 8, leastWidth: 160, rows: 2 };
const LARGE_CARD = { height: 268, gap: 8, leastWidth: 220, rows: null };
const ROW = { height: 44, gap: 0, leastWidth: 0, rows: 12 };

type HistoryProps = {
  transport: Transport;
  /** The hash of the workflow, as its form says it; without it, the runs of all workflows. */
  structure?: string;
  /** Whether `revision` tells all changes, so that nothing is looked for without it. */
  isTold?: boolean;
  /** Whether it is a gallery: large pictures of the runs that have succeeded. */
  isGallery?: boolean;
  /** The run that is shown elsewhere. */
  chosen?: string | null;
  /** The key and the label of each input of a form that takes a picture. */
  inputs?: [string, string][];
  /** Changes when a run has ended, which is then shown at once. */
  revision?: unknown;
  /** Changes with the form: what was said about its values is no longer true then. */
  edits?: ReadonlySignal<unknown> | undefined;
  onShow?: (promptId: string) => void;
  /** Open the workflow of a run with its values; returns what to say about it. */
  onOpen?: ((run: RunCard) => Promise<string>) | undefined;
  /** Put the values of a run into the form; returns what to say about it. */
  onReuse?: (promptId: string) => Promise<string> | string;
  /** Use a picture as the value of an input; returns what to say about it. */
  onUse?: (file: ShownFile, key: string) => Promise<string> | string;
};

type Notice = { text: string; isProblem: boolean; isOfForm?: boolean };
type Opened = { promptId: string; query: string };

/** The reply of `runs/delete`. */
type Deletion = {
  runs: number;
  files: number;
  bytes: number;
  kept: { reason: string }[];
  kept_count: number;
};

export function History(props: HistoryProps) {
  const { transport, structure, isGallery = false, chosen = null, inputs = [] } = props;
  const { isTold = false } = props;
  const { revision, edits } = props;
  const base = isGallery ? SUCCESSFUL : EVERYTHING;
  const media = mediaOf(transport);
  const root = useRef<HTMLDivElement>(null);
  const list = useMemo(() => new RunList(transport, structure, base), [transport, structure, base]);
  const workflows = useWorkflows(transport, structure === undefined);
  const [isOpen, setOpen] = useState(true);
  const [isTable, setTable] = useState(isTold);
  const [isLarge, setLarge] = useState(false);
  const [selected, setSelected] = useState(new Map<string, RunCard>());
  const [notice, setNotice] = useState<Notice | null>(null);
  const [opened, setOpened] = useState<Opened | null>(null);
  const [viewed, setViewed] = useState<RunCard | null>(null); // one without pictures
  const [asked, setAsked] = useState<Asked | null>(null);
  const [turn, setTurn] = useState(0); // of the list, which begins at its top again
  const [compared, setCompared] = useState<[RunCard, RunCard] | null>(null);
  useEffect(() => {
    setSelected(new Map());
    setNotice(null);
    setOpened(null);
    setOpenBatch(null);
    return () => list.end();
  }, [list]);
  const wake = usePolling(root, async (signal) => {
    if (!isOpen) return NEVER;
    const pause = await list.poll(signal);
    return isTold && list.count >= 0 ? NEVER : pause;
  });
  useEffect(wake, [list, isOpen]);
  const [openBatch, setOpenBatch] = useState<string | null>(null);
  const removeBatch = async (batchId: string, which: { runs: boolean; files: boolean }) => {
    await act(async () => {
      const path = `batch/${encodeURIComponent(batchId)}`;
      return reportOf(await transport.request<Deletion>("DELETE", path, { query: which }));
    });
    setOpenBatch(null);
    list.refresh();
  };
  const isFirst = useRef(true);
  useEffect(() => {
    if (!isFirst.current) list.refresh();
    if (!isFirst.current && isTold) wake();
    isFirst.current = false;
  }, [revision]);
  useEffect(
    () => edits?.subscribe(() => setNotice((said) => (said?.isOfForm ? null : said))),
    [edits],
  );
  list.revision.value; // this is shown again when it changes

  /** Do something that takes a while, and say what came of it. */
  const act = async (action: () => Promise<string> | string, isOfForm = false) => {
    try {
      setNotice({ text: await action(), isProblem: false, isOfForm });
    } catch (error) {
      setNotice({ text: messageOf(error), isProblem: true });
    }
  };
  const mark = (runs: RunCard[], marks: Marks) =>
    act(async () => {
      const prompt_ids = runs.map((run) => run.prompt_id);
      try {
        await transport.post("runs/update", { prompt_ids, ...marks });
        list.change(prompt_ids, marks);
      } finally {
        list.refresh(); // one may have been deleted in the meantime
      }
      return "";
    });
  const remove = async (which: object, files: boolean) => {
    setNotice({ text: "Deleting …", isProblem: false });
    try {
      const done = await transport.post<Deletion>("runs/delete", { ...which, files });
      setNotice({ text: reportOf(done), isProblem: done.kept_count > 0 });
      setSelected(new Map());
    } catch (error) {
      setNotice({ text: `Not deleted: ${messageOf(error)}`, isProblem: true });
    }
    list.refresh();
  };
  const askAbout = (runs: RunCard[]) => {
    const [run] = runs;
    if (!run) return;
    const prompt_ids = runs.map((each) => each.prompt_id);
    const what = runs.length === 1 ? `the ${nameOf(run)}` : counted(runs.length, "run");
    setAsked({ text: `Delete ${what}?`, which: { prompt_ids } });
  };
  const askAboutFailed = () => {
    const text = structure
      ? "Delete all failed runs of this workflow?"
      : "Delete all failed runs of all workflows?";
    setAsked({ text, which: { status: "failed", ...(structure && { structure }) } });
  };
  const select = (run: RunCard, isSelected: boolean) => {
    const next = new Map(selected);
    if (isSelected) next.set(run.prompt_id, run);
    else next.delete(run.prompt_id);
    setSelected(next);
  };
  const { onOpen, onReuse, onUse, onShow } = props;
  const actions: RunActions = {
    reuse: onReuse && ((run) => act(() => onReuse(run.prompt_id), true)),
    use: onUse && ((file, key) => act(() => onUse(file, key), true)),
    show: onShow && ((run) => onShow(run.prompt_id)),
    open: onOpen && ((run) => act(() => onOpen(run))),
    mark: (run, marks) => mark([run], marks),
    remove: (run) => askAbout([run]),
  };
  const filter = list.filter.value;
  const count = Math.max(0, list.count);
  const layout = isTable ? ROW : isGallery ? LARGE_CARD : CARD;
  const open = (run: RunCard) => {
    const [file] = run.pictures;
    if (file) setOpened({ promptId: run.prompt_id, query: file.query });
    else setViewed(run);
  };
  const on = useRef<EntryActions>(null as unknown as EntryActions);
  on.current = {
    open,
    show: onShow ? (run) => onShow(run.prompt_id) : open,
    mark: actions.mark,
    select,
    remove: actions.remove,
    toggle: (batchId) => setOpenBatch((now) => (now === batchId ? null : batchId)),
  };
  // While the list scrolls, entries that stay in it are not made again.
  const made = useRef(new Map<string, { facts: unknown[]; entry: ComponentChildren }>());
  const entryOf = (listed: Listed, tabIndex: number) => {
    const key = keyOf(listed);
    const isChosen = key === (isBatch(listed) ? openBatch : chosen);
    const isSelected = selected.has(key);
    const facts = [listed, tabIndex, isChosen, isSelected, isTable];
    const known = made.current.get(key);
    if (known?.facts.every((fact, place) => fact === facts[place])) return known.entry;
    if (made.current.size > MADE) made.current.clear();
    const parts = { isTable, isChosen, isGallery, tabIndex, on };
    const isOfAny = structure === undefined;
    const entry = isBatch(listed) ? (
      <BatchEntry {...parts} transport={transport} batch={listed} />
    ) : (
      <Entry {...parts} {...{ media, run: listed, isSelected, isOfAny }} />
    );
    made.current.set(key, { facts, entry });
    return entry;
  };
  const openPlace = openBatch === null ? -1 : list.placeOf(openBatch);
  const isHidden = list.isEmpty && !list.problem.value && !notice?.text;
  return (
    <div ref={root} class={`comfydeploy-view comfydeploy-history${isLarge ? " cd-large" : ""}`}>
      {!isHidden && (
        <details open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
          <summary>
            {isGallery ? "Gallery" : "History"}
            {list.count < 0 ? "" : ` (${count.toLocaleString()})`}
          </summary>
          <div class="cd-line cd-top">
            <Filters
              filter={filter}
              labels={list.labels.value}
              workflows={workflows}
              base={base}
              onChange={(next) => {
                setSelected(new Map());
                list.choose(next);
              }}
            />
            <IconButton
              icon={isTable ? "th" : "list"}
              label={isTable ? "Show the runs as cards" : "Show the runs as a table"}
              onClick={() => setTable(!isTable)}
            />
            {!isGallery && (
              <IconButton
                icon={isLarge ? "compress" : "expand"}
                label={isLarge ? "Make the list smaller" : "Make the list larger"}
                pressed={isLarge}
                onClick={() => setLarge(!isLarge)}
              />
            )}
            <IconButton
              icon="refresh"
              label="Refresh the list of runs"
              onClick={() => list.refresh()}
            />
          </div>
          <ErrorBox text={list.problem.value} />
          <Selection
            runs={[...selected.values()].map((run) => list.find(run.prompt_id) ?? run)}
            hasFailed={list.loaded().some(({ status }) => status === "failed")}
            onReuse={actions.reuse}
            onMark={mark}
            onRemove={askAbout}
            onRemoveFailed={askAboutFailed}
            onCompare={(first, second) => setCompared([first, second])}
            onNone={() => setSelected(new Map())}
          />
          <div
            class={`cd-message${notice?.isProblem ? " cd-problem-text" : ""}`}
            role="status"
            aria-live="polite"
          >
            {notice?.text}
          </div>
          {list.count === 0 && isFiltered(filter) && (
            <div class="cd-faint">
              {isFiltered(filter, base) ? "No runs match." : "The results of all runs appear here."}
            </div>
          )}
          {list.hasNewer.value && (
            <div class="cd-line cd-newer">
              <Button label="Show newer runs" icon="arrow-up" onClick={() => setTurn(turn + 1)} />
            </div>
          )}
          {count > 0 && (
            <Wall
              // one of another layout begins at its top
              key={`${turn} ${isTable} ${JSON.stringify(filter)}`}
              class={isTable ? "cd-table" : ""}
              label="Earlier runs"
              count={count}
              {...layout}
              rows={isLarge || isGallery ? null : layout.rows}
              keyOf={(place) => {
                const listed = list.at(place);
                return listed ? keyOf(listed) : `place ${place}`;
              }}
              onRange={(first, end, isAtTop) => list.need(first, end, isAtTop)}
              opened={
                openBatch !== null && openPlace >= 0
                  ? {
                      place: openPlace,
                      key: openBatch,
                      content: (
                        <OpenBatch
                          key={openBatch}
                          transport={transport}
                          batchId={openBatch}
                          onDelete={removeBatch}
                          onClose={() => setOpenBatch(null)}
                        />
                      ),
                    }
                  : null
              }
              render={(place, tabIndex) => {
                const listed = list.at(place);
                if (!listed) return <div class="cd-run cd-main cd-faint" tabIndex={tabIndex} />;
                return entryOf(listed, tabIndex);
              }}
            />
          )}
        </details>
      )}
      {opened && (
        <RunViewer
          {...{ transport, list, inputs, actions, opened }}
          onClose={() => setOpened(null)}
        />
      )}
      {viewed && (
        <Dialog
          label={`The ${nameOf(viewed)}`}
          class="cd-dialog cd-wide-dialog"
          onClose={() => setViewed(null)}
        >
          <RunOutputs
            transport={transport}
            promptId={viewed.prompt_id}
            onClose={() => setViewed(null)}
          />
        </Dialog>
      )}
      {compared && (
        <CompareDialog
          transport={transport}
          before={compared[0]}
          after={compared[1]}
          onClose={() => setCompared(null)}
        />
      )}
      {asked && <DeleteDialog question={asked} onDelete={remove} onClose={() => setAsked(null)} />}
    </div>
  );
}

/** Return what was deleted, and the first reasons why something was kept. */
function reportOf({ runs, files, bytes, kept }: Deletion): string {
  const size = files ? ` (${formatBytes(bytes)})` : "";
  const reasons = [...new Set(kept.map(({ reason }) => reason))];
  const why = reasons.length
    ? ` Kept: ${reasons.slice(0, 3).join("; ")}${reasons.length > 3 ? " …" : ""}.`
    : "";
  return `${counted(runs, "run")} and ${counted(files, "file")}${size} deleted.${why}`;
}

type SelectionProps = {
  runs: RunCard[];
  hasFailed: boolean;
  onReuse: ((run: RunCard) => void) | undefined;
  onMark: (runs: RunCard[], marks: Marks) => void;
  onRemove: (runs: RunCard[]) => void;
  onRemoveFailed: () => void;
  onCompare: (first: RunCard, second: RunCard) => void;
  onNone: () => void;
};

/** What can be done with the selected runs; without any, with the failed ones. */
function Selection({ runs, hasFailed, onReuse, ...on }: SelectionProps) {
  const [first, second] = runs;
  if (!first) {
    return (
      <div class="cd-line cd-selection">
        {hasFailed && (
          <Button label="Delete all failed …" icon="trash-o" onClick={on.onRemoveFailed} />
        )}
      </div>
    );
  }
  const areAll = runs.every(({ pinned }) => pinned);
  const haveAll = runs.every(({ starred }) => starred);
  const isTwo = runs.length === 2;
  const byTime = [...runs].sort((a, b) => a.created_at.localeCompare(b.created_at));
  const why = isTwo ? "" : "Two runs can be compared: select exactly two.";
  return (
    <div class="cd-line cd-selection">
      <b>{counted(runs.length, "run")} selected</b>
      <Button
        label="Compare"
        icon="columns"
        hint={why}
        disabled={!isTwo}
        onClick={() => byTime[0] && byTime[1] && on.onCompare(byTime[0], byTime[1])}
      />
      {onReuse && !second && (
        <Button label="Use these values" icon="reply" onClick={() => onReuse(first)} />
      )}
      <Button
        label={haveAll ? "Remove the stars" : "Star"}
        icon={haveAll ? "star" : "star-o"}
        onClick={() => on.onMark(runs, { starred: !haveAll })}
      />
      <Button
        label={areAll ? "Unpin" : "Pin"}
        icon="thumb-tack"
        onClick={() => on.onMark(runs, { pinned: !areAll })}
      />
      <Button label="Delete …" icon="trash-o" onClick={() => on.onRemove(runs)} />
      <Button label="Select none" icon="times" onClick={on.onNone} />
      {why && <span class="cd-faint">{why}</span>}
    </div>
  );
}

/** The ids and names of the stored workflows; none while they are not wanted. */
function useWorkflows(transport: Transport, areWanted: boolean): [string, string][] {
  const [found, setFound] = useState<[string, string][]>([]);
  useEffect(() => {
    if (!areWanted) return;
    const stop = new AbortController();
    type Listed = { id: string; name: string | null }[];
    transport.get<Listed>("workflows", { limit: MOST_WORKFLOWS }, stop.signal).then(
      (all) => setFound(all.map(({ id, name }) => [id, name ?? id])),
      () => {}, // the list of runs says what is wrong
    );
    return () => stop.abort();
  }, [transport, areWanted]);
  return found;
}

// -- dialogs ---------------------------------------------------------------------------------------

type RunOutputsProps = { transport: Transport; promptId: string; onClose: () => void };

/** The outputs of a run that has no pictures. */
function RunOutputs({ transport, promptId, onClose }: RunOutputsProps) {
  const { run, problem } = useDetails(transport, promptId);
  return (
    <div class="cd-rows">
      <div class="cd-line cd-end">
        <IconButton icon="times" label="Close" onClick={onClose} />
      </div>
      {run && <Gallery transport={transport} run={run} />}
      <ErrorBox text={problem} />
    </div>
  );
}

type RunViewerProps = {
  transport: Transport;
  list: RunList;
  inputs: [string, string][];
  actions: RunActions;
  opened: Opened;
  onClose: () => void;
};

/** The pictures of the loaded runs in full size, each with its run. */
function RunViewer({ transport, list, inputs, actions, opened, onClose }: RunViewerProps) {
  const [pictures] = useState(() =>
    list.loaded().flatMap((run) => run.pictures.map((file) => ({ run, file }))),
  );
  const start = pictures.findIndex(
    ({ run, file }) => run.prompt_id === opened.promptId && file.query === opened.query,
  );
  list.revision.value;
  const runAt = (place: number) => {
    const known = pictures[place]?.run;
    return known && (list.find(known.prompt_id) ?? known);
  };
  /** The effects of an action are visible behind the picture. */
  const after =
    <Rest extends unknown[]>(action: ((...rest: Rest) => void) | undefined) =>
    (...rest: Rest) => {
      onClose();
      action?.(...rest);
    };
  const closing: RunActions = {
    reuse: actions.reuse && after(actions.reuse),
    use: actions.use && after(actions.use),
    show: actions.show && after(actions.show),
    open: actions.open && after(actions.open),
    mark: actions.mark,
    remove: after(actions.remove),
  };
  return (
    <Viewer
      media={mediaOf(transport)}
      pictures={pictures.map(({ file }) => file)}
      start={Math.max(0, start)}
      onClose={onClose}
      name={(place) => {
        const run = pictures[place]?.run;
        return run ? `run of ${formatTime(run.created_at, true)}` : "";
      }}
      onKey={(key, place) => {
        const run = runAt(place);
        if (!run || key.toLowerCase() !== "s") return false;
        actions.mark(run, { starred: !run.starred });
        return true;
      }}
      beside={(file, place) => {
        const run = runAt(place);
        if (!run) return null;
        return <AboutRun {...{ transport, run, file, inputs }} actions={closing} />;
      }}
    />
  );
}

/** What is to be deleted, in words and as fields of `runs/delete`. */
type Asked = { text: string; which: object };

type DeleteProps = {
  question: Asked;
  onDelete: (which: object, files: boolean) => void;
  onClose: () => void;
};

function DeleteDialog({ question, onDelete, onClose }: DeleteProps) {
  const [files, setFiles] = useState(false);
  return (
    <Question
      title={question.text}
      action="Delete"
      danger
      onConfirm={() => {
        onClose();
        onDelete(question.which, files);
      }}
      onClose={onClose}
    >
      <Checkbox
        label="Delete their output files from the disk, too"
        value={files}
        onChange={setFiles}
      />
      <div class="cd-faint">
        Pinned runs stay. Files stay if another run, a workflow or an upload uses them.
      </div>
    </Question>
  );
}

type CompareProps = {
  transport: Transport;
  before: RunCard;
  after: RunCard;
  onClose: () => void;
};

/** Two runs: their pictures, and the values that differ. */
function CompareDialog({ transport, before, after, onClose }: CompareProps) {
  const media = mediaOf(transport);
  const [place, setPlace] = useState(0);
  const [found, setFound] = useState<Difference[] | string | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    const query = { first: before.prompt_id, second: after.prompt_id };
    transport
      .get<{ differences: Difference[] }>("runs/differences", query, stop.signal)
      .then(({ differences }) => setFound(differences))
      .catch((error) => !stop.signal.aborted && setFound(messageOf(error)));
    return () => stop.abort();
  }, [before.prompt_id, after.prompt_id]);
  const runs = [before, after];
  const times = runs.map((run) => formatTime(run.created_at, true));
  const count = Math.max(before.pictures.length, after.pictures.length);
  const canTurn = count > 1 && runs.every(({ pictures }) => pictures.length > 0);
  const turn = (by: number) => canTurn && setPlace((place + by + count) % count);
  // A run with fewer pictures keeps its last one.
  const places = runs.map(({ pictures }) => Math.min(place, pictures.length - 1));
  const [old, present] = runs.map(({ pictures }, side) => pictures[places[side] ?? 0]);
  const position =
    before.pictures.length === after.pictures.length
      ? `Picture ${place + 1} of ${count}`
      : `Before: picture ${(places[0] ?? 0) + 1} of ${before.pictures.length}, ` +
        `after: picture ${(places[1] ?? 0) + 1} of ${after.pictures.length}`;
  return (
    <Dialog
      label={`Run of ${times[0]} (before) and run of ${times[1]} (after)`}
      class="cd-dialog cd-wide-dialog"
      onClose={onClose}
      onKeyDown={({ key, altKey, ctrlKey, metaKey }) => {
        // A slider handles these keys itself; with Alt, Ctrl or Meta they are the browser's.
        if (altKey || ctrlKey || metaKey) return;
        if (key === "ArrowLeft") turn(-1);
        if (key === "ArrowRight") turn(1);
      }}
    >
      <div class="cd-line">
        <b class="cd-grow">
          Run of {times[0]} (before) and run of {times[1]} (after)
        </b>
        <IconButton icon="times" label="Close" onClick={onClose} />
      </div>
      <div class="cd-columns">
        <div class="cd-pair">
          {canTurn && (
            <fieldset class="cd-line" aria-label="Pictures of both runs">
              <IconButton
                icon="chevron-left"
                label="Previous pictures (left arrow key)"
                onClick={() => turn(-1)}
              />
              <span class="cd-faint" role="status">
                {position}
              </span>
              <IconButton
                icon="chevron-right"
                label="Next pictures (right arrow key)"
                onClick={() => turn(1)}
              />
            </fieldset>
          )}
          {old && present ? (
            <Comparison
              key={`${old.query} ${present.query}`}
              media={media}
              before={old}
              after={present}
            />
          ) : (
            <div>Not both of these runs have a picture.</div>
          )}
        </div>
        <div class="cd-differences">
          <Differences found={found} times={times} />
        </div>
      </div>
    </Dialog>
  );
}

function Differences({ found, times }: { found: Difference[] | string | null; times: string[] }) {
  if (found === null) return <span class="cd-faint">Comparing …</span>;
  if (typeof found === "string") return <div>{found}</div>;
  if (!found.length) return <div>All values are the same.</div>;
  const cell = (value: string, kind: string) => (
    <td dir="auto">
      {kind === "color" && /^#[0-9a-f]{6}$/.test(value) && (
        <span class="cd-swatch" aria-hidden="true" style={{ backgroundColor: value }} />
      )}
      {value}
    </td>
  );
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">
            <span class="cd-unseen">What differs</span>
          </th>
          <th scope="col">before: run of {times[0]}</th>
          <th scope="col">after: run of {times[1]}</th>
        </tr>
      </thead>
      <tbody>
        {found.map(({ text, first, second, kind }, place) =>
          first === null || second === null ? (
            <tr key={place}>
              <td colSpan={3} dir="auto">
                {text}
              </td>
            </tr>
          ) : (
            <tr key={place}>
              <th scope="row" dir="auto">
                {text}
              </th>
              {cell(first, kind)}
              {cell(second, kind)}
            </tr>
          ),
        )}
      </tbody>
    </table>
  );
}
