/** Two pictures, one under a slider over the other, or side by side. */

import { useState } from "preact/hooks";
import { Download, type Media, Picture, Tile } from "../media.tsx";
import { describe, LARGEST_COPY, nameOf, type ShownFile } from "../shown_runs.ts";

/** The distance by which a key moves the slider, in percent. */
const STEPS: Record<string, number> = {
  ArrowLeft: -1,
  ArrowDown: -1,
  ArrowRight: 1,
  ArrowUp: 1,
  PageDown: -10,
  PageUp: 10,
  Home: -100,
  End: 100,
};

type Sides = [width: number, height: number];

type ComparisonProps = {
  media: Media;
  before: ShownFile;
  after: ShownFile;
  /** Names of both, if they are not the picture before and after something. */
  names?: [string, string];
  hasDownloads?: boolean;
};

/**
 * Pictures of different shapes are shown in a frame that has room for both, each on its own ground:
 * nothing of the other one is visible beside it.
 */
export function Comparison(props: ComparisonProps) {
  const { media, before, after, names = ["before", "after"], hasDownloads = true } = props;
  const [cut, setCut] = useState(50);
  const [chosen, choose] = useState<"slider" | "beside" | null>(null);
  const [sizes, setSizes] = useState<Record<string, Sides>>({});
  const [isGone, setGone] = useState(false);
  const files = [before, after];
  if (isGone) {
    return (
      <div class="cd-tiles">
        {files.map((file) => (
          <Tile key={file.query} media={media} file={file} />
        ))}
      </div>
    );
  }
  const known = files.map(({ query, width, height }): Sides | null =>
    width && height ? [width, height] : (sizes[query] ?? null),
  );
  const frame = frameOf(known);
  const way = chosen ?? (haveSameShape(known) ? "slider" : "beside");
  const layer = (file: ShownFile, place: number) => (
    <div
      class="cd-layer"
      style={way === "beside" ? { aspectRatio: frame?.join(" / ") } : undefined}
    >
      <Picture
        media={media}
        query={file.query}
        side={file.small ? LARGEST_COPY : 0}
        alt={nameOf(file)}
        dragged={way === "beside" ? file : null}
        failed={() => setGone(true)}
        loaded={({ naturalWidth, naturalHeight }) =>
          setSizes((all) => ({ ...all, [file.query]: [naturalWidth, naturalHeight] }))
        }
      />
      <span class={`cd-tag${place && way === "slider" ? " cd-after" : ""}`}>{names[place]}</span>
    </div>
  );
  const move = (event: KeyboardEvent) => {
    // JupyterLab prevents the default action of a slider for these keys.
    const step = STEPS[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    setCut((value) => Math.min(100, Math.max(0, value + step)));
  };
  return (
    <div class="cd-compare">
      {way === "slider" ? (
        <div
          class="cd-stack"
          style={{ "--cd-cut": `${cut}%`, "--cd-ratio": frame ? frame[0] / frame[1] : 1 }}
        >
          {layer(after, 1)}
          {layer(before, 0)}
          <input
            type="range"
            min={0}
            max={100}
            step="any"
            value={cut}
            title="Before and after"
            aria-label={`Compare ${nameOf(before)} with ${nameOf(after)}`}
            aria-valuetext={`${Math.round(cut)} % ${names[0]}`}
            onInput={(event) => setCut(Number(event.currentTarget.value))}
            onKeyDown={move}
          />
        </div>
      ) : (
        <div class="cd-beside">{files.map(layer)}</div>
      )}
      <div class="cd-line">
        <button
          type="button"
          class="cd-button"
          onClick={() => choose(way === "slider" ? "beside" : "slider")}
        >
          {way === "slider" ? "Side by side" : "Under a slider"}
        </button>
        {hasDownloads &&
          files.map((file) => (
            <span key={file.query} title={describe(file)}>
              <Download media={media} file={file} />
            </span>
          ))}
      </div>
    </div>
  );
}

/** Whether two pictures, as far as they are known, look the same if one is as wide as the other. */
function haveSameShape([first, second]: (Sides | null)[]): boolean {
  if (!first || !second) return true;
  const ratio = (first[0] * second[1]) / (first[1] * second[0]);
  return ratio > 0.98 && ratio < 1.02;
}

/** Return the smallest frame that has room for both, if both have the same area. */
function frameOf(sizes: (Sides | null)[]): Sides | null {
  const shapes = sizes.flatMap((sides) => {
    if (!sides) return [];
    const scale = 1 / Math.sqrt(sides[0] * sides[1]);
    return [sides.map((side) => side * scale)];
  });
  if (!shapes.length) return null;
  const most = (side: number) => Math.max(...shapes.map((shape) => shape[side] ?? 0));
  return [most(0), most(1)];
}
