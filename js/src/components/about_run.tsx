/** What stands beside a picture in full size: its size, seed, prompts and folder, and actions. */

import { useEffect, useRef, useState } from "preact/hooks";
import { formatBytes, formatDuration, messageOf } from "../format.ts";
import { mediaOf } from "../media.tsx";
import { folderAddress } from "../server.ts";
import {
  formatTime,
  type RunCard,
  type RunValue,
  type ShownFile,
  seedsOf,
  sizeText,
} from "../shown_runs.ts";
import type { Transport } from "../transport.ts";
import { Proof } from "./proof.tsx";
import { Button, CopyButton, Details, ErrorBox, Link } from "./ui.tsx";

const MAX_NOTE = 10_000; // characters
const OPEN = "Open the workflow with these values";

/** What users set of runs. */
export type Marks = { pinned?: boolean; starred?: boolean; note?: string };

/** The actions on a picture and its run; those that are missing have no button. */
export type RunActions = {
  reuse?: ((run: RunCard) => void) | undefined;
  use?: ((file: ShownFile, key: string) => void) | undefined;
  show?: ((run: RunCard) => void) | undefined;
  /** Open its workflow; without this and a run that can be shown, there is a link to a page of it. */
  open?: ((run: RunCard) => void) | undefined;
  /** Pin a run, give it a star or a note, or take these away. */
  mark: (run: RunCard, marks: Marks) => void;
  remove: (run: RunCard) => void;
};

type AboutProps = {
  transport: Transport;
  run: RunCard;
  file: ShownFile;
  /** The key and the label of each input of the form that takes a picture. */
  inputs: [string, string][];
  actions: RunActions;
};

/** Return the values of a run, or why they are not known; null at first. */
function useValues(transport: Transport, promptId: string): RunValue[] | string | null {
  const [found, setFound] = useState<{ id: string; values: RunValue[] | string } | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    const query = { prompt_id: promptId };
    transport.get<{ values: RunValue[] }>("runs/values", query, stop.signal).then(
      ({ values }) => setFound({ id: promptId, values }),
      (error) => {
        if (!stop.signal.aborted) setFound({ id: promptId, values: messageOf(error) });
      },
    );
    return () => stop.abort();
  }, [transport, promptId]);
  return found?.id === promptId ? found.values : null;
}

/** Return the size of a file in words, and its folder on the disk of the server, if it is there. */
function usePlace(transport: Transport, query: string): { bytes: string; folder: string } {
  const [bytes, setBytes] = useState("");
  const [folder, setFolder] = useState("");
  useEffect(() => {
    let isOver = false;
    setBytes("…");
    setFolder("");
    const fields = new URLSearchParams(query);
    const parts = [fields.get("type") ?? "output", fields.get("subfolder")];
    const path = { path: parts.filter(Boolean).join("/"), machine: fields.get("machine") };
    mediaOf(transport)
      .size(query)
      .then(
        (size) => !isOver && setBytes(size < 0 ? "–" : formatBytes(size)),
        () => !isOver && setBytes("gone"),
      );
    transport.get<{ path: string }>("fs/stat", path).then(
      (found) => !isOver && setFolder(found.path),
      () => {}, // ComfyUI is on another machine
    );
    return () => {
      isOver = true;
    };
  }, [transport, query]);
  return { bytes, folder };
}

