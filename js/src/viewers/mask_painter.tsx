/**
 * Paints the mask of a picture that an input takes, and crops it.
 *
 * The result is uploaded as ComfyUI's mask editor does it: a picture in the folder `clipspace`, in
 * whose alpha channel the mask is, since the mask of `LoadImage` is 1 - alpha.
 */

import { render } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Button, Dialog, ErrorBox, IconButton, useId } from "../components/ui.tsx";
import { messageOf } from "../format.ts";
import type { Media } from "../media.tsx";
import { encodePNG } from "../png.ts";
import type { RouteError } from "../transport.ts";

const ZOOM = 1.25;
const SCALED = 8; // times the size of the picture at first, so that small ones can be painted, too
const MOST = 16; // times the size of the picture

type Box = { x: number; y: number; width: number; height: number };
type Point = [x: number, y: number];
type Tool = "brush" | "eraser" | "crop";

/** What was done to the mask; it is made again from all of these when one is undone. */
type Step =
  | { kind: "stroke"; points: Point[]; size: number; strength: number; erases: boolean }
  | { kind: "invert" }
  | { kind: "fill"; value: 0 | 1 };

type Canvas = HTMLCanvasElement;

export type MaskPainterProps = {
  media: Media;
  /** The query of `view` for the picture. */
  query: string;
  /** Its name for people. */
  name: string;
  machine: string | null;
  /** Called with the new value of the input. */
  onDone: (value: string) => void;
  onClose: () => void;
};

/** Show it in an element; return what removes it. */
export function paintMask(host: HTMLElement, props: MaskPainterProps): () => void {
  render(<MaskPainter {...props} />, host);
  return () => render(null, host);
}

