/** The dialogs that delete or move a model. They show what uses it. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { counted, messageOf } from "../format.ts";
import type { Transport } from "../transport.ts";
import { ErrorBox, Note, Question, Select, TextField } from "./ui.tsx";

/** A model file, as the route `models` describes it. */
export type Entry = { name: string; folder: string; size: number | null; modified: number | null };

/** What uses a model, as the route `models/uses` returns it. */
type Uses = {
  in_use: boolean;
  workflows: { name: string }[];
  run_count: number;
  unfinished: number;
  queued: boolean | null; // null: a ComfyUI does not answer
  transfers: unknown[];
};

/** A change of a model, as the route `volume/model` takes it. */
export type ModelOrder = {
  action: "delete" | "move";
  in_use: boolean;
  to_folder?: string;
  to_filename?: string;
};

type QuestionProps = {
  transport: Transport;
  machine: string | null;
  entry: Entry;
  /** Does it, and returns what is wrong. */
  change: (order: ModelOrder) => Promise<string>;
  onClose: () => void;
};

const NAMED = 8; // the most workflows whose names are shown

/** Return what uses a model, in sentences. */
function sentences(uses: Uses): string[] {
  const { workflows, run_count, unfinished } = uses;
  const names = workflows.slice(0, NAMED).map(({ name }) => `“${name}”`);
  if (workflows.length > NAMED) names.push("…");
  const ended = run_count - unfinished;
  const verb = workflows.length === 1 ? "uses" : "use";
  const all: [number, string][] = [
    [
      workflows.length,
      `${counted(workflows.length, "stored workflow")} ${verb} it: ${names.join(", ")}.`,
    ],
    [ended, `${counted(ended, "earlier run")} used it.`],
  ];
  const lines = all.filter(([count]) => count).map(([, text]) => text);
  if (uses.in_use || lines.length) return lines;
  return ["No stored workflow and no recent run uses it."];
}

/** Return what uses a model now. */
function warning({ unfinished, transfers, queued }: Uses): string {
  const parts = [
    unfinished ? counted(unfinished, "run") : "",
    transfers.length ? counted(transfers.length, "transfer") : "",
  ].filter(Boolean);
  if (!parts.length && queued === null)
    return "ComfyUI does not answer: it is not known whether a prompt in its queue needs it.";
  if (!parts.length) return queued ? "A prompt in ComfyUI's queue needs it now." : "";
  const isOne = unfinished + transfers.length === 1;
  return `${parts.join(" and ")} that ${isOne ? "has not ended needs" : "have not ended need"} it now.`;
}

/** What uses a model, and the change of it. */
function useChange({ transport, machine, entry, change }: QuestionProps) {
  const uses = useSignal<Uses | null>(null);
  const unknown = useSignal("");
  const problem = useSignal("");
  const isBusy = useSignal(false);
  const stop = useRef<AbortController | null>(null);
  const ask = async () => {
    stop.current?.abort();
    stop.current = new AbortController();
    const { signal } = stop.current;
    const query = { folder: entry.folder, filename: entry.name, machine };
    try {
      uses.value = await transport.get<Uses>("models/uses", query, signal);
      unknown.value = "";
    } catch (error) {
      if (!signal.aborted) unknown.value = messageOf(error);
    }
  };
  useEffect(() => {
    ask();
    return () => stop.current?.abort();
  }, []);
  const start = async (order: Omit<ModelOrder, "in_use">) => {
    const known = uses.value;
    const in_use = known !== null && (known.in_use || known.queued === null);
    isBusy.value = true;
    problem.value = await change({ ...order, in_use });
    isBusy.value = false;
    if (problem.value) ask();
  };
  const shown = (
    <>
      <ul class="cd-uses" aria-busy={!uses.value && !unknown.value}>
        {!uses.value && !unknown.value && <li class="cd-faint">Looking for what uses it …</li>}
        {uses.value && sentences(uses.value).map((text) => <li key={text}>{text}</li>)}
      </ul>
      <ErrorBox text={uses.value ? warning(uses.value) : ""} />
      <ErrorBox text={problem.value || unknown.value} />
    </>
  );
  return { isKnown: uses.value !== null, isBusy: isBusy.value, start, shown };
}

/** Asks whether a model is to be deleted. */
export function DeleteQuestion(props: QuestionProps) {
  const { entry, onClose } = props;
  const { isKnown, isBusy, start, shown } = useChange(props);
  return (
    <Question
      title={`Delete ${entry.name}?`}
      action={isBusy ? "Deleting …" : "Delete"}
      danger
      disabled={!isKnown || isBusy}
      onConfirm={() => start({ action: "delete" })}
      onClose={onClose}
    >
      <div>{`It is in ${entry.folder}. The file is deleted from the disk; this cannot be undone.`}</div>
      {shown}
    </Question>
  );
}

/** Asks for the new folder and the new name of a model. */
export function MoveQuestion(props: QuestionProps & { folders: string[] }) {
  const { entry, folders, onClose } = props;
  const { isBusy, start, shown } = useChange(props);
  const folder = useSignal(entry.folder);
  const name = useSignal(entry.name);
  const choices = folders.includes(entry.folder) ? folders : [entry.folder, ...folders];
  const wanted = name.value.trim();
  const isSame = folder.value === entry.folder && wanted === entry.name;
  const isReady = wanted !== "" && !isSame && !isBusy;
  const move = () => {
    if (isReady) start({ action: "move", to_folder: folder.value, to_filename: wanted });
  };
  return (
    <Question
      title={`Move or rename ${entry.name}`}
      action={isBusy ? "Moving …" : "Move"}
      disabled={!isReady}
      onConfirm={move}
      onClose={onClose}
    >
      <Select
        label="Models folder"
        bind={folder}
        options={choices.map((choice) => [choice, choice])}
      />
      <TextField label="Name, with its subfolder" bind={name} onEnter={move} />
      <Note>
        Existing files are not replaced. Workflows keep the old name and will not find the model.
      </Note>
      {shown}
    </Question>
  );
}
