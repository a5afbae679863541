/** The outputs of a run by node: pictures, videos, sounds, texts, files; why it failed; its timings. */

import type { ReadonlySignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { counted, formatBytes, messageOf } from "../format.ts";
import { moveFocus } from "../gallery/move_focus.ts";
import { type Media, mediaOf, Picture, Player, Tile } from "../media.tsx";
import {
  describe,
  isPicture,
  type NodeTime,
  nameOf,
  type Output,
  type RunDetails,
  type ShownFile,
  seedsOf,
  sizeText,
  statusOf,
} from "../shown_runs.ts";
import type { Transport } from "../transport.ts";
import { Comparison } from "./comparison.tsx";
import { Button, Details, ErrorBox } from "./ui.tsx";
import { Viewer } from "./viewer.tsx";

const SIDE = 384; // pixels of a small copy
const LARGEST_SIDE = 1024; // of those that the server makes
const WIDE = 1600; // CSS pixels of a page in which a picture has room for these
const FEW = 4; // up to this number, pictures are shown larger
const MANY = 48; // above this number, the copies are smaller: the browser keeps them decoded
const SIDE_OF_MANY = 224; // CSS pixels, about as large as the pictures are shown
const LOG_LINES = 40; // of ComfyUI's log, below a failed run
const FOLDED_LINES = 12;
const FOLDED_CHARACTERS = 1200; // of a longer text, only the beginning is shown at first

/** What is known of a run, and why it is not; the one before is shown until the next is there. */
export function useDetails(
  transport: Transport,
  promptId: string | null,
  /** Changes when there may be something new about the run. */
  revision: unknown = 0,
): { run: RunDetails | null; problem: string } {
  const [found, setFound] = useState<{ run: RunDetails | null; problem: string }>({
    run: null,
    problem: "",
  });
  useEffect(() => {
    if (!promptId) return setFound({ run: null, problem: "" });
    const stop = new AbortController();
    transport.get<RunDetails>("runs/details", { prompt_id: promptId }, stop.signal).then(
      (run) => setFound({ run, problem: "" }),
      (error) => {
        if (!stop.signal.aborted) setFound(({ run }) => ({ run, problem: messageOf(error) }));
      },
    );
    return () => stop.abort();
  }, [transport, promptId, revision]);
  return found;
}

type GalleryProps = {
  transport: Transport;
  run: RunDetails;
  /** The ids of the nodes whose outputs come first; the others are folded. Empty for all. */
  chosen?: string[];
  /** Whether another run is being executed: this is an earlier result then. */
  isEarlier?: boolean;
  /** Put the values of the run into the form; returns what to say about it. */
  onReuse?: (promptId: string) => Promise<string> | string;
  /** Changes with the form: what was said about its values is no longer true then. */
  edits?: ReadonlySignal<unknown>;
};

export function Gallery(props: GalleryProps) {
  const { transport, run, chosen = [], isEarlier = false, onReuse, edits } = props;
  const media = mediaOf(transport);
  const [reused, setReused] = useState("");
  const [opened, setOpened] = useState<ShownFile | null>(null);
  useEffect(() => {
    setReused("");
    setOpened(null);
  }, [run.prompt_id]);
  useEffect(() => edits?.subscribe(() => setReused("")), [edits]);
  const [shown, others] = inOrder(run.outputs, chosen);
  const all = [...shown, ...others].flatMap(({ files }) => files.filter(isPicture));
  const files = run.outputs.flatMap((output) => output.files);
  const parts = { media, count: countOf(shown), onOpen: setOpened };
  const seeds = seedsOf(run);
  const facts = [
    run.seconds === null ? "" : `${run.seconds.toFixed(2)} s`,
    run.cached ? `${counted(run.cached, "node")} from the cache` : "",
    seeds.length ? `seed ${seeds.join(", ")}` : "",
  ];
  const title = isEarlier ? "Earlier run" : statusOf(run);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys are those of its pictures
    <div
      class={`comfydeploy-view comfydeploy-gallery${isEarlier ? " cd-busy" : ""}`}
      aria-busy={isEarlier}
      onKeyDown={(event) => moveFocus(event.currentTarget, event)}
    >
      <span class="cd-unseen" role="status">
        {isEarlier ? "" : `${title}: ${counted(files.length, "file")}`}
      </span>
      <div>
        <div class="cd-line cd-head">
          <b class={`cd-status cd-${isEarlier ? "" : run.status}`}>{title}</b>
          {facts.filter(Boolean).map((fact) => (
            <span key={fact}>{fact}</span>
          ))}
          <span class="cd-grow" />
          {onReuse && (
            <Button
              label="Use these values again"
              icon="reply"
              hint="Put the values of this run, and its seeds, into the form"
              onClick={async () => setReused(await onReuse(run.prompt_id))}
            />
          )}
          <span class="cd-reused" role="status">
            {reused}
          </span>
        </div>
        {!isEarlier && !["not-started", "queued"].includes(run.status) && (
          <ErrorBox text={run.why} />
        )}
        {run.left_out.length > 0 && (
          <ErrorBox text={["Not executed by ComfyUI:", ...run.left_out].join("\n")} />
        )}
        {!isEarlier && run.status === "failed" && (
          <Causes key={run.prompt_id} transport={transport} run={run} />
        )}
        <Outputs {...parts} outputs={shown} />
        {others.length > 0 && (
          <Details class="cd-rest" summary={`Other outputs (${countOf(others)})`}>
            <Outputs {...parts} count={countOf(others)} outputs={others} />
          </Details>
        )}
        {run.times.length > 0 && <Timings times={run.times} />}
      </div>
      {opened && all.includes(opened) && (
        <Viewer
          media={media}
          pictures={all}
          start={all.indexOf(opened)}
          onClose={() => setOpened(null)}
        />
      )}
    </div>
  );
}

