/** With what a run was made, and whether it can be made again. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { counted } from "../format.ts";
import { mediaOf } from "../media.tsx";
import type { ShownFile } from "../shown_runs.ts";
import { RouteError, type Transport } from "../transport.ts";
import { Bar } from "./progress.tsx";
import { Button, Details, ErrorBox, Link, Lost, NEVER, useFollowing, useTask } from "./ui.tsx";
import { Viewer } from "./viewer.tsx";

const EVERY = 1000; // ms between two looks at what is not complete yet
const SHOWN = 12; // digits of a hash

type File = { name: string; sha256?: string; reason?: string };
type Pack = { name: string; commit?: string; version?: string; sha256?: string };
type RunRecord = {
  complete: boolean;
  pending: string[];
  environment: { comfyui?: { version?: string; commit?: string }; torch?: string } | null;
  node_packs: Pack[];
  models: File[];
  inputs: File[];
  notes: string[];
};
type Verdict = "identical" | "differs" | "cannot";
type Output = {
  node_id: string;
  filename?: string;
  verdict: Verdict;
  reason: string;
  share: number | null;
  /** The pictures, if they differ and are here. */
  before?: ShownFile | null;
  after?: ShownFile | null;
};
type Verification = {
  state: "running" | "done";
  prompt_id: string;
  verdict: Verdict | null;
  differences: string[];
  outputs: Output[];
  notes: string[];
};

const VERDICTS = {
  identical: "It was made again: identical.",
  differs: "It was made again, and differs.",
  cannot: "It is not known whether it can be made again.",
};

/** The record of a run that has ended, and the buttons that repeat it and hand it over. */
export function Proof({ transport, promptId }: { transport: Transport; promptId: string }) {
  return (
    <Details summary="Made with">
      <MadeWith key={promptId} transport={transport} route={`runs/${promptId}`} />
    </Details>
  );
}

function MadeWith({ transport, route }: { transport: Transport; route: string }) {
  const root = useRef<HTMLDivElement>(null);
  const record = useSignal<RunRecord | null>(null);
  const again = useSignal(false);
  const { lost } = useFollowing(root, async (signal) => {
    if (!record.value?.complete) {
      record.value = await transport.get<RunRecord>(`${route}/record`, {}, signal);
    }
    return record.value.complete ? NEVER : EVERY;
  });
  const { base } = transport;
  return (
    <div ref={root}>
      <Lost error={lost.value} base={base} />
      {record.value && <Facts record={record.value} />}
      <div class="cd-line">
        {!again.value && (
          <Button
            label="Make it again"
            icon="refresh"
            hint="Execute it once more with empty caches, and compare what is made"
            onClick={() => {
              again.value = true;
            }}
          />
        )}
        {base !== null && record.value?.complete && (
          <Link
            href={`${base}comfyui-deploy/${route}/receipt`}
            title="One file to hand over: the record with what the run made"
          >
            Receipt
          </Link>
        )}
        {base !== null && record.value?.environment && (
          <Forms address={`${base}comfyui-deploy/${route}/environment`} />
        )}
      </div>
      {again.value && <Repetition transport={transport} route={route} />}
    </div>
  );
}

const FORMS = {
  dockerfile: "Dockerfile",
  manager_snapshot: "Snapshot for ComfyUI-Manager",
  docker_command_steps: "Steps for a machine of ComfyDeploy",
};

/** What is needed to execute the run elsewhere, as files. */
function Forms({ address }: { address: string }) {
  return (
    <Details summary="Environment">
      <ul>
        {Object.entries(FORMS).map(([form, name]) => (
          <li key={form}>
            <Link href={`${address}?file=${form}`}>{name}</Link>
          </li>
        ))}
      </ul>
    </Details>
  );
}

