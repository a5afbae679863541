/** What a workflow lacks on a machine: models, with one button that downloads them, and nodes. */

import { type Signal, useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { counted, formatBytes, messageOf } from "../format.ts";
import type { Source } from "../state/form.ts";
import { isOpen, ofServer, type ServerTransfer } from "../transfers/transfer.ts";
import type { Transport } from "../transport.ts";
import { type Act, TransferProgress, useServerTransfers } from "./transfers.tsx";
import { Button, ErrorBox, Link, Note } from "./ui.tsx";

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
};

type Found = {
  offline: boolean;
  models: Model[];
  missing_nodes: { class_type: string | null; pack?: string | null; needs?: string | null }[];
  warnings: string[];
};

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
  /** The panel, if downloads are followed while any part of it is seen. */
  panel?: RefObject<HTMLElement | null>;
  source: Source;
  machine: string | null;
  /** Called when a model was downloaded: the form then offers it. */
  onFetched: () => void;
  /** What downloads the missing models, for other parts of the panel; null if nothing can be. */
  download?: Signal<(() => void) | null>;
};

export function Missing({ transport, panel, source, machine, onFetched, download }: Props) {
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

  const server = useServerTransfers(transport, panel ?? root, () =>
    Boolean(found.value?.models.some(({ state }) => state === "fetching")),
  );
  const { value: transfers } = server.transfers;
  useEffect(() => {
    const known = new Map(transfers.map((each) => [each.id, each]));
    const models = found.value?.models ?? [];
    const now = models.map((model) => updated(model, known.get(model.transfer ?? "")));
    const hasNew = now.some(
      ({ state }, place) => state === "done" && models[place]?.state !== state,
    );
    if (found.value && JSON.stringify(now) !== JSON.stringify(models)) {
      found.value = { ...found.value, models: now };
    }
    if (hasNew) onFetched();
  }, [transfers]);
  const fetchAll = async () => {
    await ask({});
    server.wake();
  };
  const rowOf = (model: Model) => {
    const transfer = transfers.find(({ id }) => id === model.transfer);
    return (
      <ModelRow
        key={`${model.folder}/${model.name}`}
        model={model}
        transfer={transfer}
        onCancel={server.cancel}
      />
    );
  };

  const { models: all = [], missing_nodes: nodes = [], warnings = [], offline } = found.value ?? {};
  const models = all.filter(({ state }) => SHOWN.has(state));
  const lacking = models.filter(({ state }) => state !== "done");
  const isFetching = models.some(({ state }) => state === "fetching");
  const canFetch = models.some(({ state }) => CAN_FETCH.has(state)) && !isFetching && !isBusy.value;
  const size = lacking.reduce((sum, model) => sum + (model.size ?? 0), 0);
  const canDownload = canFetch && !offline;
  useEffect(() => {
    if (!download) return undefined;
    download.value = canDownload ? fetchAll : null;
    return () => {
      download.value = null;
    };
  }, [canDownload, source, machine, transport, download]);
  if (!lacking.length && !nodes.length) return <div ref={root} hidden />;
  const said = [
    lacking.length
      ? `${counted(lacking.length, "model")} ${lacking.length === 1 ? "is" : "are"} missing` +
        (size ? `, ${formatBytes(size)}` : "")
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
              disabled={!canDownload}
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
              disabled={!canDownload}
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
            {models.map(rowOf)}
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
function updated(model: Model, transfer: ServerTransfer | undefined): Model {
  if (!transfer) return model;
  const state = isOpen(transfer) ? "fetching" : transfer.state;
  return { ...model, size: transfer.size ?? model.size, state, problem: transfer.error ?? null };
}

type RowProps = { model: Model; transfer: ServerTransfer | undefined; onCancel: Act };

function ModelRow({ model, transfer, onCancel }: RowProps) {
  const { name, folder, url, size, pickle, state, problem } = model;
  const isLink = url !== null && /^https?:/.test(url) && state !== "refused";
  return (
    <tr class={state === "refused" || state === "failed" ? "cd-wrong" : ""}>
      <td title={url ?? undefined}>{isLink ? <Link href={url}>{name}</Link> : name}</td>
      <td>{folder ?? "?"}</td>
      <td>{size === null ? "" : formatBytes(size)}</td>
      <td>
        {state === "fetching" && transfer ? (
          <TransferProgress transfer={ofServer(transfer)} onCancel={onCancel} />
        ) : (
          [STATES[state] ?? state, problem].filter(Boolean).join(": ")
        )}
        {pickle && state === "missing" && "; a pickle, which can run code when it is loaded"}
      </td>
    </tr>
  );
}
