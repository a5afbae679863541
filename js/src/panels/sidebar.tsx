/** What the server does: what runs and waits, batches, transfers, machines, and what is done. */

import { useSignal } from "@preact/signals";
import { useRef, useState } from "preact/hooks";
import { headline } from "../components/batch_sheet.tsx";
import { History } from "../components/history.tsx";
import { Log, stateWords } from "../components/machine_strip.tsx";
import { Bar } from "../components/progress.tsx";
import { TransferRow } from "../components/transfers.tsx";
import { Button, ErrorBox, IconButton, Link, State, useTask } from "../components/ui.tsx";
import { Wall } from "../components/wall.tsx";
import { counted, formatBytes, formatDuration } from "../format.ts";
import type { Batch } from "../shown_runs.ts";
import {
  type Known,
  type Machine,
  type OpenRun,
  openRuns,
  whyDefaultIsDown,
} from "../state/overview.ts";
import type { PanelProps } from "../state/traits.ts";
import { isOpen, ofServer, type ServerTransfer } from "../transfers/transfer.ts";
import type { Transport } from "../transport.ts";

const ROW = 58; // pixels of a run
const ROWS = 8; // runs that are visible at most; the others by scrolling
const BATCHES = 20;
const QUEUE_DRAG = "application/x-comfydeploy-queue"; // the type of a run that waits

/** What the page around it does. */
export type SidebarHost = {
  /** Called with the places of the runs that are shown. */
  watch: (first: number, count: number) => void;
  openRun: (promptId: string) => void;
  openBatch: (batchId: string, title: string) => void;
  connect: () => void;
};

type Shared = { known: Known; host: SidebarHost };

export function Sidebar({ transport, traits }: PanelProps<Shared>) {
  const { value: known } = traits.known;
  const { value: host } = traits.host;
  const { link, problem, server, batches = [], transfers = [], machines = [] } = known;
  const shown = transfers.filter((each) => isOpen(each) || each.state === "failed");
  if (!server) {
    if (link === "connecting") return <div class="cd-faint">Connecting …</div>;
    return <Problem {...{ known, host, base: transport.base }} />;
  }
  return (
    <div class="cd-sidebar cd-rows">
      {problem && <Problem {...{ known, host, base: transport.base }} />}
      <DownBox transport={transport} known={known} />
      <OpenRuns transport={transport} known={known} host={host} />
      <Section title="Batches" count={batches.length}>
        <ul class="cd-plain">
          {batches.slice(0, BATCHES).map((batch) => (
            <BatchRow key={batch.batch_id} {...{ transport, batch, host }} />
          ))}
        </ul>
      </Section>
      <Section title="Transfers" count={shown.length}>
        <Transfers transport={transport} transfers={shown} />
      </Section>
      <Section title="Machines" count={machines.length} isOpen>
        <ul class="cd-plain">
          {machines.map((machine) => (
            <MachineRow key={machine.id} transport={transport} machine={machine} />
          ))}
        </ul>
      </Section>
      <History
        transport={transport}
        isTold
        revision={`${known.opened} ${known.ends} ${known.edits}`}
        onShow={host.openRun}
      />
    </div>
  );
}

type ProblemProps = { known: Known; host: SidebarHost; base: string | null };

/** Why the state is not known now, and what to do. */
function Problem({ known: { link, problem }, host, base }: ProblemProps) {
  return (
    <ErrorBox text={problem}>
      <div class="cd-line">
        {link === "signedOut" && base !== null && <Link href={base}>Sign in</Link>}
        <Button label="Try again" icon="refresh" onClick={host.connect} />
      </div>
    </ErrorBox>
  );
}

type SectionProps = {
  title: string;
  count: number;
  isOpen?: boolean;
  children: preact.ComponentChildren;
};

/** A part with a heading that folds it; nothing if there is nothing in it. */
function Section({ title, count, isOpen = true, children }: SectionProps) {
  if (!count) return null;
  return (
    <details open={isOpen}>
      <summary>
        {title} ({count.toLocaleString()})
      </summary>
      {children}
    </details>
  );
}