function Facts({ record }: { record: RunRecord }) {
  const { environment, models, inputs, node_packs, notes, pending } = record;
  const comfyui = environment?.comfyui;
  const facts: [string, string][] = [
    ["ComfyUI", [comfyui?.version, comfyui?.commit?.slice(0, SHOWN)].filter(Boolean).join(", ")],
    ["torch", environment?.torch ?? ""],
    ...node_packs.map(({ name, commit, version, sha256 }): [string, string] => [
      name,
      version ?? (commit ?? sha256)?.slice(0, SHOWN) ?? "version unknown",
    ]),
    ...[...models, ...inputs].map(({ name, sha256, reason }): [string, string] => [
      name,
      sha256?.slice(0, SHOWN) ?? (pending.includes(name) ? "being hashed …" : (reason ?? "")),
    ]),
  ];
  return (
    <dl>
      {facts.flatMap(([name, value]) =>
        value
          ? [
              <dt key={name} dir="auto">
                {name}
              </dt>,
              <dd key={`${name} value`} dir="auto">
                {value}
              </dd>,
            ]
          : [],
      )}
      {notes.map((note) => (
        <dd key={note} class="cd-faint">
          {note}
        </dd>
      ))}
    </dl>
  );
}

/** A repetition: it is begun once, followed, and its result is shown. */
function Repetition({ transport, route }: { transport: Transport; route: string }) {
  const root = useRef<HTMLDivElement>(null);
  const begun = useSignal(false);
  const found = useSignal<Verification | null>(null);
  const { run, busy, error } = useTask();
  const begin = () =>
    run(async () => {
      found.value = null;
      await transport.post(`${route}/verify`, {});
      begun.value = true;
      wake();
    });
  const { wake, lost } = useFollowing(root, async (signal) => {
    if (!begun.value || found.value?.state === "done") return NEVER;
    found.value = await transport.get<Verification>(`${route}/verify`, {}, signal);
    return found.value.state === "done" ? NEVER : EVERY;
  });
  useEffect(() => {
    begin();
  }, []);
  const result = found.value?.state === "done" ? found.value : null;
  return (
    <div ref={root} role="status">
      {error.value && (
        <ErrorBox text={error.value}>
          {" "}
          <Button label="Try again" onClick={begin} />
        </ErrorBox>
      )}
      <Lost error={lost.value} base={transport.base} />
      {(busy.value || (begun.value && !result)) && <span class="cd-faint">Making it again …</span>}
      {result?.verdict && <strong>{VERDICTS[result.verdict]}</strong>}
      {result && (
        <ul>
          {[...result.differences, ...result.notes].map((text) => (
            <li key={text}>{text}</li>
          ))}
          {result.outputs.map((output, place) => (
            <Compared
              key={`${output.node_id} ${place}`}
              transport={transport}
              output={output}
              difference={`${route}/verify/difference?output=${place}`}
            />
          ))}
        </ul>
      )}
    </div>
  );
}

type ComparedProps = { transport: Transport; output: Output; difference: string };

/** An output that is not identical; of a picture, with both and where they differ in the viewer. */
function Compared({ transport, output, difference }: ComparedProps) {
  const isOpen = useSignal(false);
  const { filename, node_id, verdict, share, reason, before, after } = output;
  if (verdict === "identical") return null;
  const how = share === null ? "" : `: ${(share * 100).toPrecision(2)} % of the pixels`;
  return (
    <li dir="auto">
      {filename ?? `The text of node ${node_id}`} {verdict === "differs" ? "differs" : "unknown"}
      {how} {reason && `(${reason}) `}
      {before && after && (
        <Button
          label="Compare"
          name={`Compare ${filename} with its repetition`}
          onClick={() => {
            isOpen.value = true;
          }}
        />
      )}
      {isOpen.value && before && after && (
        <Viewer
          media={mediaOf(transport)}
          pictures={[
            before,
            after,
            { ...after, name: `difference of ${after.name}`, query: difference, small: false },
          ]}
          start={1}
          compared={0}
          name={(place) => ["before", "after", "difference"][place] ?? ""}
          onClose={() => {
            isOpen.value = false;
          }}
        />
      )}
    </li>
  );
}

// -- batches ---------------------------------------------------------------------------------------

const SAMPLE = 5; // points
const LISTED = 100; // points that are not identical

