/** The state of a machine: its ComfyUI, its queue, its hardware; and the choice of machine. */

import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { counted, formatBytes } from "../format.ts";
import { RouteError, type Transport } from "../transport.ts";
import {
  Button,
  type Colour,
  CopyButton,
  Dialog,
  ErrorBox,
  Lost,
  Note,
  Select,
  State,
  Unbroken,
  useFollowing,
  useTask,
} from "./ui.tsx";

type Member = {
  id: string;
  name: string;
  status: string;
  version: string | null;
  gpu: string | null;
  error: string | null;
  run: string | null;
  queue: number;
  models: string[];
};

export type MachineFacts = {
  id: string;
  name: string;
  kind: string;
  status: string | null;
  error: string | null;
  /** Of a pool. */
  members?: Member[];
};

type Usage = { total?: number | null; used?: number | null; free?: number | null };

type Hardware = {
  cpu: { percent: number; cores?: number | null } | null;
  memory: Usage | null;
  gpus: { name: string; memory: Usage | null; percent: number | null }[];
  disks: { path: string; total: number; used: number; free: number }[];
};

type Status = {
  comfyui: {
    version: string | null;
    version_note: string | null;
    database_note?: string | null;
    managed: boolean;
    kept?: { version: string } | null;
    restarts?: number;
    error?: string | null;
    hint?: string | null;
    passed_over?: string | null;
  };
  queue: { running: number; pending: number };
  uploads: { pending_uploads: number };
  tunnel: { running: boolean; protected: boolean; state: string; error: string | null };
  store: { warnings: string[] };
};

const USUAL = 3000; // ms between two looks
const SOON = 1000; // while ComfyUI is not ready
const FULL = 0.9; // of memory or a disk: it is shown as nearly full
const LOG_LINES = 300;

const STATES: Record<string, [string, Colour]> = {
  ready: ["is ready", "success"],
  starting: ["is starting …", "warn"],
  paused: ["fails runs: pools give it none for some time", "error"],
  backoff: ["is down, it is being started again", "warn"],
  failed: ["does not start", "error"],
  stopped: ["is stopped", "faint"],
  unreachable: ["cannot be reached", "error"],
};
const CAN_START = ["backoff", "failed", "stopped"];
const TUNNELS: Record<string, string> = {
  stopped: "off",
  starting: "starting …",
  restarting: "starting again …",
};

type Props = {
  /** What must be seen for it to look. */
  root: { current: HTMLElement | null };
  transport: Transport;
  machine: string | null;
  onChoose: (machine: string | null) => void;
  /** Called with the state in a few words, without numbers that change all the time. */
  onSummary: (text: string) => void;
};

