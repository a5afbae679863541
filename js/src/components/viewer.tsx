/** Shows pictures in full size in front of the page, on dark ground. */

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Download, type Media, Picture, TooManyPixels } from "../media.tsx";
import { describe, LARGEST_COPY, nameOf, type ShownFile } from "../shown_runs.ts";
import { Comparison } from "./comparison.tsx";
import { Button, Dialog, IconButton, Link } from "./ui.tsx";

const ZOOM = 1.25; // by a key or a button
const MOST = 32; // times the size of the picture
const PAN = 80; // CSS pixels by a key
const MANY_PIXELS = 40e6; // the page is slow with larger pictures, so they are shown as a copy first

type ViewerProps = {
  media: Media;
  pictures: ShownFile[];
  /** The place of the picture that is shown first. */
  start: number;
  /** The place of the picture that is compared with the others from the beginning. */
  compared?: number;
  onClose: () => void;
  /** Names of the pictures if two are compared; otherwise those of their files. */
  name?: (place: number) => string;
  /** Does what a key means for a picture; returns whether it means anything. */
  onKey?: (key: string, place: number) => boolean;
  /** What stands beside a picture. */
  beside?: (file: ShownFile, place: number) => ComponentChildren;
  /** The text that is shown in place of a picture that there is not; null if there is one. */
  said?: (place: number) => string | null;
};