/** That the ComfyUI of the default machine does not answer, with what can be done. */
function DownBox({ transport, known }: { transport: Transport; known: Known }) {
  const text = whyDefaultIsDown(known);
  const [machine] = known.machines ?? [];
  if (!text || !machine) return null;
  return (
    <div class="cd-down cd-rows">
      <State text={text} colour="warn" />
      <Care transport={transport} machine={machine} />
    </div>
  );
}

// -- runs ----------------------------------------------------------------------------------------

type RunsProps = { transport: Transport; known: Known; host: SidebarHost };

function OpenRuns({ transport, known, host }: RunsProps) {
  const order = useTask();
  const total = openRuns(known);
  const several = (known.machines?.length ?? 0) > 1;
  const { first = 0, runs = [] } = known.runs ?? {};
  const at = (place: number): OpenRun | undefined => runs[place - first];
  if (!total) return <div class="cd-faint">Nothing runs or waits.</div>;
  const ask = (path: string, body: object) => order.run(() => transport.post(path, body));
  /** Put a run where it was dropped: in the upper or the lower half of a row. */
  const drop = (promptId: string, place: number, isBelow: boolean) => {
    const to = at(place + Number(isBelow));
    if (to?.prompt_id === promptId || at(place)?.prompt_id === promptId) return;
    const where = !to ? { to: "last" } : waits(to) ? { before: to.prompt_id } : { to: "first" };
    ask("runs/move", { prompt_ids: [promptId], ...where });
  };
  return (
    <details open>
      <summary>
        Runs ({total.toLocaleString()})
        <span class="cd-unseen" role="status">
          {counted(known.queue?.running ?? 0, "run")} executing, {known.queue?.waiting ?? 0} waiting
        </span>
      </summary>
      <ErrorBox text={order.error.value} />
      <Wall
        label="Runs that have not ended"
        count={total}
        height={ROW}
        gap={0}
        leastWidth={0}
        rows={ROWS}
        keyOf={(place) => at(place)?.prompt_id ?? `place ${place}`}
        onRange={(from, end) => host.watch(from, end - from)}
        render={(place, tabIndex) => {
          const run = at(place);
          if (!run) return <div class="cd-open-run cd-main" tabIndex={tabIndex} />;
          const onDrop = (promptId: string, isBelow: boolean) => drop(promptId, place, isBelow);
          return <Row {...{ run, several, tabIndex, host, ask, onDrop }} />;
        }}
      />
    </details>
  );
}

/** Return what a run does, or why it waits. */
function doing({ status, live_status, step, steps, position }: OpenRun): string {
  if (status === "queued" && !live_status) {
    if (position === null) return "Waiting in the queue";
    return position <= 1 ? "Next in the queue" : `No. ${position} in the queue`;
  }
  const parts = [(live_status || status).replace(/^Executing (?=.)/, "")];
  if (steps > 1) parts.push(`${step}/${steps}`);
  return parts.join(" · ");
}

type RowProps = {
  run: OpenRun;
  /** Whether there are several machines. */
  several: boolean;
  tabIndex: number;
  host: SidebarHost;
  ask: (path: string, body: object) => void;
  onDrop: (promptId: string, isBelow: boolean) => void;
};

const waits = ({ status, cancelling }: OpenRun) => status === "queued" && !cancelling;