export function MachineStrip({ root, transport, machine, onChoose, onSummary }: Props) {
  const machines = useSignal<MachineFacts[]>([]);
  const status = useSignal<Status | null>(null);
  const hardware = useSignal<Hardware | null>(null);
  const said = useSignal("");
  const showsLog = useSignal(false);
  const order = useTask();
  const asked = useRef(machine);
  asked.current = machine;

  const { wake, lost } = useFollowing(root, async (signal) => {
    const wanted = asked.current;
    try {
      const [known, all] = await Promise.all([
        transport.get<Status>("check-status", { machine: wanted }, signal),
        transport.get<MachineFacts[]>("machines", { members: true }, signal),
      ]);
      if (wanted !== asked.current) return 0;
      // Machines of ComfyDeploy run workflows that are deployed there, not those of a panel.
      machines.value = all.filter(({ kind }) => kind !== "cloud");
      status.value = known;
      const found = chosen(machines.value, wanted);
      if (!found) return USUAL;
      const [text] = stateOf(found, known);
      onSummary(text);
      // This takes longer: the server asks drivers and ComfyUI.
      const about = await transport.get<{ hardware: Hardware }>(
        "machine",
        { machine_id: found.id },
        signal,
      );
      if (wanted === asked.current) hardware.value = about.hardware;
      return found.status === "ready" ? USUAL : SOON;
    } catch (error) {
      const isGone = error instanceof RouteError && error.status === 404 && wanted !== null;
      if (!isGone || wanted !== asked.current) throw error;
      onChoose(null); // it has been deleted
      return 0;
    }
  });

  const found = chosen(machines.value, machine);
  const known = status.value;
  const choose = (id: string) => {
    said.value = "";
    order.clear();
    hardware.value = null;
    onChoose(id);
    asked.current = id;
    wake();
  };
  const ask = (path: string, wait: string, answer: (reply: Freed & Back) => string) =>
    order.run(async () => {
      said.value = wait;
      try {
        const reply = await transport.post<Freed & Back>(path, { machine });
        if (machine === asked.current) said.value = answer(reply);
      } catch (error) {
        said.value = "";
        throw error;
      } finally {
        wake();
      }
    });
  const [text, colour] = found && known ? stateOf(found, known) : ["", "faint" as Colour];
  const state = found?.status ?? "";
  const problems = known
    ? [found?.error, known.comfyui.error, known.comfyui.hint, known.comfyui.passed_over]
    : [];
  const members = found?.members ?? [];
  const isPool = members.length > 0;
  const kept = known?.comfyui.kept;
  return (
    <div class="comfydeploy-machine cd-rows">
      <div class="cd-line">
        <div class="cd-grow cd-strong">
          <State text={text || (lost.value ? "Unknown" : "Connecting …")} colour={colour} />
        </div>
        {known?.comfyui.managed && !isPool && CAN_START.includes(state) && (
          <Button
            label="Start"
            icon="play"
            hint="Start ComfyUI now"
            primary
            disabled={order.busy.value}
            onClick={() => ask("comfyui/start", "", () => "")}
          />
        )}
        {known?.comfyui.managed && !isPool && (
          <Button
            label="Log"
            icon="file-o"
            hint="Show the last lines of ComfyUI's log"
            onClick={() => {
              showsLog.value = true;
            }}
          />
        )}
        {state === "ready" && (
          <Button
            label="Free memory"
            icon="eraser"
            hint="Make ComfyUI unload its models and free memory"
            disabled={order.busy.value}
            onClick={() => ask("free", "", freed)}
          />
        )}
        {kept && !isPool && (
          <Button
            label={`Back to ComfyUI ${kept.version}`}
            icon="history"
            hint={
              "Stop ComfyUI, and start the version that its last update has kept; a run that it " +
              "executes fails"
            }
            disabled={order.busy.value}
            onClick={() =>
              ask("comfyui/back", `Back to ComfyUI ${kept.version} …`, ({ version, notes }) =>
                [`ComfyUI ${version} is used.`, ...(notes ?? [])].join(" "),
              )
            }
          />
        )}
        {machines.value.length > 1 && (
          <Select
            label="Machine"
            value={found?.id ?? ""}
            options={machines.value.map(({ id, name }) => [id, name])}
            onChange={choose}
          />
        )}
      </div>
      {said.value && <Note live>{said.value}</Note>}
      {[known?.comfyui.version_note, known?.comfyui.database_note].map(
        (note) => note && <Note key={note}>{note}</Note>,
      )}
      <Lost error={lost.value} base={transport.base} />
      <ErrorBox text={order.error.value} />
      <ErrorBox text={[...new Set(problems.filter(Boolean))].join("\n")} />
      {known && (
        <dl class="cd-facts" aria-label="State of the machine">
          <Facts status={known} hardware={hardware.value} />
        </dl>
      )}
      {isPool && (
        <ul class="cd-members" aria-label="Machines of the pool">
          {members.map((member) => (
            <PoolMember key={member.id} member={member} />
          ))}
        </ul>
      )}
      {showsLog.value && (
        <Log
          transport={transport}
          machine={machine}
          onClose={() => {
            showsLog.value = false;
          }}
        />
      )}
    </div>
  );
}