/** Return the number of files and texts. */
function countOf(outputs: Output[]): number {
  return outputs.reduce((count, { files, texts }) => count + files.length + texts.length, 0);
}

/** Return the outputs that come first, in the order of the chosen nodes, and the others. */
function inOrder(outputs: Output[], chosen: string[]): [Output[], Output[]] {
  const filled = outputs.filter(({ files, texts }) => files.length || texts.length);
  const rank = ({ node }: Output) =>
    chosen.findIndex((own) => node === own || node.startsWith(`${own}:`));
  const first = filled.filter((output) => rank(output) >= 0);
  if (!first.length) return [filled, []];
  first.sort((a, b) => rank(a) - rank(b));
  return [first, filled.filter((output) => rank(output) < 0)];
}

type Parts = {
  media: Media;
  /** The number of files and texts that are shown together. */
  count: number;
  onOpen: (file: ShownFile) => void;
};

function Outputs({ outputs, ...parts }: Parts & { outputs: Output[] }) {
  return (
    <>
      {outputs.map((output) => (
        <NodeOutput key={output.node} {...parts} output={output} hasTitle={outputs.length > 1} />
      ))}
    </>
  );
}

/** The output of one node, under its title if there are several. */
function NodeOutput(props: Parts & { output: Output; hasTitle: boolean }) {
  const { media, output, hasTitle } = props;
  const { files, texts, pairs, title } = output;
  const compared = new Set(pairs.flat());
  const own = files.filter((_, place) => !compared.has(place));
  const pictures = own.filter(isPicture);
  const players = own.filter(({ kind }) => kind === "video" || kind === "audio");
  const tiles = own.filter(({ kind }) => kind === "3d" || kind === "file");
  return (
    <section class="cd-output" aria-label={title}>
      {hasTitle && (
        <div class="cd-node" dir="auto" title={`${title} (node ${output.node})`}>
          {title}
        </div>
      )}
      {pairs.map(([first, second]) => {
        const [before, after] = [files[first], files[second]];
        if (!before || !after) return null;
        return (
          <Comparison
            key={`${before.query} ${after.query}`}
            media={media}
            before={before}
            after={after}
          />
        );
      })}
      <Pictures {...props} pictures={pictures} players={players} />
      {texts.map((text, place) => (
        <Text key={place} text={text} title={hasTitle ? "" : title} />
      ))}
      {tiles.length > 0 && (
        <div class="cd-tiles">
          {tiles.map((file) => (
            <Tile key={file.query} media={media} file={file} />
          ))}
        </div>
      )}
    </section>
  );
}

type PicturesProps = Parts & { pictures: ShownFile[]; players: ShownFile[] };

/** Small copies of pictures; videos and sounds are beside them if they are few together. */
function Pictures({ media, pictures, players, count, onOpen }: PicturesProps) {
  const own = pictures.length + players.length;
  const isTogether = own <= FEW;
  const size = own === 1 ? " cd-single" : own <= FEW ? " cd-few" : "";
  const played = players.map((file) => <Player key={file.query} media={media} file={file} />);
  const areInside = isTogether && pictures.length > 0;
  return (
    <>
      {pictures.length > 0 && (
        <div class={`cd-pictures${size}`}>
          {pictures.map((file) => (
            <PictureButton
              key={file.query}
              media={media}
              file={file}
              side={file.small ? sideOf(count) : 0}
              onOpen={onOpen}
            />
          ))}
          {areInside && played}
        </div>
      )}
      {!areInside && players.length > 0 && <div class="cd-players">{played}</div>}
    </>
  );
}

/** Return the pixels of the small copies of so many pictures. */
function sideOf(count: number): number {
  if (count <= FEW) return window.innerWidth > WIDE ? LARGEST_SIDE : 2 * SIDE;
  if (count <= MANY) return SIDE;
  return Math.min(SIDE, Math.ceil(SIDE_OF_MANY * window.devicePixelRatio));
}