/** A run that executes or waits; one that waits can be dragged to another place. */
function Row({ run, several, tabIndex, host, ask, onDrop }: RowProps) {
  const [isOver, setOver] = useState<"above" | "below" | null>(null);
  const { prompt_id, status, batch_id, point, machine, time_left } = run;
  const title = run.title || Object.values(run.metadata).join(", ") || "Run";
  const executes = status === "running" || status === "uploading";
  const left = executes && time_left !== null && time_left >= 1;
  const about = [
    several && machine,
    batch_id && `point ${point + 1} of a batch`,
    left && `${formatDuration(time_left)} left`,
  ];
  const where = about.filter(Boolean).join(" · ");
  const text = doing(run);
  const over = (event: DragEvent) => {
    if (!event.dataTransfer?.types.includes(QUEUE_DRAG)) return;
    event.preventDefault();
    const { top, height } = (event.currentTarget as Element).getBoundingClientRect();
    setOver(event.clientY > top + height / 2 || !waits(run) ? "below" : "above");
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: its buttons do the same by keys
    <div
      class="cd-open-run"
      data-over={isOver}
      draggable={waits(run)}
      onDragStart={({ dataTransfer }) => dataTransfer?.setData(QUEUE_DRAG, prompt_id)}
      onDragOver={over}
      onDragLeave={() => setOver(null)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(null);
        const dropped = event.dataTransfer?.getData(QUEUE_DRAG);
        if (dropped) onDrop(dropped, isOver === "below");
      }}
    >
      <button
        type="button"
        class="cd-main"
        tabIndex={tabIndex}
        title={[text, where, prompt_id].filter(Boolean).join("\n")}
        onClick={() => host.openRun(prompt_id)}
      >
        <span class="cd-line cd-spread">
          <b class="cd-cut" dir="auto">
            {title}
          </b>
          <span class="cd-faint cd-cut">{where}</span>
        </span>
        <span class="cd-cut">{text}</span>
        {executes && <Bar label={`Progress of ${title}`} share={run.progress ?? 0} thin />}
      </button>
      {waits(run) && (
        <>
          <IconButton
            icon="arrow-up"
            label={`Run ${title} next`}
            tabIndex={tabIndex}
            onClick={() => ask("runs/move", { prompt_ids: [prompt_id], to: "first" })}
          />
          <IconButton
            icon="arrow-down"
            label={`Run ${title} last`}
            tabIndex={tabIndex}
            onClick={() => ask("runs/move", { prompt_ids: [prompt_id], to: "last" })}
          />
        </>
      )}
      {status !== "uploading" && !run.cancelling && (
        <IconButton
          icon="times"
          label={`Cancel ${title}`}
          tabIndex={tabIndex}
          onClick={() => ask("interrupt", { prompt_id })}
        />
      )}
    </div>
  );
}

// -- batches and transfers -----------------------------------------------------------------------

type BatchProps = { transport: Transport; batch: Batch; host: SidebarHost };

function BatchRow({ transport, batch, host }: BatchProps) {
  const order = useTask();
  const { batch_id, state, title, fraction, why } = batch;
  const name = title || "batch";
  const ask = (what: string) =>
    order.run(() => transport.post(`batch/${encodeURIComponent(batch_id)}/${what}`));
  return (
    <li>
      <div class="cd-open-run">
        <button
          type="button"
          class="cd-main"
          title="Open the batch"
          onClick={() => host.openBatch(batch_id, title)}
        >
          <b class="cd-cut" dir="auto">
            {title || "Batch"}
          </b>
          <span class="cd-cut">{[headline(batch), why].filter(Boolean).join(" · ")}</span>
          <Bar label={`Progress of ${name}`} share={fraction} thin />
        </button>
        {state === "running" ? (
          <IconButton icon="pause" label={`Pause ${name}`} onClick={() => ask("pause")} />
        ) : (
          <IconButton icon="play" label={`Continue ${name}`} onClick={() => ask("resume")} />
        )}
        {state !== "cancelled" && (
          <IconButton icon="times" label={`Cancel ${name}`} onClick={() => ask("cancel")} />
        )}
      </div>
      <ErrorBox text={order.error.value} />
    </li>
  );
}

type TransfersProps = { transport: Transport; transfers: ServerTransfer[] };