function chosen(machines: MachineFacts[], wanted: string | null): MachineFacts | undefined {
  return machines.find(({ id, name }) => wanted === id || wanted === name) ?? machines[0];
}

/** Return the state of a machine in a few words, and its colour. */
export function stateWords({ status }: Pick<MachineFacts, "status">): [string, Colour] {
  return STATES[status ?? ""] ?? [status ?? "", "faint"];
}

function stateOf({ status, members = [] }: MachineFacts, { comfyui }: Status): [string, Colour] {
  const [text, colour] = stateWords({ status });
  if (members.length) {
    const ready = members.filter((member) => member.status === "ready").length;
    const all = ready === members.length;
    return [`${ready} of ${counted(members.length, "machine")} ready`, all ? "success" : "warn"];
  }
  const isAgain = status === "starting" && (comfyui.restarts ?? 0) > 0;
  const said = isAgain ? "is down, it is being started again" : text;
  return [`ComfyUI${comfyui.version ? ` ${comfyui.version}` : ""} ${said}`, colour];
}

type Freed = { gpu?: { freed: number }; ram?: { freed: number }; pending?: boolean };
type Back = { version?: string | null; notes?: string[] };

function freed({ gpu, ram, pending }: Freed): string {
  const text = `${size(gpu?.freed)} of GPU memory, ${size(ram?.freed)} of RAM freed`;
  return pending ? `${text}; ComfyUI frees more when the current run has ended` : text;
}

function size(bytes = 0): string {
  const mib = bytes / 1024 ** 2;
  return mib >= 1024 ? `${(mib / 1024).toFixed(1)} GiB` : `${mib.toFixed(0)} MiB`;
}

type FactProps = { name: string; text: string; share?: number | null; wide?: boolean };

function Fact({ name, text, share = null, wide = false }: FactProps) {
  const width = share === null ? 0 : 100 * Math.min(Math.max(share, 0), 1);
  const isFull = share !== null && share > FULL && name !== "CPU"; // a busy CPU is normal
  return (
    <div class={wide ? "cd-wide" : ""}>
      <dt title={name}>{name}</dt>
      <dd>
        {text}
        {share !== null && (
          <div class={`cd-meter${isFull ? " cd-full" : ""}`} aria-hidden="true">
            <div style={{ width: `${width.toFixed(0)}%` }} />
          </div>
        )}
      </dd>
    </div>
  );
}

/** Memory in use; the total, or the part in use, may be unknown. */
function Memory({ name, memory, also = "", wide = false }: MemoryProps) {
  const { total, used } = memory ?? {};
  const more = also && `, ${also}`;
  if (!total) return <Fact name={name} text={also || "memory unknown"} wide={wide} />;
  const whole = formatBytes(total);
  if (used === null || used === undefined) {
    return <Fact name={name} text={`${whole}${more}`} wide={wide} />;
  }
  const part = formatBytes(used);
  const [number, unit] = part.split(" ");
  const text = `${whole.endsWith(` ${unit}`) ? number : part} of ${whole}${more}`;
  return <Fact name={name} text={text} share={used / total} wide={wide} />;
}

type MemoryProps = { name: string; memory: Usage | null; also?: string; wide?: boolean };

function work(running: number, waiting: number, none: string): string {
  const parts = [running ? `${running} running` : "", waiting ? `${waiting} waiting` : ""];
  return parts.filter(Boolean).join(", ") || none;
}

function tunnelText({ running, protected: isProtected, state, error }: Status["tunnel"]): string {
  if (running) return isProtected ? "on" : "on, open to everybody";
  return error && state === "stopped" ? "failed" : (TUNNELS[state] ?? state);
}

