/** The data of fields for the form's controls. */

import type { Files, FilesTraits } from "../files.ts";
import type { Model, Subscriptions } from "../model.ts";
import type { RemoteOptions } from "./remote_list.ts";

export type Value = string | number | boolean | null;

/** The message about a changed value; the numbers of a page increase. */
export type Typed = {
  kind: "typed";
  id: string;
  page: string;
  number: number;
  values: Record<string, Value>;
};

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
  /** Whether a run needs a value that the workflow does not have. */
  required?: boolean;
  options?: Value[] | null;
  /** For options that a route gives: the query of `node-options`, without the machine. */
  remote?: string;
  /** For the edit of a video: what can be set, and the key of the field with the video, or empty. */
  edit?: { features: ("trim" | "crop")[]; video: string } | null;
  min?: number | null;
  max?: number | null;
  step?: number | null;
  /** For a height: the key of the width that belongs to it. */
  width?: string | null;
  /** Whether it is below "More inputs". */
  more?: boolean;
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

export type FormTraits = FilesTraits & {
  /** Another one for each workflow. */
  form_number: number;
  fields: Field[];
  values: Record<string, Value>;
  locked: string[];
  problems: Record<string, string>;
  others: { key: string; value: string }[];
  opened: boolean;
  machine: string | null;
  /** Whether the page itself paints masks on pictures. */
  can_paint?: boolean;
  /** Sends a file to ComfyUI's input folder, if the page itself does that; returns its name. */
  send_file?: (
    file: File,
    progress: (share: number) => void,
    signal: AbortSignal,
  ) => Promise<string>;
};

/** The form that contains a control. */
export type Form = {
  model: Model<FormTraits>;
  events: Subscriptions;
  files: Files;
  /** Send a value that the user has set to the kernel. */
  change: (key: string, value: Value) => void;
  /** Call an action with the value of a field, now and after each change; return how to end it. */
  watch: (key: string, action: (value: Value) => void) => () => void;
  /** Load a whole file, if the page reaches the server: it is too large for the kernel. */
  play: (query: string, media: HTMLMediaElement, failed: () => void) => void;
  /** Load the options that a route gives for a field. */
  options: (field: Field) => Promise<RemoteOptions>;
  /** Show why the page does not accept a value; an empty text removes this message. */
  refuse: (key: string, text: string) => void;
};

/** The element that shows the value of a field, and with which users change it. */
export type Control = {
  root: HTMLElement;
  set: (value: Value) => void;
  end?: () => void;
};

/** The ids of a control and of the text that describes it. */
export type Ids = { id: string; hintId: string };
