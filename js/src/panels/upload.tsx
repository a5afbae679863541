/** Sends files to ComfyUI, and shows transfers and models. */

import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { Down } from "../components/down.tsx";
import { FileButton, useDrop } from "../components/files.tsx";
import { ModelTable } from "../components/models.tsx";
import { type Act, TransferRow, useServerTransfers } from "../components/transfers.tsx";
import {
  Button,
  Checkbox,
  ErrorBox,
  Note,
  Select,
  Tabs,
  TextField,
  usePolling,
  useTask,
} from "../components/ui.tsx";
import { formatBytes, messageOf } from "../format.ts";
import type { PanelProps } from "../state/traits.ts";
import { type ChosenFile, droppedFiles } from "../transfers/dropped_files.ts";
import { isOpen, ofServer, type Transfer } from "../transfers/transfer.ts";
import { type Upload, uploadsOf } from "../transfers/uploads.ts";
import { listOf, RouteError, type Transport } from "../transport.ts";

type UploadTraits = {
  /** Where the next files go: the `type` of an upload. */
  place: string;
  subfolder: string;
  overwrite: boolean;
  machine: string | null;
  choose_machine: boolean;
  uploads: Upload[];
  /** The transfers of the server that were seen to be open, and whether they are still shown. */
  followed: Record<string, boolean>;
  /** What the saved notebook shows: file, destination, size, state and hash of each. */
  rows: string[][];
  /** Another number has the models requested again. */
  refreshed: number;
  record: string;
};

type Machine = { id: string; name: string; kind: string };

const PLACES: [string, string][] = [
  ["input", "Input files of workflows"],
  ["output", "Output files"],
  ["temp", "Temporary files"],
];
/** The folders that can be chosen until ComfyUI's own folders are known. */
const USUAL = ["checkpoints", "loras", "vae", "controlnet", "embeddings", "upscale_models"];
/** A models folder of ComfyUI that is no destination: files there are programs. */
const NOT_OFFERED = "custom_nodes";
const MODELS = "models/";
const FILES = "Files";
const PAUSE = 600_000; // ms between two requests for the folders and the machines
const LOST = 5000; // while nothing answers
const SHOWN = 200; // transfers that are shown
const FOLLOWED = 500; // transfers of the server that were seen
const RECORDED = 100; // transfers that the saved notebook lists

