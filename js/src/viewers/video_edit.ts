/** The control for a part of a video: when it begins, how long it lasts, and its cut-out. */

import { h, iconButton, setText } from "../dom.ts";
import type { Control, Field, Form, Value } from "../form/field.ts";
import { ShownFile } from "../form/shown_file.ts";
import { parseJson } from "../format.ts";

export type Trim = { start_time: number; duration: number };
export type Crop = { x: number; y: number; width: number; height: number };
type Parts = { trim: Trim; crop: Crop };

/** The size of a video in pixels and its length in seconds; 0 while that is not known. */
export type Video = { width: number; height: number; duration: number };

const UNKNOWN: Video = { width: 0, height: 0, duration: 0 };
/** The whole video; a duration, width or height of 0 has no limit. */
const WHOLE: Parts = {
  trim: { start_time: 0, duration: 0 },
  crop: { x: 0, y: 0, width: 0, height: 0 },
};
/** By the names of the numbers: a word, and what it means. */
const NAMES: Record<string, [string, string]> = {
  start_time: ["start", "start in seconds"],
  duration: ["duration", "duration in seconds; 0 lasts until the end"],
  x: ["x", "left edge in pixels"],
  y: ["y", "top edge in pixels"],
  width: ["width", "width in pixels; 0 is the whole width"],
  height: ["height", "height in pixels; 0 is the whole height"],
};
const HEIGHT = 280; // CSS pixels of the video, if it is not too wide
const LEAST_TIME = 0.01; // seconds between start and end
const LEAST_SIDE = 8; // pixels of a cut-out that is dragged
const TIME_STEP = 0.1; // seconds that an arrow key moves by; ten times as much with Shift

/** Return the parts of a value, with 0 for each number that is missing or wrong. */
export function partsOf(value: Value): Parts {
  const given = parseJson<Record<string, Record<string, unknown>>>(String(value ?? ""));
  const number = (part: keyof Parts, name: string) => {
    const found = given?.[part]?.[name];
    return typeof found === "number" && Number.isFinite(found) && found >= 0 ? found : 0;
  };
  const part = <Name extends keyof Parts>(name: Name) =>
    Object.fromEntries(
      Object.keys(WHOLE[name]).map((key) => [key, number(name, key)]),
    ) as Parts[Name];
  return { trim: part("trim"), crop: part("crop") };
}

/** Return a value with other parts; what else it has stays. */
export function withParts(value: Value, parts: Partial<Parts>): string {
  const given = parseJson<Record<string, object>>(String(value ?? ""));
  const isObject = given !== null && typeof given === "object" && !Array.isArray(given);
  const made: Record<string, object> = isObject ? { ...given } : {};
  for (const [name, part] of Object.entries(parts)) made[name] = { ...made[name], ...part };
  return JSON.stringify(made);
}

/** Return a trim whose start or end was moved to a time. */
export function moved(
  { start_time, duration }: Trim,
  which: "start" | "end",
  to: number,
  length: number,
): Trim {
  const round = (time: number) => Math.round(time * 100) / 100;
  const end = duration ? Math.min(length, start_time + duration) : length;
  if (which === "start") {
    const start = round(Math.max(0, Math.min(to, end - LEAST_TIME)));
    return { start_time: start, duration: duration ? round(end - start) : 0 };
  }
  if (to >= length) return { start_time, duration: 0 };
  return { start_time, duration: Math.max(LEAST_TIME, round(to - start_time)) };
}

/** Return the cut-out between two points of a video; all zeros for the whole picture. */
export function between(a: [number, number], b: [number, number], video: Video): Crop {
  const span = (one: number, other: number, most: number): [number, number] => {
    const inside = (at: number) => Math.round(Math.max(0, Math.min(most, at)));
    const low = inside(Math.min(one, other));
    return [low, inside(Math.max(one, other)) - low];
  };
  const [x, width] = span(a[0], b[0], video.width);
  const [y, height] = span(a[1], b[1], video.height);
  const isWhole = width === video.width && height === video.height;
  return isWhole ? { ...WHOLE.crop } : { x, y, width, height };
}

/** Return the cut-out as it is drawn, where 0 is the rest of the picture. */
export function drawn({ x, y, width, height }: Crop, video: Video): Crop {
  return { x, y, width: width || video.width - x, height: height || video.height - y };
}