function Facts({ status, hardware }: { status: Status; hardware: Hardware | null }) {
  const { queue, uploads, tunnel, store } = status;
  const moving = uploads.pending_uploads;
  const { cpu, memory, gpus = [], disks = [] } = hardware ?? {};
  return (
    <>
      <Fact name="Queue" text={work(queue.running, queue.pending, "empty")} />
      {gpus.map((gpu, place) => (
        <Memory
          key={place}
          name={gpu.name}
          memory={gpu.memory}
          also={gpu.percent === null ? "" : `${gpu.percent.toFixed(0)} % busy`}
          wide
        />
      ))}
      {cpu && (
        <Fact
          name="CPU"
          text={`${cpu.percent.toFixed(0)} % of ${counted(cpu.cores || 1, "core")}`}
          share={cpu.percent / 100}
        />
      )}
      {memory && <Memory name="Memory" memory={memory} />}
      {disks.map(({ path, total, used, free }) => (
        <Fact
          key={path}
          name={disks.length === 1 ? "Disk" : `Disk of ${path}`}
          text={`${formatBytes(free)} free`}
          share={total ? used / total : null}
        />
      ))}
      <Fact name="Transfers" text={moving ? `${moving} in progress` : "none"} />
      <Fact name="Tunnel" text={tunnelText(tunnel)} />
      {(store?.warnings ?? []).map((warning) => (
        <Fact key={warning} name="Store" text={warning} wide />
      ))}
    </>
  );
}

function PoolMember({ member }: { member: Member }) {
  const [state, colour] = stateWords(member);
  const running = member.run ? 1 : 0;
  const gpu = member.gpu ?? "";
  const about = [
    `ComfyUI ${member.version ?? ""}`.trim(),
    /^\d+$/.test(gpu) ? `GPU ${gpu}` : gpu,
    member.status === "ready" ? "" : state,
  ];
  const models = member.models.map((name) => name.split("/").at(-1)).join(", ");
  return (
    <li>
      <div class="cd-name">
        <span aria-hidden="true" style={{ color: `var(--cd-${colour})` }}>
          ●
        </span>
        <b title={member.name}>{member.name}</b>
        <span class="cd-work-left">
          {work(running, Math.max(0, member.queue - running), "idle")}
        </span>
      </div>
      <div>{about.filter(Boolean).join(" · ")}</div>
      {models && <div class="cd-loaded">{models}</div>}
      {member.error && (
        <div class="comfydeploy-error">
          <Unbroken text={member.error} />
        </div>
      )}
    </li>
  );
}

type LogProps = { transport: Transport; machine: string | null; onClose: () => void };

/** The last lines of ComfyUI's log; it follows the log while it is open. */
export function Log({ transport, machine, onClose }: LogProps) {
  const root = useRef<HTMLDivElement>(null);
  const end = useRef<HTMLDivElement>(null);
  const log = useSignal<{ path: string; lines: string[] } | null>(null);
  const { lost } = useFollowing(root, async (signal) => {
    const query = { machine, lines: LOG_LINES };
    log.value = await transport.get<{ path: string; lines: string[] }>(
      "comfyui/log",
      query,
      signal,
    );
    requestAnimationFrame(() => end.current?.scrollIntoView({ block: "nearest" }));
    return USUAL;
  });
  const text = log.value?.lines.join("\n") ?? "";
  return (
    <Dialog label="The log of ComfyUI" onClose={onClose} class="cd-dialog cd-log-dialog">
      <div class="cd-rows" ref={root}>
        <div class="cd-line cd-spread">
          <b class="cd-grow cd-cut">{log.value?.path ?? "The log of ComfyUI"}</b>
          <CopyButton label="Copy" text={text} />
          <Button label="Close" onClick={onClose} />
        </div>
        <Lost error={lost.value} base={transport.base} />
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: so that keys scroll it */}
        <pre class="cd-log" tabIndex={0}>
          {text}
          <div ref={end} />
        </pre>
      </div>
    </Dialog>
  );
}
