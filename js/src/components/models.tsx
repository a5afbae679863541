/** The models of ComfyUI: a table that is searched, sorted and filtered. */

import { useComputed, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { containsWords, counted, formatBytes, messageOf, searchWords } from "../format.ts";
import { listOf, type Transport } from "../transport.ts";
import { DeleteQuestion, type Entry, type ModelOrder, MoveQuestion } from "./model_questions.tsx";
import { Button, CopyButton, ErrorBox, Note, usePolling } from "./ui.tsx";

const SHOWN = 500; // rows that are shown; a search shows the others
const PAUSE = 600_000; // ms between two requests for the models, unless something has changed
const LOST = 5000; // while nothing answers
const READING = "!"; // the hash of a model whose file is being read

type Column = { key: string; title: string; read: (entry: Entry) => string | number };

const BY_NAME: Column = { key: "name", title: "Name", read: ({ name }) => name.toLowerCase() };
const COLUMNS: Column[] = [
  BY_NAME,
  { key: "folder", title: "Folder", read: ({ folder }) => folder.toLowerCase() },
  { key: "size", title: "Size", read: ({ size }) => size ?? -1 },
  { key: "modified", title: "Changed", read: ({ modified }) => modified ?? 0 },
];

type Disk = { free: number; total: number };

const keyOf = ({ folder, name }: Entry) => `${folder}/${name}`;

type Props = {
  transport: Transport;
  machine: string | null;
  /** The models folders of the machine, to which a model can be moved. */
  folders: string[];
  /** Another number has the models requested again. */
  changes: number;
};

/** The table of one machine: another one needs another `key`. */
export function ModelTable({ transport, machine, folders, changes }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const models = useSignal<Entry[] | null>(null);
  /** Null if the files are not on the server's machine: they can be neither moved nor deleted. */
  const disk = useSignal<Disk | null>(null);
  const lost = useSignal("");
  const hashes = useSignal<Record<string, string>>({});
  const search = useSignal("");
  const folder = useSignal("");
  const sorting = useSignal({ column: BY_NAME, descending: false });
  const asked = useSignal<{ kind: ModelOrder["action"]; entry: Entry } | null>(null);
  /** What is being done, by the key of its model; what was done; what has failed. */
  const unfinished = useSignal<Record<string, string>>({});
  const done = useSignal("");
  const failed = useSignal("");
  const again = usePolling(
    root,
    async (signal) => {
      try {
        const [reply, space] = await Promise.all([
          transport.get<Entry[]>("models", { machine }, signal),
          diskOf(transport, machine, signal),
        ]);
        const found = listOf(reply);
        const before = new Map(models.value?.map((entry) => [keyOf(entry), JSON.stringify(entry)]));
        const same = found.filter((entry) => before.get(keyOf(entry)) === JSON.stringify(entry));
        const kept = new Set(same.map(keyOf));
        hashes.value = Object.fromEntries(
          Object.entries(hashes.value).filter(([key]) => kept.has(key)),
        );
        [models.value, disk.value, lost.value] = [found, space, ""];
        return PAUSE;
      } catch (error) {
        if (!signal.aborted) lost.value = messageOf(error);
        return LOST;
      }
    },
    String(changes),
  );

  const reading = useRef(Promise.resolve()); // one file after another
  const readHash = (entry: Entry) => {
    const key = keyOf(entry);
    const set = (hash: string) => {
      const { [key]: _, ...others } = hashes.value;
      hashes.value = hash ? { ...others, [key]: hash } : others;
    };
    set(READING);
    failed.value = "";
    reading.current = reading.current.then(async () => {
      try {
        const query = { filename: key, machine };
        set((await transport.get<{ file_hash: string }>("get-file-hash", query)).file_hash);
      } catch (error) {
        set("");
        failed.value = `${key}: ${messageOf(error)}`;
      }
    });
  };

  /** Delete or move a model; return what is wrong, for its dialog. */
  const change = async (entry: Entry, order: ModelOrder): Promise<string> => {
    const key = keyOf(entry);
    const question = asked.value;
    const isMove = order.action === "move";
    const doing = `${isMove ? "Moving" : "Deleting"} ${key} …`;
    unfinished.value = { ...unfinished.value, [key]: doing };
    done.value = failed.value = "";
    try {
      const { folder, name: filename } = entry;
      await transport.post("volume/model", { ...order, folder, filename, machine });
      const place = `${order.to_folder}/${order.to_filename}`;
      done.value = isMove ? `${key} is ${place} now.` : `${key} is deleted.`;
      if (asked.value === question) asked.value = null;
      again();
      return "";
    } catch (error) {
      if (asked.value === question) return messageOf(error);
      failed.value = `${key}: ${messageOf(error)}`;
      return "";
    } finally {
      const { [key]: _, ...others } = unfinished.value;
      unfinished.value = others;
    }
  };

  const names = useComputed(() => {
    return [...new Set(models.value?.map((entry) => entry.folder))].sort();
  });
  const found = useComputed(() => {
    const words = searchWords(search.value);
    const { column, descending } = sorting.value;
    const sign = descending ? -1 : 1;
    const wanted = names.value.includes(folder.value) ? folder.value : "";
    return (models.value ?? [])
      .filter((entry) => !wanted || entry.folder === wanted)
      .filter((entry) => containsWords(keyOf(entry), words))
      .sort((a, b) => sign * compare(column.read(a), column.read(b)));
  });
  const sort = (column: Column) => {
    const before = sorting.value;
    sorting.value = { column, descending: before.column === column && !before.descending };
  };

  const canChange = disk.value !== null && folders.length > 0;
  const { column: sorted, descending } = sorting.value;
  const { value: question } = asked;
  const props = question && {
    transport,
    machine,
    entry: question.entry,
    change: (order: ModelOrder) => change(question.entry, order),
    onClose: () => {
      asked.value = null;
    },
  };
  return (
    <div class="cd-rows cd-models" ref={root}>
      <div class="cd-line">
        <input
          type="search"
          class="cd-grow"
          placeholder="Search models"
          aria-label="Search models"
          value={search.value}
          onInput={({ currentTarget }) => {
            search.value = currentTarget.value;
          }}
        />
        <select
          class="cd-fitting"
          aria-label="Show the models folder"
          value={names.value.includes(folder.value) ? folder.value : ""}
          onChange={({ currentTarget }) => {
            folder.value = currentTarget.value;
          }}
        >
          <option value="">All folders</option>
          {names.value.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
        <Button label="Refresh" onClick={again} />
      </div>
      {found.value.length > 0 && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled by keys
        <section class="cd-scroller" tabIndex={0} aria-label="Models">
          <table>
            <thead>
              <tr>
                {COLUMNS.map((column) => (
                  <th
                    key={column.key}
                    scope="col"
                    aria-sort={
                      column === sorted ? (descending ? "descending" : "ascending") : "none"
                    }
                  >
                    <button type="button" onClick={() => sort(column)}>
                      {column.title}
                    </button>
                  </th>
                ))}
                <th scope="col">SHA-256</th>
                {canChange && <th scope="col">Actions</th>}
              </tr>
            </thead>
            <tbody>
              {found.value.slice(0, SHOWN).map((entry) => (
                <Row
                  key={keyOf(entry)}
                  entry={entry}
                  hash={hashes.value[keyOf(entry)]}
                  onHash={readHash}
                  {...(canChange && {
                    onAsk: (kind) => {
                      asked.value = { kind, entry };
                    },
                  })}
                />
              ))}
            </tbody>
          </table>
        </section>
      )}
      <Note live>
        {summary(models.value, found.value)}
        {disk.value &&
          ` · ${formatBytes(disk.value.free)} of ${formatBytes(disk.value.total)} free`}
      </Note>
      <Note live>{[done.value, ...Object.values(unfinished.value)].filter(Boolean).join(" ")}</Note>
      <ErrorBox text={failed.value || lost.value} />
      {props && question?.kind === "delete" && <DeleteQuestion {...props} />}
      {props && question?.kind === "move" && <MoveQuestion {...props} folders={folders} />}
    </div>
  );
}

/** Return the space on the disk of the models; null for a ComfyUI on another machine. */
async function diskOf(
  transport: Transport,
  machine: string | null,
  signal: AbortSignal,
): Promise<Disk | null> {
  try {
    const query = { path: "models", machine };
    return (await transport.get<{ filesystem: Disk }>("fs/stat", query, signal)).filesystem;
  } catch {
    return null;
  }
}

function compare(a: string | number, b: string | number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function summary(all: Entry[] | null, found: Entry[]): string {
  if (!all) return "Loading …";
  if (!all.length) return "ComfyUI has no models yet";
  if (!found.length) return "No model matches the search";
  const size = found.reduce((sum, entry) => sum + (entry.size ?? 0), 0);
  const more = found.length > SHOWN ? `, the first ${SHOWN} are shown` : "";
  return `${counted(found.length, "model")}, ${formatBytes(size)}${more}`;
}

type RowProps = {
  entry: Entry;
  hash: string | undefined;
  onHash: (entry: Entry) => void;
  onAsk?: (kind: ModelOrder["action"]) => void;
};

function Row({ entry, hash, onHash, onAsk }: RowProps) {
  const { name, folder, size, modified } = entry;
  const changed = modified === null ? null : new Date(1000 * modified);
  return (
    <tr>
      <td class="cd-words">{name}</td>
      <td>{folder}</td>
      <td>{size === null ? "" : formatBytes(size)}</td>
      <td title={changed?.toLocaleString()}>{changed?.toLocaleDateString()}</td>
      <td>
        {hash && hash !== READING ? (
          <CopyButton
            label={`${hash.slice(0, 10)}… copy`}
            name={`Copy the hash of ${name}`}
            text={hash}
          />
        ) : (
          <Button
            label={hash === READING ? "Reading …" : "Compute"}
            name={`Compute the hash of ${name}`}
            disabled={hash === READING}
            onClick={() => onHash(entry)}
          />
        )}
      </td>
      {onAsk && (
        <td>
          <Button label="Move …" name={`Move or rename ${name}`} onClick={() => onAsk("move")} />{" "}
          <Button label="Delete …" name={`Delete ${name}`} onClick={() => onAsk("delete")} />
        </td>
      )}
    </tr>
  );
}
