/** What a workflow lacks: models, files, node packs, an account; each with one button. */

import { type Signal, useSignal } from "@preact/signals";
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { isMedia, MEDIA, type MediaKind, viewQuery } from "../form/media_control.ts";
import { counted, formatBytes, messageOf } from "../format.ts";
import { mediaOf } from "../media.tsx";
import { AccountPanel } from "../panels/account.tsx";
import type { FormState, Source } from "../state/form.ts";
import { isOpen, ofServer, type ServerTransfer } from "../transfers/transfer.ts";
import { listOf, RouteError, type Transport } from "../transport.ts";
import { FileButton } from "./files.tsx";
import { type Act, TransferProgress, useServerTransfers } from "./transfers.tsx";
import {
  Button,
  Dialog,
  ErrorBox,
  Link,
  NEVER,
  Note,
  Question,
  usePolling,
  useTask,
} from "./ui.tsx";

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

type MissingNode = { class_type: string | null; pack?: string | null; needs?: string | null };

type Found = {
  offline: boolean;
  models: Model[];
  missing_nodes: MissingNode[];
  warnings: string[];
};

const SHOWN = new Set(["missing", "fetching", "done", "failed", "cancelled", "no_link", "refused"]);
const STATES: Record<string, string> = {
  missing: "missing",
  fetching: "waiting",
  done: "is available now",
  no_link: "missing; the workflow has no link to it",
};
const LOOK_FOR_ACCOUNT = 30_000; // ms
const CAN_FETCH = new Set(["missing", "failed", "cancelled"]);

type Props = {
  transport: Transport;
  /** The panel, if downloads are followed while any part of it is seen. */
  panel?: RefObject<HTMLElement | null>;
  source: Source;
  machine: string | null;
  /** The form, whose files and price are looked at, too. */
  form?: FormState;
  /** Called when ComfyUI has something more: the form then offers it. */
  onFetched: () => void;
  /** What downloads the missing models, for other parts of the panel; null if nothing can be. */
  download?: Signal<(() => void) | null>;
};

/** What is missing, in parts that look alike: what, its size, one button, progress in place. */
export function Missing(props: Props) {
  const { transport, source, machine, form, onFetched, download } = props;
  const own = useRef<HTMLDivElement>(null);
  const root = props.panel ?? own;
  const found = useSignal<Found | null>(null);
  const problem = useSignal("");
  const isBusy = useSignal(false);
  const turn = useSignal(0);
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
      for (const list of [reply.models, reply.missing_nodes, reply.warnings]) listOf<unknown>(list);
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
  }, [source, machine, transport]);
  const isTime = !form || form.isDone(source); // the form comes first: the server makes both
  useEffect(() => {
    if (!isTime) return undefined;
    ask({ dry_run: true });
    return () => wanted.current?.abort();
  }, [source, machine, transport, turn.value, isTime, form?.isDefined.value]);
  const nodes = found.value?.missing_nodes ?? [];
  return (
    <div class="comfydeploy-missing cd-rows" ref={own}>
      <Models {...{ transport, root, found, download, ask, onFetched }} isBusy={isBusy.value} />
      {form && <Files transport={transport} form={form} machine={machine} />}
      {nodes.length > 0 && (
        <Packs
          {...{ transport, root, source, machine, nodes }}
          onLoaded={() => {
            turn.value += 1;
            onFetched();
          }}
        />
      )}
      {form?.price.value && <Account transport={transport} root={root} price={form.price.value} />}
      {found.value?.warnings.map((text) => (
        <Note key={text}>{text}</Note>
      ))}
      <ErrorBox text={problem.value} />
    </div>
  );
}

type PartProps = {
  /** What is missing, and its size. */
  title: string;
  /** The names of the columns. */
  columns?: string[];
  /** The button. */
  action?: ComponentChildren;
  children?: ComponentChildren;
};

function Part({ title, columns, action, children }: PartProps) {
  return (
    <section class="cd-rows" aria-label={title}>
      <div class="cd-line">
        <b class="cd-grow" role="status" aria-live="polite">
          {title}
        </b>
        {action}
      </div>
      {children && (
        <div class="cd-missing">
          <table>
            {columns && (
              <thead>
                <tr>
                  {columns.map((name) => (
                    <th key={name}>{name}</th>
                  ))}
                </tr>
              </thead>
            )}
            <tbody>{children}</tbody>
          </table>
        </div>
      )}
    </section>
  );
}

/** "1 model is missing". */
function missing(number: number, what: string): string {
  return `${counted(number, what)} ${number === 1 ? "is" : "are"} missing`;
}