export function Viewer(props: ViewerProps) {
  const { media, pictures, start, onClose, name, beside, said: textAt, onKey } = props;
  const [place, setPlace] = useState(start);
  const [pinned, setPinned] = useState(props.compared ?? null); // the picture that others are compared with
  const [wanted, setWanted] = useState(-1); // the large picture that is shown whole
  const [found, setFound] = useState<Record<string, Box>>({}); // sizes that were not known, by query
  const [url, setUrl] = useState("");
  const [said, setSaid] = useState("");
  const stage = useRef<StageHandle | null>(null);
  const asked = pictures[place];
  useEffect(() => {
    setSaid("");
    setUrl("");
  }, [place]);
  if (!asked) return null;
  const file = { ...asked, ...found[asked.query] };
  const count = pictures.length;
  const turn = (by: number) => setPlace((place + by + count) % count);
  const compared = pinned === null ? undefined : pictures[pinned];
  const size = { width: file.width ?? 0, height: file.height ?? 0 };
  const note = ({ width, height }: Box) => {
    if (!asked.width) setFound((all) => ({ ...all, [asked.query]: { width, height } }));
  };
  const isCut = size.width * size.height > MANY_PIXELS && wanted !== place;
  const isCopy = file.kind === "hdr" || isCut;
  const sized = size.width ? { ...file, ...size } : file;
  const nameAt = (at: number) => name?.(at) ?? nameOf(pictures[at] ?? file);
  const text = textAt?.(place) ?? null;
  const compare = () => {
    if (pinned !== null) return setPinned(null);
    if (text !== null) return;
    setPinned(place);
    turn(1);
  };
  const copy = async () => {
    try {
      await copyPicture(media, file);
      setSaid("Copied");
    } catch {
      setSaid("The browser has not copied it");
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { target } = event;
    if (target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement) return;
    const actions: Record<string, () => void> = {
      PageUp: () => turn(-1),
      PageDown: () => turn(1),
      Home: () => setPlace(0),
      End: () => setPlace(count - 1),
      ...(count > 1 && { c: compare }),
      ...(!compared && {
        "+": () => stage.current?.zoom(ZOOM),
        "=": () => stage.current?.zoom(ZOOM),
        "-": () => stage.current?.zoom(1 / ZOOM),
        "0": () => stage.current?.fit(),
        "1": () => stage.current?.full(),
      }),
    };
    const arrows: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const arrow = arrows[event.key];
    if (arrow && stage.current?.pan(-arrow[0] * PAN, -arrow[1] * PAN)) event.preventDefault();
    else if (arrow?.[0] && !(target instanceof HTMLInputElement)) turn(arrow[0]);
    else if (actions[event.key] && !(target instanceof HTMLInputElement)) {
      event.preventDefault();
      actions[event.key]?.();
    } else if (!(target instanceof HTMLInputElement) && onKey?.(event.key, place)) {
      event.preventDefault();
    }
  };
  const position = count > 1 ? ` (${place + 1} of ${count})` : "";
  const canCopy = "ClipboardItem" in globalThis && globalThis.isSecureContext && !isCopy;
  return (
    <Dialog label="Picture in full size" class="cd-viewer" onClose={onClose} onKeyDown={onKeyDown}>
      <div class="cd-line cd-tools">
        <span class="cd-grow cd-cut" role="status" aria-live="polite">
          {describe(sized)}
          {position}
          {said && ` · ${said}`}
        </span>
        {count > 1 && (
          <>
            <IconButton icon="chevron-left" label="Previous picture" onClick={() => turn(-1)} />
            <IconButton icon="chevron-right" label="Next picture" onClick={() => turn(1)} />
            <IconButton
              icon="columns"
              label="Compare with the next pictures (c)"
              pressed={pinned !== null}
              disabled={pinned === null && text !== null}
              onClick={compare}
            />
          </>
        )}
        {!compared && text === null && (
          <>
            <IconButton
              icon="search-minus"
              label="Smaller (-)"
              onClick={() => stage.current?.zoom(1 / ZOOM)}
            />
            <IconButton
              icon="search-plus"
              label="Larger (+)"
              onClick={() => stage.current?.zoom(ZOOM)}
            />
            <Button label="Fit" hint="Show all of it (0)" onClick={() => stage.current?.fit()} />
            <Button
              label="100 %"
              hint="One pixel of the picture for each pixel of the screen (1)"
              onClick={() => stage.current?.full()}
            />
            {canCopy && <IconButton icon="clone" label="Copy picture" onClick={copy} />}
            {(media.address(file.query) || url) && (
              <Link href={media.address(file.query) ?? url} title="Open in a tab of its own">
                Open
              </Link>
            )}
            <Download media={media} file={file} text="Download" />
          </>
        )}
        <IconButton icon="times" label="Close" onClick={onClose} />
      </div>
      <div class="cd-sides">
        {text !== null ? (
          <div class="cd-full">
            {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
            <pre class="cd-said" tabIndex={0} dir="auto">
              {text}
            </pre>
          </div>
        ) : compared && pinned !== null ? (
          <div class="cd-full">
            <Comparison
              key={`${compared.query} ${file.query}`}
              media={media}
              before={compared}
              after={file}
              names={[nameAt(pinned), nameAt(place)]}
              hasDownloads={false}
            />
          </div>
        ) : (
          <Stage
            key={`${file.query} ${isCopy}`}
            media={media}
            file={file}
            side={isCopy ? LARGEST_COPY : 0}
            pixels={isCopy || wanted === place || asked.width ? 0 : MANY_PIXELS}
            isTooLarge={note}
            handle={stage}
            shown={(shown, box) => {
              setUrl(shown);
              if (!isCopy) note(box);
            }}
          >
            {isCut && (
              <div class="cd-line cd-notice">
                This is a small copy: the picture has {Math.round((size.width * size.height) / 1e6)}{" "}
                million pixels.
                <Button label="Show all pixels" onClick={() => setWanted(place)} />
              </div>
            )}
          </Stage>
        )}
        {beside && <div class="cd-side">{beside(sized, place)}</div>}
      </div>
    </Dialog>
  );
}

/** What keys and buttons do with the picture; `pan` returns false if all of it is visible. */
type StageHandle = {
  zoom: (by: number) => void;
  fit: () => void;
  full: () => void;
  pan: (x: number, y: number) => boolean;
};

/** Where a picture is: how many CSS pixels one of its pixels has, and where its corner is. */
type View = { scale: number; x: number; y: number };
type Box = { width: number; height: number };

type StageProps = {
  media: Media;
  file: ShownFile;
  side: number;
  /** How many pixels it may have; 0 if that is known. */
  pixels: number;
  isTooLarge: (size: Box) => void;
  handle: { current: StageHandle | null };
  shown: (url: string, size: Box) => void;
  children?: ComponentChildren;
};

/** A picture that can be enlarged and moved; null as view means that all of it is visible. */
function Stage(props: StageProps) {
  const { media, file, side, pixels, isTooLarge, handle, shown, children } = props;
  const root = useRef<HTMLDivElement>(null);
  const [room, setRoom] = useState<Box>({ width: 0, height: 0 });
  const [size, setSize] = useState<Box | null>(null);
  const [view, setView] = useState<View | null>(null);
  const [isGone, setGone] = useState(false);
  const fingers = useRef(new Map<number, { x: number; y: number }>());
  useLayoutEffect(() => {
    const { current } = root;
    if (!current) return;
    const measure = () => setRoom({ width: current.clientWidth, height: current.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(current);
    measure();
    return () => observer.disconnect();
  }, []);
  const fitted = size ? fitIn(size, room) : null;
  const now = view ?? fitted;
  const place = (next: View) => {
    if (!size || !fitted) return;
    const least = Math.min(fitted.scale, 1 / devicePixelRatio);
    const scale = Math.min(MOST, Math.max(least, next.scale));
    if (scale <= fitted.scale && scale === least) return setView(null);
    setView(within({ ...next, scale }, size, room));
  };
  /** Enlarge around a point of the stage, by default its middle. */
  const zoomTo = (scale: number, x = room.width / 2, y = room.height / 2) => {
    if (!now) return;
    const by = Math.min(MOST, scale) / now.scale;
    place({ scale, x: x - (x - now.x) * by, y: y - (y - now.y) * by });
  };
  const isLarger = Boolean(
    now &&
      size &&
      (size.width * now.scale > room.width + 1 || size.height * now.scale > room.height + 1),
  );
  handle.current = {
    zoom: (by) => now && zoomTo(now.scale * by),
    fit: () => setView(null),
    full: () => zoomTo(1 / devicePixelRatio),
    pan: (x, y) => {
      if (!now || !isLarger) return false;
      place({ ...now, x: now.x + x, y: now.y + y });
      return true;
    },
  };
  const at = ({ clientX, clientY }: MouseEvent) => {
    const box = root.current?.getBoundingClientRect();
    return { x: clientX - (box?.left ?? 0), y: clientY - (box?.top ?? 0) };
  };
  const onWheel = (event: WheelEvent) => {
    event.preventDefault();
    event.stopPropagation();
    if (!now) return;
    const { x, y } = at(event);
    const lines = event.deltaMode === 1 ? 16 : 1;
    zoomTo(now.scale * Math.exp(-Math.max(-100, Math.min(100, event.deltaY * lines)) / 300), x, y);
  };
  const wheel = useRef(onWheel);
  wheel.current = onWheel;
  useEffect(() => {
    const listener = (event: WheelEvent) => wheel.current(event);
    // a listener of Preact would be passive, so the page would scroll
    root.current?.addEventListener("wheel", listener, { passive: false });
    return () => root.current?.removeEventListener("wheel", listener);
  }, []);
  const onPointerMove = (event: PointerEvent) => {
    const before = fingers.current.get(event.pointerId);
    if (!before || !now) return;
    const here = at(event);
    fingers.current.set(event.pointerId, here);
    const other = [...fingers.current].find(([id]) => id !== event.pointerId)?.[1];
    if (!other)
      return place({ ...now, x: now.x + here.x - before.x, y: now.y + here.y - before.y });
    const apart = (one: { x: number; y: number }) => Math.hypot(one.x - other.x, one.y - other.y);
    zoomTo((now.scale * apart(here)) / Math.max(1, apart(before)), other.x, other.y);
  };
  const release = (event: PointerEvent) => fingers.current.delete(event.pointerId);
  const style = now
    ? { transform: `translate(${now.x}px, ${now.y}px) scale(${now.scale})` }
    : { visibility: "hidden" as const };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: keys and buttons do the same
    <div
      ref={root}
      class={`cd-full cd-zoom${isLarger ? " cd-movable" : ""}`}
      onDblClick={(event) => {
        const { x, y } = at(event);
        if (view) setView(null);
        else zoomTo(Math.max(1 / devicePixelRatio, (now?.scale ?? 1) * 2), x, y);
      }}
      onPointerDown={(event) => {
        if (event.button !== 0 || (!isLarger && event.pointerType === "mouse")) return;
        if (event.target instanceof HTMLButtonElement) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        fingers.current.set(event.pointerId, at(event));
      }}
      onPointerMove={onPointerMove}
      onPointerUp={release}
      onPointerCancel={release}
    >
      {isGone ? (
        <div class="cd-notice">{nameOf(file)} is not available any more</div>
      ) : (
        <Picture
          media={media}
          query={file.query}
          side={side}
          pixels={pixels}
          alt={nameOf(file)}
          class={now && now.scale * devicePixelRatio >= 2 ? "cd-pixels" : ""}
          style={style}
          dragged={isLarger ? null : file}
          failed={(error) => (error instanceof TooManyPixels ? isTooLarge(error) : setGone(true))}
          loaded={(image) => {
            const own = { width: image.naturalWidth || 300, height: image.naturalHeight || 300 };
            setSize(own);
            shown(image.src, own);
          }}
        />
      )}
      {!isGone && !size && <div class="cd-notice cd-low">Loading …</div>}
      {now && (
        <output class="cd-scale" aria-label="Size">
          {Math.round(now.scale * devicePixelRatio * (side ? copyScale(file, size) : 1) * 100)} %
        </output>
      )}
      {children}
    </div>
  );
}

/** Return how much smaller a copy is than its picture. */
function copyScale({ width }: ShownFile, size: Box | null): number {
  return width && size ? size.width / width : 1;
}

/** Return where a picture is if all of it is visible, in its own size if there is room. */
function fitIn(size: Box, room: Box): View {
  const most = 1 / devicePixelRatio;
  const scale = Math.min(most, room.width / size.width, room.height / size.height) || most;
  return within({ scale, x: 0, y: 0 }, size, room);
}

/** Return where a picture is so that it fills the room, or is in its middle. */
function within({ scale, x, y }: View, size: Box, room: Box): View {
  const along = (start: number, length: number, available: number) =>
    length <= available
      ? (available - length) / 2
      : Math.min(0, Math.max(available - length, start));
  return {
    scale,
    x: along(x, size.width * scale, room.width),
    y: along(y, size.height * scale, room.height),
  };
}

/** Browsers can copy pictures to the clipboard only as PNG. */
async function copyPicture(media: Media, file: ShownFile): Promise<void> {
  const content = media.read(file.query).then(async (blob) => {
    if (blob.type === "image/png") return blob;
    const bitmap = await createImageBitmap(blob);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
    bitmap.close();
    return canvas.convertToBlob({ type: "image/png" });
  });
  await navigator.clipboard.write([new ClipboardItem({ "image/png": content })]);
}