/** Return in which way a value does not fit a video, or an empty text. */
export function misfit({ trim, crop }: Parts, video: Video): string {
  const { width, height } = drawn(crop, video);
  const isOutside = crop.x + width > video.width || crop.y + height > video.height;
  if (video.width && (width <= 0 || height <= 0 || isOutside)) {
    return `The cut-out is not inside the video (${video.width} × ${video.height}).`;
  }
  const end = trim.start_time + trim.duration;
  const fits = trim.start_time < video.duration && end <= video.duration + LEAST_TIME;
  if (!video.duration || fits) return "";
  return `The video ends before, at ${timeText(video.duration)}.`;
}

/** Return a time as minutes and seconds. */
export function timeText(seconds: number): string {
  const hundredths = Math.round(seconds * 100);
  const rest = ((hundredths % 6000) / 100).toFixed(2).padStart(5, "0");
  return `${Math.floor(hundredths / 6000)}:${rest}`;
}

/** Follow the pointer from where it is pressed until it is released. */
function follow(element: HTMLElement, pressed: PointerEvent, move: (at: PointerEvent) => void) {
  const names = ["pointerup", "pointercancel"] as const;
  const end = () => {
    element.removeEventListener("pointermove", move);
    for (const name of names) element.removeEventListener(name, end);
  };
  element.addEventListener("pointermove", move);
  for (const name of names) element.addEventListener(name, end);
  pressed.preventDefault();
  element.setPointerCapture?.(pressed.pointerId);
}