export function AboutRun({ transport, run, file, inputs, actions }: AboutProps) {
  const { bytes, folder } = usePlace(transport, file.query);
  const values = useValues(transport, run.prompt_id);
  const known = Array.isArray(values) ? values : [];
  const prompts = known.filter(({ kind, value }) => kind === "multiline" && value);
  const others = known.filter(({ kind }) => kind !== "multiline");
  const labels = Object.entries(run.metadata).map((label) => label.join(": "));
  const facts: [string, string][] = [
    ["Size", sizeText(file)],
    ["File", bytes],
    ["Seed", seedsOf(run).join(", ") || "–"],
    ["Workflow", run.workflow],
    ["Made", formatTime(run.created_at)],
    ["Took", run.seconds === null ? "–" : formatDuration(run.seconds)],
    ["From", run.from_editor ? "ComfyUI's editor" : ""],
    ["Labels", labels.join(", ")],
  ];
  const { use } = actions;
  const address = folder ? folderAddress(folder) : null;
  return (
    <div class="cd-about">
      <dl>
        {facts.flatMap(([name, value]) =>
          value
            ? [
                <dt key={name}>{name}</dt>,
                <dd key={`${name} value`} dir="auto">
                  {value}
                </dd>,
              ]
            : [],
        )}
      </dl>
      <div class="cd-line">
        {actions.reuse && (
          <Button label="Use these values" icon="reply" onClick={() => actions.reuse?.(run)} />
        )}
        {actions.open ? (
          <Button label={OPEN} icon="play" onClick={() => actions.open?.(run)} />
        ) : (
          !actions.show &&
          transport.base !== null && (
            <Link href={`${transport.base}comfyui-deploy/app?run_id=${run.prompt_id}`}>{OPEN}</Link>
          )
        )}
        {actions.show && (
          <Button label="Show the run" icon="eye" onClick={() => actions.show?.(run)} />
        )}
        <Button
          label={run.starred ? "Remove the star" : "Star"}
          icon={run.starred ? "star" : "star-o"}
          hint="Mark it as one of the best (S)"
          onClick={() => actions.mark(run, { starred: !run.starred })}
        />
        <Button
          label={run.pinned ? "Unpin" : "Pin"}
          icon="thumb-tack"
          onClick={() => actions.mark(run, { pinned: !run.pinned })}
        />
        <Button label="Delete …" icon="trash-o" onClick={() => actions.remove(run)} />
        {use && inputs.length === 1 && inputs[0] && (
          <Button
            label={`Use as ${inputs[0][1]}`}
            icon="sign-in"
            onClick={() => use(file, inputs[0]?.[0] ?? "")}
          />
        )}
        {use && inputs.length > 1 && (
          <select
            aria-label="Use this picture as an input"
            value=""
            onChange={(event) => use(file, event.currentTarget.value)}
          >
            <option value="">Use as input …</option>
            {inputs.map(([key, label]) => (
              <option key={key} value={key}>
                {label}
              </option>
            ))}
          </select>
        )}
      </div>
      <Note key={run.prompt_id} run={run} onSave={(note) => actions.mark(run, { note })} />
      <div class="cd-prompts">
        {values === null && <span class="cd-faint">…</span>}
        {typeof values === "string" && <ErrorBox text={values} />}
        {prompts.map(({ key, label, value }) => (
          <Told key={key} label={label} text={value} />
        ))}
        {others.length > 0 && (
          <Details summary={`All values (${others.length})`}>
            <dl>
              {others.flatMap(({ key, label, value }) => [
                <dt key={key} dir="auto">
                  {label}
                </dt>,
                <dd key={`${key} value`} dir="auto">
                  {value}
                </dd>,
              ])}
            </dl>
          </Details>
        )}
        <Proof transport={transport} promptId={run.prompt_id} />
        {folder && (
          <Told label="Folder" text={folder}>
            {address && <Link href={address}>Open in JupyterLab</Link>}
          </Told>
        )}
      </div>
    </div>
  );
}

/** The note about a run; it is stored when the user leaves the field, or goes on. */
function Note({ run, onSave }: { run: RunCard; onSave: (note: string) => void }) {
  const [text, setText] = useState<string | null>(null); // null: as it is stored
  const latest = useRef({ text, save: () => {} });
  latest.current = {
    text,
    save: () => {
      if (text !== null && text.trim() !== (run.note ?? "")) onSave(text.trim());
      setText(null);
    },
  };
  useEffect(() => () => latest.current.save(), []);
  return (
    <textarea
      class="cd-user-note"
      aria-label="Note"
      placeholder="Note"
      dir="auto"
      rows={2}
      maxLength={MAX_NOTE}
      value={text ?? run.note ?? ""}
      onInput={(event) => setText(event.currentTarget.value)}
      onBlur={() => latest.current.save()}
      onKeyDown={(event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) latest.current.save();
      }}
    />
  );
}

/** A text with its label, which can be copied. */
function Told(props: { label: string; text: string; children?: preact.ComponentChildren }) {
  return (
    <figure>
      <figcaption class="cd-line cd-spread">
        <b dir="auto">{props.label}</b>
        {props.children}
        <CopyButton label="Copy" text={props.text} />
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
      <div class="cd-prompt" tabIndex={0} dir="auto">
        {props.text}
      </div>
    </figure>
  );
}