function MaskPainter(props: MaskPainterProps) {
  const { media, query, name, machine, onDone, onClose } = props;
  const stage = useRef<HTMLDivElement>(null);
  const picture = useRef<Canvas>(null);
  const mask = useRef<Canvas>(null); // white where the picture is masked
  const stroke = useRef<Canvas>(null); // the stroke that is being painted
  const before = useRef<ImageBitmap | null>(null); // the mask that the picture had
  const [size, setSize] = useState<[number, number] | null>(null);
  const [tool, setTool] = useState<Tool>("brush");
  const [brush, setBrush] = useState(40); // pixels of the picture
  const [strength, setStrength] = useState(100); // percent
  const [shown, setShown] = useState(60); // percent, how much of the mask is seen
  const [steps, setSteps] = useState<Step[]>([]);
  const [undone, setUndone] = useState<Step[]>([]);
  const [crop, setCrop] = useState<Box | null>(null);
  const [scale, setScale] = useState(1);
  const [problem, setProblem] = useState("");
  const [state, setState] = useState("Loading …");
  const [warning, setWarning] = useState("");
  const points = useRef<Point[] | null>(null);
  const [width, height] = size ?? [1, 1];

  useEffect(() => {
    const stop = new AbortController();
    load(media, query, stop.signal).then(
      ({ colours, alpha }) => {
        const { width, height } = colours;
        for (const { current } of [picture, mask, stroke]) {
          if (current) Object.assign(current, { width, height });
        }
        picture.current?.getContext("2d")?.drawImage(colours, 0, 0);
        before.current = alpha;
        colours.close();
        const { current } = stage;
        const room = current
          ? [current.clientWidth - 4, current.clientHeight - 4]
          : [width, height];
        setScale(Math.min(SCALED, (room[0] ?? width) / width, (room[1] ?? height) / height) || 1);
        setBrush(Math.max(4, Math.round(Math.max(width, height) / 20)));
        setSize([width, height]);
        setState("");
        redraw(mask.current, alpha, []);
      },
      (error) => {
        if (stop.signal.aborted) return;
        setState("");
        setProblem(messageOf(error));
      },
    );
    return () => stop.abort();
  }, [media, query]);

  const perform = (step: Step) => {
    apply(mask.current, step);
    setSteps([...steps, step]);
    setUndone([]);
  };
  const undo = () => {
    const last = steps.at(-1);
    if (!last) return;
    const left = steps.slice(0, -1);
    redraw(mask.current, before.current, left);
    setSteps(left);
    setUndone([...undone, last]);
  };
  const redo = () => {
    const next = undone.at(-1);
    if (!next) return;
    apply(mask.current, next);
    setSteps([...steps, next]);
    setUndone(undone.slice(0, -1));
  };

  const at = (event: PointerEvent): Point => {
    const box = mask.current?.getBoundingClientRect();
    if (!box?.width) return [0, 0];
    return [
      ((event.clientX - box.left) / box.width) * width,
      ((event.clientY - box.top) / box.height) * height,
    ];
  };
  const onPointerDown = (event: PointerEvent) => {
    if (event.button !== 0 || !size) return;
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    points.current = [at(event)];
    if (tool === "crop") setCrop(null);
    else onPointerMove(event);
  };
  const onPointerMove = (event: PointerEvent) => {
    const { current } = points;
    if (!current) return;
    const last = current.at(-1) ?? at(event);
    const here = at(event);
    if (tool === "crop") return setCrop(boxOf(current[0] ?? here, here, width, height));
    current.push(here);
    if (tool === "eraser") paint(mask.current, [last, here], brush, 1, true);
    else paint(stroke.current, [last, here], brush, 1, false);
  };
  const onPointerUp = () => {
    const { current } = points;
    points.current = null;
    if (!current || tool === "crop") return;
    stroke.current?.getContext("2d")?.clearRect(0, 0, width, height);
    const erases = tool === "eraser";
    const step: Step = {
      kind: "stroke",
      points: current,
      size: brush,
      strength: erases ? 1 : strength / 100,
      erases,
    };
    perform(step);
  };

  const zoom = (by: number) => setScale((now) => Math.min(MOST, Math.max(0.02, now * by)));
  const onWheel = useRef((_: WheelEvent) => {});
  onWheel.current = (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // otherwise the picture is moved
    event.preventDefault();
    zoom(Math.exp(-Math.max(-100, Math.min(100, event.deltaY)) / 300));
  };
  useLayoutEffect(() => {
    const listener = (event: WheelEvent) => onWheel.current(event);
    stage.current?.addEventListener("wheel", listener, { passive: false });
    return () => stage.current?.removeEventListener("wheel", listener);
  }, []);

  const save = async () => {
    if (!picture.current || !mask.current) return;
    setProblem("");
    setState("Saving …");
    try {
      const box = crop ?? { x: 0, y: 0, width, height };
      const content = await combined(picture.current, mask.current, box);
      const file = new File([content], `clipspace-mask-${Date.now()}.png`, { type: "image/png" });
      const reply = await media.transport.send<{ name: string; subfolder: string }>("upload-file", {
        query: { machine },
        fields: { type: "input", subfolder: "clipspace" },
        file,
        progress: (share) => setState(`Sending: ${Math.floor(share * 100)} %`),
      });
      onDone(`${reply.subfolder ?? "clipspace"}/${reply.name}`);
      onClose();
    } catch (error) {
      setState("");
      setProblem(`Not saved: ${messageOf(error)}`);
    }
  };

  const isBusy = !size || state !== "";
  const keys = (event: KeyboardEvent) => {
    const isField = event.target instanceof HTMLInputElement;
    if (event.key === "Escape" && (steps.length || crop)) {
      // what was painted is not lost by one key
      event.preventDefault();
      setWarning("Nothing is saved yet: save, or close with the button.");
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      event.preventDefault();
      if (event.shiftKey) redo();
      else undo();
    }
    if (isField || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions: Record<string, () => void> = {
      b: () => setTool("brush"),
      e: () => setTool("eraser"),
      c: () => setTool("crop"),
      i: () => perform({ kind: "invert" }),
      "+": () => zoom(ZOOM),
      "-": () => zoom(1 / ZOOM),
      "[": () => setBrush(Math.max(1, Math.round(brush / ZOOM))),
      "]": () => setBrush(Math.min(2000, Math.round(brush * ZOOM) + 1)),
    };
    actions[event.key]?.();
  };
  const pixels = { width: `${width * scale}px`, height: `${height * scale}px` };
  const tools: [Tool, "paint-brush" | "eraser" | "crop", string][] = [
    ["brush", "paint-brush", "Brush: mask (b)"],
    ["eraser", "eraser", "Eraser (e)"],
    ["crop", "crop", "Crop: draw a frame (c)"],
  ];
  return (
    <Dialog
      label={`Mask of ${name}`}
      class="cd-viewer cd-painter"
      onClose={onClose}
      onKeyDown={keys}
    >
      <div class="cd-paint">
        <div class="cd-line cd-tools">
          {tools.map(([each, icon, label]) => (
            <IconButton
              key={each}
              icon={icon}
              label={label}
              pressed={tool === each}
              onClick={() => setTool(each)}
            />
          ))}
          <Amount label="Size" value={brush} min={1} max={500} unit="px" onChange={setBrush} />
          <Amount
            label="Opacity"
            value={strength}
            min={5}
            max={100}
            unit="%"
            onChange={setStrength}
          />
          <Amount label="Mask seen" value={shown} min={10} max={100} unit="%" onChange={setShown} />
          <Button
            label="Undo"
            hint="Take back what was done last (Ctrl+Z)"
            disabled={isBusy || !steps.length}
            onClick={undo}
          />
          <Button
            label="Redo"
            hint="Do again what was undone (Ctrl+Shift+Z)"
            disabled={isBusy || !undone.length}
            onClick={redo}
          />
          <Button
            label="Invert"
            hint="Mask what is not masked (i)"
            disabled={isBusy}
            onClick={() => perform({ kind: "invert" })}
          />
          <Button
            label="Clear"
            hint="Remove the mask"
            disabled={isBusy}
            onClick={() => perform({ kind: "fill", value: 0 })}
          />
          <IconButton icon="search-minus" label="Smaller (-)" onClick={() => zoom(1 / ZOOM)} />
          <IconButton icon="search-plus" label="Larger (+)" onClick={() => zoom(ZOOM)} />
          <span class="cd-grow cd-cut" role="status" aria-live="polite" title={state || warning}>
            {state || warning}
          </span>
          <Button
            label="Save"
            icon="check"
            primary
            hint="Upload the picture with this mask, and use it as the input"
            disabled={isBusy || (!steps.length && !crop)}
            onClick={save}
          />
          <IconButton icon="times" label="Close without saving" onClick={onClose} />
        </div>
        {tool === "crop" && size && (
          <CropFields
            crop={crop ?? { x: 0, y: 0, width, height }}
            most={size}
            isSet={crop !== null}
            onChange={setCrop}
          />
        )}
        <ErrorBox text={problem} />
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
        <div class="cd-full cd-easel" ref={stage} tabIndex={0}>
          <div
            class={`cd-canvases cd-with-${tool}`}
            style={{ ...pixels, visibility: size ? "visible" : "hidden" }}
            role="img"
            aria-label={`${name}, ${width} × ${height}`}
            onPointerDown={onPointerDown}
            onPointerMove={onPointerMove}
            onPointerUp={onPointerUp}
            onPointerCancel={onPointerUp}
          >
            <canvas ref={picture} />
            <canvas ref={mask} class="cd-mask" style={{ opacity: shown / 100 }} />
            <canvas
              ref={stroke}
              class="cd-mask"
              style={{ opacity: (shown / 100) * (strength / 100) }}
            />
            {crop && (
              <div
                class="cd-crop"
                style={{
                  left: `${crop.x * scale}px`,
                  top: `${crop.y * scale}px`,
                  width: `${crop.width * scale}px`,
                  height: `${crop.height * scale}px`,
                }}
              />
            )}
          </div>
        </div>
      </div>
    </Dialog>
  );
}

type AmountProps = {
  label: string;
  value: number;
  min: number;
  max: number;
  unit: string;
  onChange: (value: number) => void;
};

function Amount({ label, value, min, max, unit, onChange }: AmountProps) {
  const id = useId();
  return (
    <span class="cd-line cd-amount">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type="range"
        min={min}
        max={max}
        value={value}
        aria-valuetext={`${value} ${unit}`}
        onInput={(event) => onChange(Number(event.currentTarget.value))}
      />
      <span class="cd-number">
        {value} {unit}
      </span>
    </span>
  );
}

type CropProps = {
  crop: Box;
  most: [number, number];
  isSet: boolean;
  onChange: (crop: Box | null) => void;
};

/** The frame in numbers. */
function CropFields({ crop, most: [width, height], isSet, onChange }: CropProps) {
  const set = (name: keyof Box, value: number) => {
    if (!Number.isInteger(value)) return;
    const next = { ...crop, [name]: value };
    const x = Math.min(Math.max(0, next.x), width - 1);
    const y = Math.min(Math.max(0, next.y), height - 1);
    onChange({
      x,
      y,
      width: Math.min(Math.max(1, next.width), width - x),
      height: Math.min(Math.max(1, next.height), height - y),
    });
  };
  const names: [keyof Box, string][] = [
    ["x", "Left"],
    ["y", "Top"],
    ["width", "Width"],
    ["height", "Height"],
  ];
  return (
    <fieldset class="cd-line" aria-label="The frame in pixels">
      {names.map(([name, text]) => (
        <label key={name} class="cd-line cd-amount">
          {text}
          <input
            type="number"
            value={crop[name]}
            onChange={(event) => set(name, Number(event.currentTarget.value))}
          />
        </label>
      ))}
      <Button label="Whole picture" disabled={!isSet} onClick={() => onChange(null)} />
    </fieldset>
  );
}

/** Load the colours of a picture, and the mask in its alpha channel; null if there is none. */
async function load(
  media: Media,
  query: string,
  signal: AbortSignal,
): Promise<{ colours: ImageBitmap; alpha: ImageBitmap | null }> {
  const exact: ImageBitmapOptions = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const opaque = await media.read(`${query}&opaque=true`, signal).catch((error) => {
    const isRefused = (error as RouteError).details?.field === "opaque"; // the panels have the class
    throw isRefused
      ? new Error(`A mask or a crop ${error.message.replace(/^opaque: /, "")}`)
      : error;
  });
  const colours = await createImageBitmap(opaque, exact);
  const whole = await media.read(query, signal);
  if (whole.type === "image/jpeg") return { colours, alpha: null };
  const own = await createImageBitmap(whole, {
    resizeWidth: colours.width,
    resizeHeight: colours.height,
  }).catch(() => null);
  if (!own) return { colours, alpha: null };
  const canvas = new OffscreenCanvas(colours.width, colours.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return { colours, alpha: null };
  context.drawImage(own, 0, 0);
  own.close();
  const data = context.getImageData(0, 0, canvas.width, canvas.height);
  let isMasked = false;
  for (let place = 3; place < data.data.length; place += 4) {
    const masked = 255 - (data.data[place] ?? 255);
    if (masked) isMasked = true;
    data.data.set([255, 255, 255, masked], place - 3);
  }
  if (!isMasked) return { colours, alpha: null };
  context.putImageData(data, 0, 0);
  return { colours, alpha: canvas.transferToImageBitmap() };
}

function redraw(canvas: Canvas | null, before: ImageBitmap | null, steps: Step[]): void {
  const context = canvas?.getContext("2d");
  if (!canvas || !context) return;
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (before) context.drawImage(before, 0, 0);
  for (const step of steps) apply(canvas, step);
}

function apply(canvas: Canvas | null, step: Step): void {
  if (step.kind === "stroke") {
    paint(canvas, step.points, step.size, step.strength, step.erases);
    return;
  }
  const context = canvas?.getContext("2d");
  if (!canvas || !context) return;
  const { width, height } = canvas;
  context.fillStyle = "#fff";
  if (step.kind === "fill") {
    context.globalCompositeOperation = "source-over";
    if (step.value) context.fillRect(0, 0, width, height);
    else context.clearRect(0, 0, width, height);
  } else {
    context.globalCompositeOperation = "source-out"; // where there is nothing yet, and the rest of it
    context.fillRect(0, 0, width, height);
  }
}

/** Paint a line with a round brush. */
function paint(
  canvas: Canvas | null,
  points: Point[],
  size: number,
  strength: number,
  erases: boolean,
): void {
  const context = canvas?.getContext("2d");
  const [first, ...rest] = points;
  if (!context || !first) return;
  context.globalCompositeOperation = erases ? "destination-out" : "source-over";
  context.strokeStyle = `rgba(255, 255, 255, ${strength})`;
  context.lineWidth = size;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...first);
  context.lineTo(first[0] + 0.01, first[1]); // browsers draw nothing without a length: a click is a dot
  for (const point of rest) context.lineTo(...point);
  context.stroke();
}

function boxOf([left, top]: Point, [right, bottom]: Point, width: number, height: number): Box {
  const within = (value: number, most: number) => Math.round(Math.min(most, Math.max(0, value)));
  const [x, y] = [
    within(Math.min(left, right), width - 1),
    within(Math.min(top, bottom), height - 1),
  ];
  return {
    x,
    y,
    width: Math.max(1, within(Math.max(left, right), width) - x),
    height: Math.max(1, within(Math.max(top, bottom), height) - y),
  };
}

/** Return a part of a picture with its mask in the alpha channel, as PNG. */
async function combined(picture: Canvas, mask: Canvas, box: Box): Promise<Blob> {
  const { x, y, width, height } = box;
  const read = (canvas: Canvas) => canvas.getContext("2d")?.getImageData(x, y, width, height).data;
  const [colours, masked] = [read(picture), read(mask)];
  if (!colours || !masked) throw new Error("the browser has no memory for it");
  for (let place = 3; place < colours.length; place += 4) {
    colours[place] = 255 - (masked[place] ?? 0);
  }
  return encodePNG(colours, width, height);
}