type VerifiedPoint = { point: number; verdict: Verdict | null; reason: string };
type BatchVerification = {
  state: "running" | "done" | "cancelled";
  why: string;
  total: number;
  counts: Record<Verdict, number>;
  differences: string[];
  points: VerifiedPoint[];
};

type BatchProofProps = {
  transport: Transport;
  /** The id of a batch that has ended, in an address. */
  batch: string;
  /** How many of its points have succeeded. */
  made: number;
  nameOf: (point: number) => string;
};

/** The buttons that make the points of a batch again, and what is found. */
export function BatchProof({ transport, batch, made, nameOf }: BatchProofProps) {
  return (
    <Details summary="Can it be made again?">
      <PointsAgain key={batch} {...{ transport, batch, made, nameOf }} />
    </Details>
  );
}

function PointsAgain({ transport, batch, made, nameOf }: BatchProofProps) {
  const root = useRef<HTMLDivElement>(null);
  const found = useSignal<BatchVerification | null>(null);
  const unlike = useSignal<VerifiedPoint[]>([]);
  const { run, busy, error } = useTask();
  const route = `batch/${batch}/verify`;
  const { wake, lost } = useFollowing(root, async (signal) => {
    const ask = (verdict: Verdict) =>
      transport.get<BatchVerification>(route, { verdict, limit: LISTED }, signal);
    try {
      const now = await ask("differs");
      const more = now.counts.cannot ? (await ask("cannot")).points : [];
      unlike.value = [...now.points, ...more];
      found.value = now;
    } catch (problem) {
      if (!(problem instanceof RouteError && problem.code === "not_found")) throw problem;
      found.value = null;
    }
    return found.value?.state === "running" ? EVERY : NEVER;
  });
  const act = (path: string, body: object) =>
    run(async () => {
      found.value = await transport.post<BatchVerification>(path, body);
      unlike.value = [];
      wake();
    });
  const { state, why, total = 0, counts, differences = [] } = found.value ?? {};
  const told = counts
    ? [
        `${counts.identical} identical`,
        counts.differs > 0 && `${counts.differs} ${counts.differs === 1 ? "differs" : "differ"}`,
        counts.cannot > 0 && `${counts.cannot} not known`,
      ].filter(Boolean)
    : [];
  const done = counts ? counts.identical + counts.differs + counts.cannot : 0;
  const isRunning = state === "running";
  return (
    <div ref={root} class="cd-rows">
      <Lost error={lost.value} base={transport.base} />
      <ErrorBox text={error.value} />
      <div class="cd-line">
        {isRunning ? (
          <Button
            label="Cancel"
            name="Cancel making points again"
            icon="stop"
            disabled={busy.value}
            onClick={() => act(`${route}/cancel`, {})}
          />
        ) : (
          <>
            <Button
              label={`Make ${counted(made, "point")} again`}
              icon="refresh"
              hint="Execute them one after the other with empty caches, and compare what is made"
              disabled={busy.value || !made}
              onClick={() => act(route, {})}
            />
            {made > SAMPLE && (
              <Button
                label={`A sample of ${SAMPLE}`}
                hint="Make only some again, evenly spread"
                disabled={busy.value}
                onClick={() => act(route, { points: SAMPLE })}
              />
            )}
          </>
        )}
        {counts && (
          <span class="cd-grow" role="status">
            {state === "cancelled" && "Cancelled: "}
            {isRunning && `${done} of ${total}: `}
            {told.join(" · ")}
          </span>
        )}
      </div>
      {isRunning && <Bar share={total ? done / total : 0} label="Making points again" />}
      {isRunning && why && <span class="cd-faint">{why}</span>}
      {(differences.length > 0 || unlike.value.length > 0) && (
        <ul>
          {differences.map((text) => (
            <li key={text}>{text}</li>
          ))}
          {unlike.value.map(({ point, verdict, reason }) => (
            <li key={`point ${point}`} dir="auto">
              {nameOf(point)}: {reason || (verdict === "differs" ? "differs" : "not known")}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