export function UploadPanel({ transport, traits }: PanelProps<UploadTraits>) {
  const root = useRef<HTMLDivElement>(null);
  const tab = useSignal(FILES);
  const folders = useSignal<string[] | null>(null);
  const machines = useSignal<Machine[]>([]);
  const problem = useSignal("");
  const changes = useSignal(0);
  const machine = traits.machine.value || null;
  const uploads = useMemo(() => uploadsOf(traits.record.peek()), [traits]);
  useEffect(() => uploads.attach(transport, traits), [uploads, transport, traits]);

  usePolling(
    root,
    async (signal) => {
      try {
        const [all, found] = await Promise.all([
          traits.choose_machine.value ? transport.get<Machine[]>("machines", {}, signal) : [],
          transport.get<object>("models", { format: "folders", machine }, signal),
        ]);
        machines.value = listOf<Machine>(all).filter(({ kind }) => kind !== "cloud"); // they take no uploads
        folders.value = Object.keys(found)
          .filter((folder) => folder !== NOT_OFFERED)
          .sort();
        problem.value = "";
        return PAUSE;
      } catch (error) {
        if (!signal.aborted) problem.value = messageOf(error);
        return LOST;
      }
    },
    machine ?? "",
  );
  const server = useServerTransfers(transport, root);

  const shown = useComputed(() => {
    const followed = traits.followed.value;
    return server.transfers.value.filter(
      ({ id, state }) => followed[id] ?? (state === "failed" || isOpen({ state })),
    );
  });
  // what was open is shown until it is cleared; what has arrived may be a model
  const states = useRef<Record<string, string> | null>(null);
  useEffect(() => {
    const found = server.transfers.value;
    if (!found.length) return;
    const before = traits.followed.value;
    const all = { ...before };
    for (const { id } of found.filter(isOpen)) all[id] = true;
    const followed = Object.fromEntries(Object.entries(all).slice(-FOLLOWED));
    if (JSON.stringify(followed) !== JSON.stringify(before)) traits.set({ followed });
  }, [server.transfers.value, traits]);
  const list = useComputed<Transfer[]>(() => [
    ...uploads.all.value,
    ...shown.value.map((transfer) => ofServer(transfer)),
  ]);
  const rows = useComputed(() => list.value.slice(-RECORDED).map(recorded));
  useEffect(() => {
    const now = Object.fromEntries(list.value.map(({ id, state }) => [id, state]));
    const before = states.current;
    const isNew = ({ id, state }: Transfer) => state === "done" && before?.[id] !== "done";
    const isModel = ({ where }: Transfer) => where.startsWith(MODELS) || where === "to ComfyUI";
    if (before && list.value.some((each) => isNew(each) && isModel(each))) changes.value += 1;
    states.current = now;
    if (JSON.stringify(rows.value) !== JSON.stringify(traits.rows.value)) {
      traits.set({ rows: rows.value });
    }
  }, [list.value, rows, traits, changes]);

  const destination = () => ({
    type: traits.place.value,
    subfolder: traits.subfolder.value.trim().replace(/^\/+|\/+$/g, ""),
    overwrite: traits.overwrite.value,
    machine,
  });
  const isOwn = (id: string) => uploads.all.value.some((upload) => upload.id === id);
  const cancel: Act = (id) => {
    if (!isOwn(id)) return server.cancel(id);
    uploads.cancel(id);
  };
  const retry: Act = (id) => {
    if (!isOwn(id)) return server.retry(id);
    uploads.retry(id);
  };
  const canRetry = (transfer: Transfer) =>
    isOwn(transfer.id) ? uploads.canRetry(transfer) : transfer.state === "failed";
  const clear = () => {
    const ended = list.value.filter((transfer) => !isOpen(transfer)).map(({ id }) => id);
    const hidden = ended.filter((id) => !isOwn(id)).map((id) => [id, false]);
    traits.set({ followed: { ...traits.followed.value, ...Object.fromEntries(hidden) } });
    uploads.forget(new Set(ended.filter(isOwn)));
  };
  const add = (files: ChosenFile[]) => uploads.add(files, destination());
  const follow = (id: string) => {
    traits.set({ followed: { ...traits.followed.value, [id]: true } });
    tab.value = FILES; // where its progress is seen
    server.wake();
  };

  const chosen = machine ?? machines.value[0]?.id ?? "";
  const named = machines.value.find(({ id, name }) => chosen === id || chosen === name);
  return (
    <div class="cd-rows" ref={root}>
      <Down transport={transport} root={root} machine={machine} />
      {machines.value.length > 1 && (
        <Select
          label="Machine"
          value={named?.id ?? ""}
          options={machines.value.map(({ id, name }) => [id, name])}
          onChange={(value) => traits.set({ machine: value })}
        />
      )}
      <Tabs
        label="Files and models"
        shown={tab.value}
        onShow={(name) => {
          tab.value = name;
        }}
        tabs={{
          [FILES]: () => (
            <div class="cd-rows">
              <div class="cd-halves">
                <Select
                  label="Destination"
                  value={traits.place.value}
                  options={placesOf(folders.value ?? USUAL, traits.place.value)}
                  onChange={(place) => traits.set({ place })}
                />
                <TextField
                  label="Subfolder"
                  placeholder="none"
                  value={traits.subfolder.value}
                  onInput={(subfolder) => traits.set({ subfolder })}
                />
              </div>
              <Checkbox
                label="Replace files of the same name"
                value={traits.overwrite.value}
                onChange={(overwrite) => traits.set({ overwrite })}
              />
              <Zone onFiles={add} />
              <TransferList
                transfers={list.value}
                canRetry={canRetry}
                cancel={cancel}
                retry={retry}
                clear={clear}
              />
            </div>
          ),
          Models: () => (
            <ModelTable
              key={machine}
              transport={transport}
              machine={machine}
              folders={folders.value ?? []}
              changes={changes.value + traits.refreshed.value}
            />
          ),
          "Add a model from a link": () => (
            <AddModel
              transport={transport}
              machine={machine}
              folders={folders.value ?? USUAL}
              onAdded={follow}
            />
          ),
        }}
      />
      <ErrorBox text={server.lost.value || problem.value} />
    </div>
  );
}

function placesOf(folders: string[], chosen: string): [string, string][] {
  const places = [
    ...PLACES,
    ...folders.map((folder): [string, string] => [`${MODELS}${folder}`, `Models: ${folder}`]),
  ];
  if (places.some(([value]) => value === chosen)) return places;
  return [[chosen, chosen], ...places];
}

/** Return what the saved notebook shows of a transfer. */
function recorded({ name, where, size, state, error, result }: Transfer): string[] {
  const bytes = size === null ? "" : formatBytes(size);
  return [name, where, bytes, error ? `${state}: ${error}` : state, result?.file_hash ?? ""];
}

/** Where files are chosen, and files and folders dropped. */
function Zone({ onFiles }: { onFiles: (files: ChosenFile[]) => void }) {
  const root = useRef<HTMLDivElement>(null);
  useDrop(root, { take: async (_, dropped) => onFiles(await droppedFiles(dropped)) });
  const choose = (files: File[]) => onFiles(files.map((file) => ({ file, folder: "" })));
  return (
    <div class="cd-zone" ref={root}>
      <FileButton label="Choose files" multiple primary onFiles={choose} />
      <span class="cd-faint">or drop them here</span>
    </div>
  );
}

