/** What a workflow lacks on a machine: models, with one button that downloads them, and nodes. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { counted, formatBytes, messageOf } from "../format.ts";
import type { Source } from "../state/form.ts";
import type { Transport } from "../transport.ts";
import { Bar } from "./progress.tsx";
import { Button, ErrorBox, IconButton, Link, Note, usePolling } from "./ui.tsx";

type Model = {
  name: string;
  folder: string | null;
  url: string | null;
  size: number | null;
  pickle: boolean;
  state: string;
  problem: string | null;
  /** The id of its download. */
  transfer: string | null;
  received?: number;
};

type Found = {
  offline: boolean;
  models: Model[];
  missing_nodes: { class_type: string | null; pack?: string | null; needs?: string | null }[];
  warnings: string[];
};

type Transfer = {
  id: string;
  state: string;
  sent: number;
  size: number | null;
  error: string | null;
};

const LOOK = 1000; // ms between two requests for the downloads
const IDLE = 60_000; // ms, while nothing is downloaded
const SHOWN = new Set(["missing", "fetching", "done", "failed", "cancelled", "no_link", "refused"]);
const STATES: Record<string, string> = {
  missing: "missing",
  fetching: "waiting",
  done: "is available now",
  no_link: "missing; the workflow has no link to it",
};
const CAN_FETCH = new Set(["missing", "failed", "cancelled"]);

type Props = {
  transport: Transport;
  source: Source;
  machine: string | null;
  /** Called when a model was downloaded: the form then offers it. */
  onFetched: () => void;
};

export function Missing({ transport, source, machine, onFetched }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const found = useSignal<Found | null>(null);
  const problem = useSignal("");
  const isBusy = useSignal(false);
  const wanted = useRef<AbortController | null>(null);

  const ask = async (options: object): Promise<void> => {
    wanted.current?.abort();
    const asked = new AbortController();
    wanted.current = asked;
    problem.value = "";
    isBusy.value = true;
    try {
      const body = { ...source, machine, ...options };
      const reply = await transport.post<Found>("workflow/fetch-models", body, asked.signal);
      if (!asked.signal.aborted) found.value = reply;
    } catch (error) {
      // what is wrong with the workflow itself is said where it is run
      if (!asked.signal.aborted && !("dry_run" in options)) problem.value = messageOf(error);
    } finally {
      if (wanted.current === asked) isBusy.value = false;
    }
  };
  useEffect(() => {
    found.value = null;
    ask({ dry_run: true });
    return () => wanted.current?.abort();
  }, [source, machine, transport]);

  const wake = usePolling(root, async (signal) => {
    const models = found.value?.models ?? [];
    if (!models.some(({ state }) => state === "fetching")) return IDLE;
    const { uploads } = await transport
      .get<{ uploads: Transfer[] }>("upload-queue-status", {}, signal)
      .catch(() => ({ uploads: [] as Transfer[] }));
    const known = new Map(uploads.map((each) => [each.id, each]));
    const now = models.map((model) => updated(model, known.get(model.transfer ?? "")));
    const hasNew = now.some(
      ({ state }, place) => state === "done" && models[place]?.state !== state,
    );
    if (found.value) found.value = { ...found.value, models: now };
    if (hasNew) onFetched();
    return LOOK;
  });
  const fetchAll = async () => {
    await ask({});
    wake();
  };

  const { models: all = [], missing_nodes: nodes = [], warnings = [], offline } = found.value ?? {};
  const models = all.filter(({ state }) => SHOWN.has(state));
  const lacking = models.filter(({ state }) => state !== "done");
  const isFetching = models.some(({ state }) => state === "fetching");
  const canFetch = models.some(({ state }) => CAN_FETCH.has(state)) && !isFetching && !isBusy.value;
  const size = lacking.reduce((sum, model) => sum + (model.size ?? 0), 0);
  if (!models.length && !nodes.length) return <div ref={root} hidden />;
  const said = [
    lacking.length
      ? `${counted(lacking.length, "model")} ${lacking.length === 1 ? "is" : "are"} missing` +
        (size ? `, ${formatBytes(size)}` : "")
      : models.length
        ? "All models are available"
        : "",
    nodes.length ? `${nodes.length} node ${nodes.length === 1 ? "class" : "classes"} missing` : "",
  ];
  return (
    <div class="comfydeploy-missing cd-rows" ref={root}>
      <div class="cd-line">
        <b class="cd-grow" role="status" aria-live="polite">
          {said.filter(Boolean).join(" · ")}
        </b>
        {models.length > 0 && (
          <>
            <Button
              label="Sizes"
              hint="Request the sizes of the missing models from their sites"
              disabled={!canFetch || offline}
              onClick={() => ask({ dry_run: true, sizes: true })}
            />
            <Button
              label={size ? `Download all (${formatBytes(size)})` : "Download all"}
              icon="download"
              hint={
                offline
                  ? "The setting `offline` forbids downloads"
                  : "Download the missing models into their folders"
              }
              primary
              disabled={!canFetch || offline}
              onClick={fetchAll}
            />
          </>
        )}
      </div>
      <div class="cd-missing">
        <table>
          {models.length > 0 && (
            <thead>
              <tr>
                <th>Model</th>
                <th>Folder</th>
                <th>Size</th>
                <th>State</th>
              </tr>
            </thead>
          )}
          <tbody>
            {models.map((model) => (
              <ModelRow key={`${model.folder}/${model.name}`} model={model} transport={transport} />
            ))}
            {nodes.map(({ class_type, pack, needs }) => (
              <tr key={class_type}>
                <td>{class_type}</td>
                <td>node</td>
                <td />
                <td>
                  {["missing", pack && `in the node pack ${pack}`, needs]
                    .filter(Boolean)
                    .join(": ")}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {warnings.map((text) => (
        <Note key={text}>{text}</Note>
      ))}
      <ErrorBox text={problem.value} />
    </div>
  );
}

/** A model with the state of its download. */
function updated(model: Model, transfer: Transfer | undefined): Model {
  if (!transfer || model.state !== "fetching") return model;
  const { sent, size, state, error } = transfer;
  const isOver = ["done", "failed", "cancelled"].includes(state);
  return {
    ...model,
    received: sent,
    size: size ?? model.size,
    state: isOver ? state : "fetching",
    problem: error,
  };
}

function ModelRow({ model, transport }: { model: Model; transport: Transport }) {
  const { name, folder, url, size, pickle, state, problem, transfer, received = 0 } = model;
  const isLink = url !== null && /^https?:/.test(url) && state !== "refused";
  const share = size ? Math.min(1, received / size) : 0;
  const isFetching = state === "fetching";
  const words = [
    isFetching && size
      ? `${formatBytes(received)}, ${Math.round(100 * share)} %`
      : (STATES[state] ?? state),
    problem,
  ];
  return (
    <tr class={state === "refused" || state === "failed" ? "cd-wrong" : ""}>
      <td title={url ?? undefined}>{isLink ? <Link href={url}>{name}</Link> : name}</td>
      <td>{folder ?? "?"}</td>
      <td>{size === null ? "" : formatBytes(size)}</td>
      <td>
        {words.filter(Boolean).join(": ")}
        {pickle && state === "missing" && "; a pickle, which can run code when it is loaded"}
        {isFetching && transfer && (
          <>
            {" "}
            <IconButton
              icon="times"
              label={`Stop the download of ${name}`}
              onClick={() => transport.post("cancel-uploads", { id: transfer }).catch(() => {})}
            />
            <Bar label={`Download of ${name}`} share={share} thin />
          </>
        )}
      </td>
    </tr>
  );
}
