/** The data of fields for the form's controls. */

import type { Media } from "../media.tsx";
import type { RemoteOptions } from "./remote_list.ts";

export type Value = string | number | boolean | null;

/** A row of the form, as `graphs/shown_form.py` describes it. */
export type Field = {
  key: string;
  label: string;
  /** The parts of the label: before, in and after the part that is shown below the heading. */
  parts?: [string, string, string];
  /** The section that it is in: neighbours with the same id have one heading. */
  section?: { id: number; title: string } | null;
  kind: string;
  hint: string;
  /** For a number: its range as a text, and whether it has a slider. */
  range?: string;
  slider?: boolean;
  tooltip?: string | null;
  original: Value;
  /** Whether its value determines which fields there are. */
  dynamic?: boolean;
  /** Whether a run needs a value that the workflow does not have. */
  required?: boolean;
  options?: Value[] | null;
  /** For options that a route gives: the query of `node-options`, without the machine. */
  remote?: string;
  /** The folder under `models` whose files it offers; empty if that is not known. */
  models?: string;
  /** For the edit of a video: what can be set, and the key of the field with the video, or empty. */
  edit?: { features: ("trim" | "crop")[]; video: string } | null;
  min?: number | null;
  max?: number | null;
  step?: number | null;
  /** For a height: the key of the width that belongs to it. */
  width?: string | null;
  /** Whether it is below "More inputs", and whether the author can choose it for the front. */
  more?: boolean;
  choosable?: boolean;
  /** The row of a group that it belongs to: which one, its index in the graph, and its name. */
  row?: { group: string; place: number; index: number; title: string } | null;
  /** For a group of rows: what they have, and how few and how many there may be. */
  rows?: Record<string, unknown>[] | null;
  least?: string | number | null;
  most?: string | number | null;
  /** For a group: whether an input can be added, and whether the last one can be removed. */
  can_grow?: boolean;
  can_shrink?: boolean;
};

/** A model: its size in bytes, and what loads the picture that lies beside it. */
export type ModelFacts = { size: number | null; picture?: (() => Promise<Blob>) | undefined };

/** What a form does for the control of one of its fields. */
export type Form = {
  /** The id of the control, and that of the text that describes it. */
  id: string;
  hintId: string;
  /** The value at first; later ones come by `set`. */
  value: Value;
  /** The user has set a value. */
  change: (value: Value) => void;
  /** Show why the page does not accept a value; an empty text removes this message. */
  refuse: (text: string) => void;
  /** Whether every run keeps the value of a seed. An effect that calls it follows it. */
  isLocked: () => boolean;
  lock: (isLocked: boolean) => void;
  /** Have a random seed drawn. */
  draw: () => void;
  /** Load the options that a route gives. */
  options: () => Promise<RemoteOptions>;
  /** What is known of the models in a folder, by their names. */
  models: (folder: string) => Promise<Map<string, ModelFacts>>;
  /** Bring the lists of all fields up to date. */
  relist: () => Promise<void>;
  /** Send a file to ComfyUI; return the name that is the value then, null if there is none. */
  upload: (file: File) => Promise<string | null>;
  /** Stop sending it. */
  giveUp: () => void;
  /** How sending a file goes; empty without one. An effect that calls it follows it. */
  sending: () => string;
  /** Send a file to ComfyUI; return the name that it has there. */
  store: (file: File, signal: AbortSignal) => Promise<string>;
  /** The present value. */
  present: () => Value;
  /** The values of a field that takes several, one on each line. An effect that calls it follows it. */
  varied: () => string | undefined;
  vary: (text: string | null) => void;
  /** The others that take several, each with its label and whether it changes with this one. */
  partners: () => { key: string; label: string; isWith: boolean }[];
  varyAlong: (key: string) => void;
  /** Let the user paint a mask on the picture that a value names, or crop it. */
  paint: (name: string) => Promise<void>;
  /** The files of ComfyUI, and the query by which they have the file that a value names. */
  media: Media;
  query: (name: string) => string;
  /** Call an action with the value of a field, now and after each change; return how to end it. */
  watch: (key: string, action: (value: Value) => void) => () => void;
};

/** The element that shows the value of a field, and with which users change it. */
export type Control = {
  root: HTMLElement;
  set: (value: Value) => void;
  end?: () => void;
};