type PictureButtonProps = {
  media: Media;
  file: ShownFile;
  side: number;
  onOpen: (file: ShownFile) => void;
};

/** A small copy of a picture; its place is reserved if its size is known. */
function PictureButton({ media, file, side, onOpen }: PictureButtonProps) {
  const [reason, setReason] = useState<string | null>(null);
  const { width, height } = file;
  if (reason !== null) {
    return (
      <Tile media={media} file={file}>
        {reason && <span class="cd-faint cd-error-text">{reason}</span>}
      </Tile>
    );
  }
  const failed = () => {
    setReason("");
    media.read(side ? `${file.query}&thumbnail=${side}` : file.query).then(
      () => {},
      (error) => setReason(messageOf(error).replace(/^thumbnail:/, "A preview")),
    );
  };
  const scale = width && height && side ? Math.min(1, side / Math.max(width, height)) : 1;
  return (
    <button
      type="button"
      class={`cd-picture-button${width && height ? " cd-sized" : ""}`}
      title={describe(file)}
      aria-label={`${describe(file)}: show in full size`}
      style={
        width && height
          ? { "--cd-width": `${Math.round(width * scale)}px`, "--cd-ratio": String(width / height) }
          : undefined
      }
      onClick={() => onOpen(file)}
    >
      <Picture
        media={media}
        query={file.query}
        side={side}
        alt={nameOf(file)}
        dragged={file}
        failed={failed}
      />
      {width && height && (
        <span class="cd-tag" aria-hidden="true">
          {sizeText(file)}
        </span>
      )}
    </button>
  );
}

/** A text; a long one is folded, and is in the page only while it is unfolded. */
function Text({ text, title }: { text: string; title: string }) {
  const [isOpen, setOpen] = useState(false);
  const lines = text.split("\n", FOLDED_LINES + 1);
  const isLong = lines.length > FOLDED_LINES || text.length > FOLDED_CHARACTERS;
  const start = lines.slice(0, FOLDED_LINES).join("\n").slice(0, FOLDED_CHARACTERS).trimEnd();
  return (
    <figure>
      {title && <figcaption>{title}</figcaption>}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
      <pre dir="auto" tabIndex={0}>
        {isLong && !isOpen ? `${start} …` : text}
      </pre>
      {isLong && (
        <Button
          label={isOpen ? "Less" : `All ${text.length.toLocaleString()} characters`}
          onClick={() => setOpen(!isOpen)}
        />
      )}
    </figure>
  );
}

type Freed = { gpu: { freed: number }; ram: { freed: number }; pending: boolean };

/** What helps to find the cause of a failure: the traceback, ComfyUI's log, and memory to free. */
function Causes({ transport, run }: { transport: Transport; run: RunDetails }) {
  const [log, setLog] = useState("…");
  const [freed, setFreed] = useState("");
  const { machine } = run;
  const free = async () => {
    setFreed("…");
    try {
      const { gpu, ram, pending } = await transport.post<Freed>("free", { machine });
      const text = `${formatBytes(gpu.freed)} of GPU memory, ${formatBytes(ram.freed)} of RAM freed`;
      const more = "; ComfyUI frees more when the current run has ended";
      setFreed(pending ? text + more : text);
    } catch (error) {
      setFreed(messageOf(error));
    }
  };
  const read = async () => {
    try {
      const query = { machine, lines: LOG_LINES };
      const { lines } = await transport.get<{ lines: string[] }>("comfyui/log", query);
      setLog(lines.join("\n") || "The log is empty.");
    } catch (error) {
      setLog(messageOf(error));
    }
  };
  const code = (text: string) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls
    <pre class="cd-code" tabIndex={0}>
      {text}
    </pre>
  );
  return (
    <>
      {run.no_memory && (
        <div class="cd-line">
          <Button label="Free ComfyUI's memory" icon="eraser" onClick={free} />
          <span class="cd-faint" role="status">
            {freed}
          </span>
        </div>
      )}
      {run.traceback && <Details summary="Traceback">{code(run.traceback)}</Details>}
      <Details summary="The last lines of ComfyUI's log" onOpen={read}>
        {code(log)}
      </Details>
    </>
  );
}

/** A chart of the execution times of nodes. */
function Timings({ times }: { times: NodeTime[] }) {
  const longest = Math.max(...times.map(({ seconds }) => seconds), 1e-9);
  return (
    <Details class="cd-timings" summary="Node timings">
      <table class="cd-chart">
        <caption class="cd-unseen">How long each node took</caption>
        <tbody>
          {times.map(({ node, title, class_type, seconds }) => (
            <tr key={node}>
              <th scope="row" title={`${title} (${class_type ?? "node"}, id ${node})`}>
                {title}
              </th>
              <td>
                <div
                  class="cd-fill"
                  style={{ width: `${Math.max(0.5, (100 * seconds) / longest)}%` }}
                />
              </td>
              <td class="cd-number">{seconds.toFixed(2)} s</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Details>
  );
}