export function videoEdit(form: Form, field: Field): Control {
  const features = field.edit?.features ?? ["trim", "crop"];
  const canTrim = features.includes("trim");
  const canCrop = features.includes("crop");
  let now = form.value;
  let video = UNKNOWN;
  let unseen = ""; // why the video is not shown

  const set = (parts: Partial<Parts>) => {
    const present = partsOf(now);
    const all = Object.fromEntries(features.map((part) => [part, present[part]]));
    now = withParts(now, { ...all, ...parts });
    form.refuse("");
    form.change(now);
    show();
  };

  // -- the numbers -------------------------------------------------------------------------------
  const inputs = new Map<string, HTMLInputElement>();
  const numberInput = (part: keyof Parts, name: string): HTMLElement => {
    const [word, meaning] = NAMES[name] ?? [name, name];
    const unit = part === "trim" ? "a number of seconds" : "a whole number of pixels";
    const input = h("input", {
      id: inputs.size ? undefined : form.id,
      type: "number",
      min: 0,
      step: part === "trim" ? TIME_STEP : 1,
      className: "cd-short",
      title: meaning,
      "aria-label": `${field.label}: ${meaning}`,
      "aria-describedby": form.hintId,
      oninput: () => {
        const wanted = Number(input.value);
        const isRight = input.value !== "" && wanted >= 0 && Number.isFinite(wanted);
        if (!isRight || (part === "crop" && !Number.isInteger(wanted))) {
          return form.refuse(`${word} must be ${unit}, from 0`);
        }
        set({ [part]: { ...partsOf(now)[part], [name]: wanted } });
      },
      onchange: () => {
        form.refuse("");
        show(); // what is not a number is not kept
      },
    });
    inputs.set(name, input);
    return h("label", {}, h("span", { className: "cd-faint" }, word), input);
  };
  const rows = features.map((part) =>
    h(
      "div",
      { className: "cd-line cd-numbers" },
      Object.keys(WHOLE[part]).map((name) => numberInput(part, name)),
    ),
  );
  const reset = h(
    "button",
    {
      type: "button",
      className: "cd-button",
      "aria-label": `${field.label}: use the whole video`,
      onclick: () => set(Object.fromEntries(features.map((part) => [part, WHOLE[part]]))),
    },
    "Whole video",
  );
  rows.at(-1)?.append(reset);

  // -- the video, its cut-out and its time line --------------------------------------------------
  const film = h("video", { preload: "metadata", muted: true, playsInline: true });
  const box = h("div", { className: "cd-crop", "aria-hidden": "true" });
  for (const corner of ["nw", "ne", "sw", "se"]) {
    const element = h("span", { className: `cd-corner cd-${corner}` });
    element.dataset.corner = corner;
    box.append(element);
  }
  const stage = h("div", { className: "cd-film" }, film, canCrop ? box : null);
  const range = (): { start: number; end: number } => {
    const { start_time, duration } = canTrim ? partsOf(now).trim : WHOLE.trim;
    const end = duration ? Math.min(video.duration, start_time + duration) : video.duration;
    return { start: Math.min(start_time, video.duration), end };
  };
  const seek = (time: number) => {
    film.currentTime = Math.max(0, Math.min(video.duration, time));
  };
  const play = iconButton("play", `${field.label}: play this part`, () => {
    if (!film.paused) return film.pause();
    const { start, end } = range();
    if (film.currentTime < start || film.currentTime >= end - LEAST_TIME) film.currentTime = start;
    film.play().catch(() => {});
  });
  const clock = h("span", { className: "cd-faint cd-number" });
  const drag = (which: "start" | "end", time: number) => {
    set({ trim: moved(partsOf(now).trim, which, time, video.duration) });
    seek(range()[which]);
  };
  const onKey = (event: KeyboardEvent, which: "start" | "end") => {
    const step = event.shiftKey ? 10 * TIME_STEP : TIME_STEP;
    const { start, end } = range();
    const present = which === "start" ? start : end;
    const targets: Record<string, number> = {
      ArrowLeft: present - step,
      ArrowDown: present - step,
      ArrowRight: present + step,
      ArrowUp: present + step,
      PageDown: present - 10 * step,
      PageUp: present + 10 * step,
      Home: which === "start" ? 0 : start + LEAST_TIME,
      End: which === "start" ? end - LEAST_TIME : video.duration,
    };
    const target = targets[event.key];
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    drag(which, target);
  };
  const handle = (which: "start" | "end") =>
    h("span", {
      className: `cd-handle cd-${which}`,
      role: "slider",
      tabIndex: 0,
      "aria-label": `${field.label}: ${which}`,
      onkeydown: (event) => onKey(event, which),
    });
  const handles = { start: handle("start"), end: handle("end") };
  const playhead = h("span", { className: "cd-playhead", "aria-hidden": "true" });
  const kept = h("span", { className: "cd-kept", "aria-hidden": "true" });
  const track = h("div", { className: "cd-track" }, kept, playhead);
  if (canTrim) track.append(handles.start, handles.end);
  track.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const target = event.target as HTMLElement;
    const which = target === handles.start ? "start" : target === handles.end ? "end" : null;
    const area = track.getBoundingClientRect();
    const move = ({ clientX }: PointerEvent) => {
      const time = ((clientX - area.left) / (area.width || 1)) * video.duration;
      if (which) drag(which, time);
      else seek(time);
    };
    follow(track, event, move);
    if (which) target.focus();
    else move(event);
  });
  stage.addEventListener("pointerdown", (event) => {
    if (event.button || !canCrop) return;
    const area = stage.getBoundingClientRect();
    const pointAt = ({ clientX, clientY }: PointerEvent): [number, number] => [
      ((clientX - area.left) / (area.width || 1)) * video.width,
      ((clientY - area.top) / (area.height || 1)) * video.height,
    ];
    const from = pointAt(event);
    const { crop } = partsOf(now);
    const frame = drawn(crop, video);
    const { corner } = (event.target as HTMLElement).dataset;
    const isWhole = frame.width >= video.width && frame.height >= video.height;
    const isMoved = event.target === box && !isWhole;
    // the corner opposite to the one that is dragged
    const fixed: [number, number] = corner
      ? [
          corner.endsWith("w") ? frame.x + frame.width : frame.x,
          corner.startsWith("n") ? frame.y + frame.height : frame.y,
        ]
      : from;
    follow(stage, event, (at) => {
      const to = pointAt(at);
      if (!isMoved) {
        const wanted = between(fixed, to, video);
        const { width, height } = drawn(wanted, video);
        if (width >= LEAST_SIDE && height >= LEAST_SIDE) set({ crop: wanted });
        return;
      }
      const place = (start: number, by: number, most: number) =>
        Math.round(Math.max(0, Math.min(most, start + by)));
      const x = place(frame.x, to[0] - from[0], video.width - frame.width);
      const y = place(frame.y, to[1] - from[1], video.height - frame.height);
      set({ crop: { ...frame, x, y } });
    });
  });

  const showTime = () => {
    if (!film.paused && film.currentTime >= range().end) film.pause();
    playhead.style.left = `${(100 * film.currentTime) / (video.duration || 1)}%`;
    setText(clock, `${timeText(film.currentTime)} / ${timeText(video.duration)}`);
  };
  const showPlaying = () => {
    const sign = play.querySelector("i");
    if (sign) sign.className = `fa fa-${film.paused ? "play" : "pause"}`;
    play.title = `${field.label}: ${film.paused ? "play this part" : "pause"}`;
    play.setAttribute("aria-label", play.title);
  };
  const show = () => {
    const parts = partsOf(now);
    for (const [name, number] of features.flatMap((part) => Object.entries(parts[part]))) {
      const input = inputs.get(name);
      // What is typed stays as it is while it is the same number.
      if (input && (!input.value || Number(input.value) !== number)) input.value = String(number);
    }
    setText(state, misfit(parts, video) || unseen);
    if (!video.duration) return;
    const { start, end } = range();
    const percent = (part: number, whole: number) => `${(100 * part) / whole}%`;
    kept.style.left = percent(start, video.duration);
    kept.style.width = percent(Math.max(0, end - start), video.duration);
    for (const [which, time, least, most] of [
      ["start", start, 0, end],
      ["end", end, start, video.duration],
    ] as const) {
      handles[which].style.left = percent(time, video.duration);
      handles[which].setAttribute("aria-valuemin", least.toFixed(2));
      handles[which].setAttribute("aria-valuemax", most.toFixed(2));
      handles[which].setAttribute("aria-valuenow", time.toFixed(2));
      handles[which].setAttribute("aria-valuetext", `${time.toFixed(2)} seconds`);
    }
    const frame = drawn(parts.crop, video);
    box.style.left = percent(frame.x, video.width);
    box.style.top = percent(frame.y, video.height);
    box.style.width = percent(frame.width, video.width);
    box.style.height = percent(frame.height, video.height);
    showTime();
  };

  // -- the file ----------------------------------------------------------------------------------
  const controls = h("div", { className: "cd-line cd-playing" }, play, track, clock);
  const picture = h("div", { className: "cd-filming", hidden: true }, stage, controls);
  const state = h("div", { className: "cd-faint cd-remote", role: "status" });
  const forget = (why: string) => {
    video = UNKNOWN;
    picture.hidden = true;
    unseen = why;
    show();
  };
  const shown = new ShownFile(form.media, film);
  let file = "";
  const load = (name: Value) => {
    const wanted = String(name ?? "");
    if (wanted === file) return;
    file = wanted;
    film.pause();
    shown.clear();
    forget("");
    if (!wanted || /^[a-z]+:/i.test(wanted)) return;
    film.setAttribute("aria-label", `${field.label}: ${wanted}`);
    shown.show(form.query(wanted), () =>
      forget("This page cannot show the video; the numbers work without it."),
    );
  };
  film.addEventListener("loadedmetadata", () => {
    const { videoWidth, videoHeight, duration } = film;
    if (!(videoWidth > 0 && videoHeight > 0 && duration > 0 && Number.isFinite(duration))) {
      return forget("The length of this video is not known; the numbers work without it.");
    }
    video = { width: videoWidth, height: videoHeight, duration };
    stage.style.width = `min(100%, ${Math.round((HEIGHT * videoWidth) / videoHeight)}px)`;
    picture.hidden = false;
    unseen = "";
    show();
  });
  for (const event of ["timeupdate", "seeked"]) film.addEventListener(event, showTime);
  for (const event of ["play", "pause", "ended"]) film.addEventListener(event, showPlaying);

  const root = h("div", { className: "cd-video-edit" }, picture, rows, state);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", field.label);
  show();
  const unwatch = field.edit?.video ? form.watch(field.edit.video, load) : () => {};
  return {
    root,
    set(wanted) {
      now = wanted;
      form.refuse("");
      show();
    },
    end() {
      unwatch();
      film.pause();
      shown.clear();
    },
  };
}