type ListProps = {
  /** Oldest first. */
  transfers: Transfer[];
  canRetry: (transfer: Transfer) => boolean;
  cancel: Act;
  retry: Act;
  clear: () => void;
};

function TransferList({ transfers, canRetry, cancel, retry, clear }: ListProps) {
  const task = useTask();
  if (!transfers.length) return null;
  const open = transfers.filter(isOpen);
  const failed = transfers.filter((each) => each.state === "failed" && canRetry(each));
  const counts = ["done", "failed", "cancelled", "lost"]
    .map((state) => ({ state, count: transfers.filter((each) => each.state === state).length }))
    .filter(({ count }) => count > 0)
    .map(({ state, count }) => `${count} ${state}`);
  const all = (some: Transfer[], action: Act) =>
    task.run(() => Promise.all(some.map(({ id }) => action(id))));
  const more = transfers.length - SHOWN;
  return (
    <>
      <div class="cd-line">
        <span class="cd-grow cd-summary" role="status">
          {(open.length ? [`${open.length} in progress`, ...counts] : counts).join(", ")}
        </span>
        <Button label="Cancel all" disabled={!open.length} onClick={() => all(open, cancel)} />
        <Button label="Retry failed" disabled={!failed.length} onClick={() => all(failed, retry)} />
        <Button
          label="Clear finished"
          disabled={open.length === transfers.length}
          onClick={clear}
        />
      </div>
      <ErrorBox text={task.error.value} />
      <ul class="cd-transfers" aria-label="Transfers">
        {transfers
          .slice(-SHOWN)
          .reverse()
          .map((transfer) => (
            <TransferRow
              key={transfer.id}
              transfer={transfer}
              onCancel={cancel}
              onRetry={canRetry(transfer) ? retry : undefined}
            />
          ))}
      </ul>
      {more > 0 && <Note>{`${more} more are not shown`}</Note>}
    </>
  );
}

type AddProps = {
  transport: Transport;
  machine: string | null;
  folders: string[];
  onAdded: (id: string) => void;
};

/** Downloads a model from an address into one of ComfyUI's folders. */
function AddModel({ transport, machine, folders, onAdded }: AddProps) {
  const link = useSignal(""); // no trait: an address may contain a key
  const folder = useSignal("checkpoints");
  const filename = useSignal("");
  const sha256 = useSignal("");
  const task = useTask();
  /** The field that is wrong, and what is wrong with it. */
  const wrong = useSignal<{ field: string; problem: string } | null>(null);
  const place = folders.includes(folder.value) ? folder.value : (folders[0] ?? "");
  const add = () =>
    task.run(async () => {
      wrong.value = null;
      const url = link.value.trim();
      if (!url) {
        wrong.value = { field: "url", problem: "Enter the address of a model" };
        return;
      }
      try {
        const order = {
          url,
          folder: place,
          filename: filename.value.trim() || null,
          sha256: sha256.value.trim() || null,
          machine,
        };
        const { id } = await transport.post<{ id: string }>("volume/model", order);
        link.value = filename.value = sha256.value = "";
        onAdded(id);
      } catch (error) {
        const field = error instanceof RouteError ? error.details.field : undefined;
        if (!field || !["url", "folder", "filename", "sha256"].includes(field)) throw error;
        wrong.value = { field, problem: messageOf(error) };
      }
    });
  const problemOf = (field: string) => {
    return wrong.value?.field === field ? wrong.value.problem : undefined;
  };
  return (
    <div class="cd-rows">
      <TextField
        label="Link"
        placeholder="https://huggingface.co/…, https://civitai.com/models/… or any other"
        bind={link}
        problem={problemOf("url")}
        onEnter={add}
      />
      <div class="cd-halves">
        <Select
          label="Models folder"
          value={place}
          options={folders.map((each) => [each, each])}
          onChange={(value) => {
            folder.value = value;
          }}
        />
        <TextField
          label="File name"
          placeholder="as in the link"
          bind={filename}
          problem={problemOf("filename")}
          onEnter={add}
        />
      </div>
      <TextField
        label="SHA-256"
        placeholder="checked, if given"
        bind={sha256}
        problem={problemOf("sha256")}
        onEnter={add}
      />
      <div class="cd-line">
        <Button
          label="Add model"
          icon="download"
          hint="Download the model into ComfyUI's folder"
          primary
          disabled={task.busy.value}
          onClick={add}
        />
        {task.busy.value && <Note live>Requesting the download …</Note>}
      </div>
      <ErrorBox text={problemOf("folder") ?? task.error.value} />
    </div>
  );
}