// -- models ----------------------------------------------------------------------------------------

type ModelsProps = {
  transport: Transport;
  root: RefObject<HTMLElement | null>;
  found: Signal<Found | null>;
  isBusy: boolean;
  download: Signal<(() => void) | null> | undefined;
  ask: (options: object) => Promise<void>;
  onFetched: () => void;
};

function Models({ transport, root, found, isBusy, download, ask, onFetched }: ModelsProps) {
  const server = useServerTransfers(transport, root, () =>
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
  const { models: all = [], offline } = found.value ?? {};
  const models = all.filter(({ state }) => SHOWN.has(state));
  const lacking = models.filter(({ state }) => state !== "done");
  const isFetching = models.some(({ state }) => state === "fetching");
  const canFetch = models.some(({ state }) => CAN_FETCH.has(state)) && !isFetching && !isBusy;
  const size = lacking.reduce((sum, model) => sum + (model.size ?? 0), 0);
  const canDownload = canFetch && !offline;
  useEffect(() => {
    if (!download) return undefined;
    download.value = canDownload ? fetchAll : null;
    return () => {
      download.value = null;
    };
  }, [canDownload, found.value, transport, download]);
  if (!lacking.length) return null;
  return (
    <Part
      title={missing(lacking.length, "model") + (size ? `, ${formatBytes(size)}` : "")}
      columns={["Model", "Folder", "Size", "State"]}
      action={
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
      }
    >
      {models.map((model) => (
        <ModelRow
          key={`${model.folder}/${model.name}`}
          model={model}
          transfer={transfers.find(({ id }) => id === model.transfer)}
          onCancel={server.cancel}
        />
      ))}
    </Part>
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

// -- files -----------------------------------------------------------------------------------------

type FilesProps = { transport: Transport; form: FormState; machine: string | null };

/** The files that the form names and ComfyUI's input folder lacks. */
function Files({ transport, form, machine }: FilesProps) {
  const absent = useSignal(new Set<string>());
  const asked = useRef(new Map<string, boolean | null>()).current;
  const rows = form.rows.value.filter(({ kind }) => isMedia(kind));
  const names = rows.map(({ key }) => String(form.values.value[key] ?? ""));
  useEffect(() => {
    asked.clear();
    absent.value = new Set();
  }, [form.number.value, machine]);
  useEffect(() => {
    const show = () => {
      absent.value = new Set([...asked].filter(([, isThere]) => isThere === false).map(first));
    };
    names.forEach(async (name, place) => {
      const isListed = rows[place]?.options?.includes(name);
      if (isListed) asked.delete(name);
      if (!name || isListed || /^[a-z]+:/i.test(name) || asked.has(name)) return;
      asked.set(name, null);
      const isThere = await mediaOf(transport)
        .size(viewQuery(name, machine))
        .then(
          () => true,
          (error) => !(error instanceof RouteError && error.status === 404),
        );
      if (asked.get(name) === null) asked.set(name, isThere);
      show();
    });
    show();
  }, [names.join("\n"), machine, form.rows.value]);
  const lacking = rows.filter((_, place) => absent.value.has(names[place] ?? ""));
  const [one] = lacking;
  if (!one) return null;
  /** Each file goes to the input that names it, the others in order. */
  const take = (files: File[]) => {
    const nameOf = ({ key }: { key: string }) =>
      String(form.values.value[key] ?? "").replace(/^.*\//, "");
    const left = lacking.filter((row) => {
      const place = files.findIndex((file) => file.name === nameOf(row));
      if (place < 0) return true;
      form.upload(row.key, files.splice(place, 1)[0] as File);
      return false;
    });
    for (const row of left) {
      const file = files.shift();
      if (file) form.upload(row.key, file);
    }
  };
  const kinds = new Set(lacking.map(({ kind }) => kind));
  const word = kinds.size > 1 ? "file" : MEDIA[one.kind as MediaKind].word;
  const accept = [...kinds].map((kind) => MEDIA[kind as MediaKind].accept).join(",");
  return (
    <Part
      title={missing(lacking.length, word)}
      columns={["Name", "Input", "State"]}
      action={
        <FileButton
          label={lacking.length > 1 ? `Upload ${lacking.length} ${word}s` : `Upload the ${word}`}
          accept={accept}
          multiple={lacking.length > 1}
          primary
          onFiles={take}
        />
      }
    >
      {lacking.map(({ key, label }) => {
        const sending = form.uploads.value[key];
        return (
          <tr key={key}>
            <td>{form.values.value[key] as string}</td>
            <td class="cd-words">{label}</td>
            <td>
              {sending ? (
                <span class="cd-line">
                  {sending.text}
                  <Button
                    label="Cancel"
                    name={`Cancel ${sending.text}`}
                    onClick={() => form.stopSending(key)}
                  />
                </span>
              ) : (
                (form.problems.value[key] ?? "missing")
              )}
            </td>
          </tr>
        );
      })}
    </Part>
  );
}

function first<First>([value]: [First, unknown]): First {
  return value;
}

// -- node packs ------------------------------------------------------------------------------------

type Pack = {
  pack: string;
  title: string;
  url: string;
  classes: string[];
  state: "missing" | "waiting" | "installing" | "installed" | "failed" | "no_manager" | "cancelled";
  problem: string | null;
  /** What ComfyUI's log says while it is being installed. */
  progress?: string | null;
};

type PacksReply = {
  offline: boolean;
  machine: string;
  managed: boolean;
  manager: string | null;
  packs: Pack[];
  others: MissingNode[];
};

const PACK_STATES: Record<Pack["state"], string> = {
  missing: "missing",
  waiting: "waits for the one before it",
  installing: "ComfyUI-Manager is installing it …",
  installed: "is installed; ComfyUI has to be restarted",
  failed: "not installed",
  no_manager: "missing; this ComfyUI has no ComfyUI-Manager that could install it",
  cancelled: "cancelled",
};
const LOOK = 1000; // ms between two looks at an installation

const isMoving = ({ state }: Pack) => state === "waiting" || state === "installing";

type PacksProps = {
  transport: Transport;
  root: RefObject<HTMLElement | null>;
  source: Source;
  machine: string | null;
  nodes: MissingNode[];
  /** Called when ComfyUI was restarted. */
  onLoaded: () => void;
};

function Packs({ transport, root, source, machine, nodes, onLoaded }: PacksProps) {
  const found = useSignal<PacksReply | null>(null);
  const task = useTask();
  const asks = useSignal("");
  const isRestarting = useSignal(false);
  const ask = async (options: object, signal?: AbortSignal) => {
    const body = { ...source, machine, ...options };
    const reply = await transport.post<PacksReply>("workflow/install-packs", body, signal);
    if (!signal?.aborted) found.value = reply;
  };
  useEffect(() => {
    const stop = new AbortController();
    // without an answer, the packs are those that the workflow names
    ask({ dry_run: true }, stop.signal).catch(() => {});
    return () => stop.abort();
  }, [source, machine, nodes, transport]);
  const wake = usePolling(root, async (signal) => {
    const { value } = found;
    if (!value?.packs.some(isMoving)) return NEVER;
    try {
      const query = { machine: value.machine };
      const list = await transport.get<Pack[]>("node-packs", query, signal);
      const now = new Map(listOf(list).map((each) => [each.pack, each]));
      const packs = value.packs.map((pack) => ({
        ...pack,
        ...(isMoving(pack) && now.get(pack.pack)),
      }));
      found.value = { ...value, packs };
      if (!packs.some(isMoving)) await ask({ dry_run: true }, signal);
    } catch {
      // it is tried again
    }
    return LOOK;
  });
  const install = (packs: Pack[]) =>
    task.run(async () => {
      await ask({ packs: packs.map(({ pack }) => pack) });
      wake();
    });
  const restart = () =>
    task.run(async () => {
      asks.value = "";
      isRestarting.value = true;
      try {
        await transport.post("machine/update", { machine_id: found.value?.machine, restart: true });
        onLoaded();
      } finally {
        isRestarting.value = false;
      }
    });
  const wantRestart = () =>
    task.run(async () => {
      type Status = { queue: { running: number } };
      const query = { machine: found.value?.machine };
      const { queue } = await transport.get<Status>("check-status", query);
      if (!queue.running) return restart();
      asks.value = "A run is being executed. Restart ComfyUI nevertheless?";
    });
  const { packs = [], others = nodes, managed, manager, offline } = found.value ?? {};
  const lacking = packs.filter(({ state }) => state !== "installed");
  const canBe = packs.filter(({ state }) => state === "missing" || state === "cancelled");
  const isInstalled = packs.length > lacking.length;
  const busy = task.busy.value || packs.some(isMoving);
  const installed = `${counted(packs.length - lacking.length, "node pack")} installed`;
  const title = isRestarting.value
    ? "ComfyUI is being restarted …"
    : lacking.length
      ? missing(lacking.length, "node pack")
      : `${installed}: ComfyUI has to be restarted`;
  return (
    <>
      {packs.length > 0 && (
        <Part
          title={title}
          columns={["Node pack", "Node classes", "State"]}
          action={
            isInstalled && !busy && managed && !canBe.length ? (
              <Button label="Restart ComfyUI" icon="refresh" primary onClick={wantRestart} />
            ) : (
              manager && (
                <Button
                  label={packs.length > 1 ? "Install all" : "Install"}
                  name="Install the missing node packs"
                  icon="download"
                  hint={
                    offline
                      ? "The setting `offline` forbids downloads"
                      : `Install them by ComfyUI-Manager ${manager}. Code in a node pack runs with the rights of ComfyUI`
                  }
                  primary
                  disabled={busy || offline || !canBe.length}
                  onClick={() => install(canBe)}
                />
              )
            )
          }
        >
          {packs.map((pack) => (
            <PackRow
              key={pack.pack}
              pack={pack}
              onCancel={async () => {
                await transport.post("cancel-node-packs", {
                  pack: pack.pack,
                  machine: found.value?.machine,
                });
                wake();
              }}
              onRetry={manager && !offline && !busy ? () => install([pack]) : null}
            />
          ))}
        </Part>
      )}
      {isInstalled && managed === false && (
        <Note>This server has not started this ComfyUI: restart it where it was started.</Note>
      )}
      {others.length > 0 && (
        <Part
          title={`${others.length} node ${others.length === 1 ? "class is" : "classes are"} missing`}
        >
          {others.map(({ class_type, pack, needs }) => (
            <tr key={class_type}>
              <td>{class_type}</td>
              <td>node</td>
              <td>
                {["missing", pack && `in the node pack ${pack}`, needs].filter(Boolean).join(": ")}
              </td>
            </tr>
          ))}
        </Part>
      )}
      <ErrorBox text={task.error.value} />
      {asks.value && (
        <Question
          title={asks.value}
          action="Restart"
          danger
          onConfirm={restart}
          onClose={() => {
            asks.value = "";
          }}
        >
          <Note>The run fails. Runs that wait are queued again.</Note>
        </Question>
      )}
    </>
  );
}

type PackRowProps = {
  pack: Pack;
  onCancel: () => Promise<void>;
  onRetry: (() => void) | null;
};

function PackRow({ pack, onCancel, onRetry }: PackRowProps) {
  const task = useTask();
  const { title, url, classes, state, problem, progress } = pack;
  return (
    <tr class={state === "failed" ? "cd-wrong" : ""}>
      <td title={url}>{/^https:/.test(url) ? <Link href={url}>{title}</Link> : title}</td>
      <td class="cd-words">{classes.join(", ")}</td>
      <td>
        <span class="cd-line">
          <span class="cd-grow cd-words">
            {problem ?? PACK_STATES[state]}
            {state === "installing" && progress && <div class="cd-faint">{progress}</div>}
          </span>
          {state === "waiting" && (
            <Button
              label="Cancel"
              name={`Cancel the installation of ${title}`}
              disabled={task.busy.value}
              onClick={() => task.run(onCancel)}
            />
          )}
          {state === "failed" && onRetry && (
            <Button label="Try again" name={`Install ${title} again`} onClick={onRetry} />
          )}
        </span>
        <ErrorBox text={task.error.value} />
      </td>
    </tr>
  );
}

// -- price -----------------------------------------------------------------------------------------

type AccountProps = { transport: Transport; root: RefObject<HTMLElement | null>; price: string };

/** That partner nodes need an account, and a dialog that signs in. */
function Account({ transport, root, price }: AccountProps) {
  const isMissing = useSignal(false);
  const isOpen = useSignal(false);
  const wake = usePolling(root, async (signal) => {
    try {
      type Known = { source: string | null };
      const { source } = await transport.get<Known>("comfy-account", {}, signal);
      isMissing.value = source === null;
    } catch {
      // the panel says what is wrong with its server
    }
    return LOOK_FOR_ACCOUNT;
  });
  const close = () => {
    isOpen.value = false;
    wake();
  };
  return (
    <>
      {isMissing.value && (
        <Part
          title={`A Comfy account is missing, which pays for partner nodes. ${price}`}
          action={
            <Button
              label="Sign in …"
              icon="sign-in"
              primary
              onClick={() => {
                isOpen.value = true;
              }}
            />
          }
        />
      )}
      {isOpen.value && (
        <Dialog label="Comfy account" onClose={close}>
          <AccountPanel transport={transport} />
          <div class="cd-line cd-end">
            <Button label="Close" onClick={close} />
          </div>
        </Dialog>
      )}
    </>
  );
}