function Transfers({ transport, transfers }: TransfersProps) {
  const order = (path: string) => (id: string) => transport.post(path, { id });
  return (
    <ul class="cd-transfers">
      {transfers.map((transfer) => (
        <TransferRow
          key={transfer.id}
          transfer={ofServer(transfer)}
          onCancel={order("cancel-uploads")}
          onRetry={order("retry-uploads")}
          onDismiss={order("cancel-uploads")}
        />
      ))}
    </ul>
  );
}

// -- machines ------------------------------------------------------------------------------------

type MachineProps = { transport: Transport; machine: Machine };

function MachineRow({ transport, machine }: MachineProps) {
  const { name, error, hint, memory = [], work } = machine;
  const isUnused = machine.status === "unreachable" && !error; // nobody has needed it yet
  const [text, colour] = isUnused ? (["not connected", "faint"] as const) : stateWords(machine);
  const isPool = machine.kind === "pool" || machine.kind === "dask";
  return (
    <li class="cd-rows">
      <div class="cd-line cd-spread">
        <b class="cd-cut" dir="auto" title={machine.id}>
          {name}
        </b>
        <State
          text={[text, work ? `${work.toLocaleString()} in the queue` : ""]
            .filter(Boolean)
            .join(", ")}
          colour={colour}
        />
      </div>
      {error && <div class="cd-faint cd-words">{[error, hint].filter(Boolean).join(": ")}</div>}
      {memory.map((each, place) => (
        <MemoryBar key={place} {...each} machine={isPool ? each.machine : ""} />
      ))}
      <Care transport={transport} machine={machine} />
    </li>
  );
}

type MemoryProps = NonNullable<Machine["memory"]>[number];

function MemoryBar({ name, machine, memory: { total, used } }: MemoryProps) {
  if (!total) return null;
  const share = (used ?? 0) / total;
  const text = `${formatBytes(used ?? 0)} of ${formatBytes(total)}`;
  return (
    <div>
      <div class="cd-line cd-spread cd-faint">
        <span class="cd-cut">{[machine, name].filter(Boolean).join(": ")}</span>
        <span class="cd-number">{text}</span>
      </div>
      <Bar label={`Memory of ${name}: ${text}`} share={share} thin />
    </div>
  );
}

type Freed = { gpu?: { freed: number }; ram?: { freed: number }; pending?: boolean };

const CAN_START = ["backoff", "failed", "stopped"];

/** What can be done with a machine: start it, free its memory, read its log. */
function Care({ transport, machine }: MachineProps) {
  const order = useTask();
  const said = useSignal("");
  const [showsLog, setShowsLog] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const { id, name, kind, status } = machine;
  const isManaged = kind === "managed";
  const free = () =>
    order.run(async () => {
      said.value = "";
      const { gpu, ram, pending } = await transport.post<Freed>("free", { machine: id });
      const freed = `${formatBytes(gpu?.freed ?? 0)} of GPU memory, ${formatBytes(ram?.freed ?? 0)} of RAM freed`;
      said.value = pending ? `${freed}; more when the current run has ended` : freed;
    });
  return (
    <div ref={root} class="cd-rows">
      <div class="cd-line">
        {isManaged && CAN_START.includes(status ?? "") && (
          <Button
            label="Start"
            name={`Start the ComfyUI of ${name}`}
            icon="play"
            primary
            disabled={order.busy.value}
            onClick={() => order.run(() => transport.post("comfyui/start", { machine: id }))}
          />
        )}
        {status === "ready" && (
          <Button
            label="Free"
            name={`Free the memory of ${name}`}
            hint="Make ComfyUI unload its models and free memory"
            icon="eraser"
            disabled={order.busy.value}
            onClick={free}
          />
        )}
        {isManaged && (
          <Button
            label="Log"
            name={`The log of ${name}`}
            icon="file-o"
            onClick={() => setShowsLog(true)}
          />
        )}
        {said.value && (
          <span class="cd-faint" role="status">
            {said.value}
          </span>
        )}
      </div>
      <ErrorBox text={order.error.value} />
      {showsLog && <Log transport={transport} machine={id} onClose={() => setShowsLog(false)} />}
    </div>
  );
}
