/** The form of a workflow: the server makes it, and the page keeps what was changed in it. */

import { batch, computed, signal } from "@preact/signals";
import { type Exact, exact } from "../exact.ts";
import type { Field, Value } from "../form/field.ts";
import { isMedia } from "../form/media_control.ts";
import { counted, messageOf } from "../format.ts";
import { listOf, RouteError, type Transport, type Upload, untilAnswered } from "../transport.ts";

/**
 * The graph of a workflow, or where the server has it, as the routes take it. Graphs are texts:
 * parsed by the page, their large integers would not be exact.
 */
export type Source = {
  workflow_id?: string;
  version?: number | string;
  workflow_api?: string;
  workflow?: string;
};

/** An order of the rows of a group: the places where they are shown, and null for a new row. */
export type Order = (number | null)[];

/** What rows have if a form, which is brief, leaves it out. */
const ABSENT: Partial<Row> = {
  hint: "",
  dynamic: false,
  may_be_empty: true,
  choosable: true,
  least: null,
  most: null,
};

/** A row of the form as the server describes it. */
type Row = Field & {
  node: string;
  input: string;
  keys: string[];
  choices?: number | null;
  dynamic: boolean;
  may_be_empty: boolean;
  least: string | null;
  most: string | null;
  /** For a group: the inputs that it gets next, with their values, and those of its last row. */
  next?: Record<string, Value>;
  last?: string[];
};

/** Sentences about a workflow, with a heading. */
export type FormNote = { about: string; title: string; texts: string[] };

export type FormReply = {
  title: string;
  /** Those of a brief form lack what is in the lists below, and what follows from the rest. */
  rows: (Partial<Omit<Row, "section">> & {
    node: string;
    alike?: number;
    section?: number | Row["section"];
  })[];
  alike?: Partial<Row>[];
  sections?: string[];
  values: Record<string, Value>;
  choices: Value[][];
  unlocked: string[];
  outputs: string[];
  structure: string;
  problems: Record<string, string>;
  others: Record<string, string>;
  unknown: Record<string, string[]>;
  given: Inputs;
  untold: string[];
  /** What the partner nodes cost with these values. */
  price: string;
  notes: FormNote[];
  /** Whether ComfyUI's node definitions are known. */
  defined: boolean;
};

/** Return the rows of a form with everything that a brief one leaves out. */
function rowsOf(reply: FormReply): Row[] {
  const { rows, alike = [], sections, values, choices } = reply;
  const facts: Partial<Row>[] = alike.map((each) => ({ ...ABSENT, ...each }));
  return rows.map((brief): Row => {
    const common = facts[brief.alike ?? -1] ?? ABSENT;
    const key = brief.key ?? `${brief.node}.${common.input}`;
    const { section } = brief;
    return {
      original: values[key] ?? null,
      keys: [key],
      label: brief.parts?.join(""),
      ...common,
      ...brief,
      key,
      section: typeof section === "number" ? { id: section, title: sections?.[section] } : section,
      options: choices[brief.choices ?? -1] ?? null,
    } as Row;
  });
}

/** Forms that came with their workflows, until they are shown. */
const forms = new WeakMap<Source, FormReply>();

/** Keep the form of a workflow, as the server makes it for its local machine. */
export function keepForm(source: Source, form: FormReply): void {
  forms.set(source, form);
}

/** The values of an input that takes several: one on each line; and what it changes together with. */
export type Several = { text: string; along?: string };

/** Several values, by the keys of their fields. */
export type Varied = Record<string, Several>;

/** Inputs that change together, the one that they change with, and how many values it has. */
export type Axis = { leader: string; members: { key: string; label: string }[]; count: number };

type Line = { number: number; text: string };

export function linesOf(text: string): Line[] {
  const lines = text.split("\n").map((line, place) => ({ number: place + 1, text: line.trim() }));
  return lines.filter((line) => line.text);
}

/** What a run gets, or a workflow's preset: null removes an input. */
export type Inputs = Record<string, unknown>;

const MAX_SEED = 2n ** 64n - 1n;

/** The number of a field that a text says, or why it is none. */
export function readNumber(row: Row, text: string): number | Exact | string {
  const { kind, least, most } = row;
  const trimmed = text.trim();
  if (kind === "float") {
    const number = trimmed === "" ? Number.NaN : Number(trimmed);
    if (!Number.isFinite(number)) return "must be a number";
    if (least !== null && number < Number(least)) return `must be at least ${least}`;
    if (most !== null && number > Number(most)) return `must be at most ${most}`;
    return number;
  }
  if (!/^[-+]?\d+$/.test(trimmed)) return "must be a whole number";
  const number = BigInt(trimmed.replace("+", ""));
  const isWhole = (bound: string) => /^-?\d+$/.test(bound);
  if (least !== null && (isWhole(least) ? number < BigInt(least) : Number(number) < Number(least)))
    return `must be at least ${least}`;
  if (most !== null && (isWhole(most) ? number > BigInt(most) : Number(number) > Number(most)))
    return `must be at most ${most}`;
  return exact(number.toString());
}

/** A random seed in the range of a field. */
export function drawSeed({ least, most }: Row): string {
  const isWhole = (bound: string | null): bound is string =>
    bound !== null && /^-?\d+$/.test(bound);
  const low = isWhole(least) && BigInt(least) > 0n ? BigInt(least) : 0n;
  const high = isWhole(most) && BigInt(most) < MAX_SEED ? BigInt(most) : MAX_SEED;
  if (high <= low) return low.toString();
  const [a = 0, b = 0, c = 0] = crypto.getRandomValues(new Uint32Array(3));
  const random = (BigInt(a) << 64n) | (BigInt(b) << 32n) | BigInt(c);
  return (low + (random % (high - low + 1n))).toString();
}

/** Whether the values of a field are those of its list; files can be others. */
export function isListed({ options, remote, kind }: Field): boolean {
  return Boolean(options) && !remote && !isMedia(kind);
}

/** Inputs that take several values and change together, with the first one or another one. */
function together(inputs: [key: string, values: unknown[]][], first = inputs[0]?.[0]): Inputs {
  return Object.fromEntries(
    inputs.map(([key, values]) => [
      key,
      key === first ? { $vary: values } : { $vary: values, $with: first },
    ]),
  );
}

/** Whether a key is that of an input of one of these dynamic combos or groups. */
function isWithin(key: string, top: string): boolean {
  return key.startsWith(`${top}.`);
}

/** The form that a panel shows, and what the user has changed in it. */
export class FormState {
  readonly rows = signal<Row[]>([]);
  private readonly byKey = computed(() => new Map(this.rows.value.map((row) => [row.key, row])));
  readonly values = signal<Record<string, Value>>({});
  readonly problems = signal<Record<string, string>>({});
  readonly others = signal<Record<string, string>>({});
  /** The seeds that every run keeps. */
  readonly locked = signal<string[]>([]);
  /** Those that ComfyUI's editor draws anew for each run. */
  unlocked: string[] = [];
  readonly title = signal("");
  readonly outputs = signal<string[]>([]);
  readonly notes = signal<FormNote[]>([]);
  /** The hash by which the server knows the runs of this workflow. */
  readonly structure = signal("");
  readonly price = signal("");
  readonly isDefined = signal(true);
  /** Why there is no form; empty if there is one, or none was asked for. */
  readonly problem = signal("");
  readonly isOpening = signal(false);
  /** Why the form has to wait for the server; empty if it has not. */
  readonly lost = signal("");
  /** Increases with each workflow that is opened. */
  readonly number = signal(0);
  readonly source = signal<Source | null>(null);
  /** The inputs that differ from the workflow: numbers are texts, null removes an input. */
  readonly changed = signal<Inputs>({});
  readonly changes = computed(() => Object.keys(this.changed.value).length);
  /** The inputs that take several values. */
  readonly varied = signal<Varied>({});
  /** Changes with each change of what runs get. */
  readonly edited = computed(() => [this.values.value, this.varied.value]);
  /** Those that are shown, as the server reads them: an axis is where its first member is. */
  readonly axes = computed((): Axis[] => {
    const found = new Map<string, Axis>();
    for (const { key, label } of this.rows.value) {
      if (!(key in this.varied.value)) continue;
      const leader = this.leaderOf(key);
      const count = linesOf(this.varied.value[leader]?.text ?? "").length;
      const axis = found.get(leader) ?? { leader, members: [], count };
      axis.members.push({ key, label });
      found.set(leader, axis);
    }
    return [...found.values()];
  });
  /** The files that are being sent, by the key of their field. */
  readonly uploads = signal<Record<string, { text: string; stop: AbortController }>>({});
  machine: string | null = null;

  private saved = new Set<string>(); // the keys of the workflow's own fields
  private drawn = new Set<string>(); // seeds that were drawn and that no user has set since
  private asked: AbortController | null = null;
  private making: Promise<void> | null = null; // while the form of a change is awaited
  private newer: Record<string, Value> = {}; // what was set since that form was asked for
  private orders: Record<string, Order> = {}; // of rows, asked for and not shown yet, by groups

  constructor(
    private readonly transport: Transport,
    /** Called after each change by the user. */
    private readonly onChange: () => void = () => {},
  ) {}

  /** Whether the form of a workflow is shown, or why there is none. */
  isDone(source: Source): boolean {
    return this.source.value === source && !this.isOpening.value;
  }

  private seeds(): string[] {
    return this.rows.value.filter(({ kind }) => kind === "seed").map(({ key }) => key);
  }

  row(key: string): Row | undefined {
    return this.byKey.value.get(key);
  }

  /**
   * Show another workflow, with these values in place of its own; return false if something else
   * was asked for meanwhile.
   */
  async open(
    source: Source,
    inputs: Inputs = {},
    locked: string[] | null = null,
    varied: Varied = {},
  ): Promise<boolean> {
    this.stopSending(...Object.keys(this.uploads.value));
    batch(() => {
      this.source.value = source;
      this.changed.value = inputs;
      this.varied.value = varied;
      this.number.value += 1;
      this.isOpening.value = true;
      this.problem.value = "";
    });
    this.drawn.clear();
    this.saved.clear();
    try {
      const isPlain = this.machine === null && !Object.keys(inputs).length;
      const made = isPlain ? forms.get(source) : undefined;
      forms.delete(source);
      if (made) this.asked?.abort();
      const reply = made ?? (await this.ask());
      if (!reply) return false;
      batch(() => {
        this.take(reply);
        this.locked.value = locked ?? this.seeds().filter((key) => !this.unlocked.includes(key));
      });
    } catch (error) {
      batch(() => {
        this.rows.value = [];
        this.values.value = {};
        this.problem.value = messageOf(error);
        this.isOpening.value = false;
      });
    }
    return true;
  }

  /** Show nothing. */
  close(): void {
    this.asked?.abort();
    this.stopSending(...Object.keys(this.uploads.value));
    batch(() => {
      this.source.value = null;
      this.rows.value = [];
      this.values.value = {};
      this.changed.value = {};
      this.problem.value = "";
      this.isOpening.value = false;
    });
  }

  /** Make the form again with the present values: for another machine, or when ComfyUI answers. */
  async remake(fresh = false): Promise<void> {
    if (!this.source.value || this.isOpening.value) return;
    const making = this.ask(fresh).then(
      (reply) => {
        if (reply) batch(() => this.take(reply));
      },
      (error) => {
        this.problem.value = messageOf(error);
      },
    );
    this.making = making;
    await making;
    if (this.making === making) this.making = null;
  }

  private request(fresh: boolean): object {
    const { machine } = this;
    const inputs = this.changed.value;
    return { ...this.source.value, machine, inputs, brief: true, ...(fresh && { fresh }) };
  }

  /** Change the lists of the fields that are shown, as ComfyUI has them now. */
  async relist(): Promise<void> {
    const reply = await this.transport.post<FormReply>("workflow/form", this.request(true));
    if (!reply.defined) return; // there is no ComfyUI that says it
    for (const { key, options } of rowsOf(reply)) {
      if (options) this.row(key)?.options?.splice(0, Number.POSITIVE_INFINITY, ...options);
    }
  }

  /** Ask for the form of the present values; null if something else was asked for since. */
  private async ask(fresh = false): Promise<FormReply | null> {
    this.asked?.abort();
    const asked = new AbortController();
    this.asked = asked;
    this.newer = {};
    const body = this.request(fresh);
    try {
      const reply = await untilAnswered(
        () => this.transport.post<FormReply>("workflow/form", body, asked.signal),
        asked.signal,
        (why) => {
          if (this.asked === asked) this.lost.value = why;
        },
      );
      listOf(reply.rows); // a server of another version may answer something else
      return asked.signal.aborted ? null : reply;
    } catch (error) {
      if (asked.signal.aborted) return null;
      throw error;
    }
  }

  private take(reply: FormReply): void {
    const isOther = !this.saved.size;
    const made = rowsOf(reply);
    const rows = isOther ? made : this.known(made);
    if (isOther) {
      const added = new Set(Object.keys(this.changed.value));
      for (const { key } of rows) if (!added.has(key)) this.saved.add(key);
    }
    const newer = Object.entries(this.newer).map(
      ([key, value]) => [this.moved(key), value] as const,
    );
    this.orders = {};
    this.isOpening.value = false;
    this.problem.value = "";
    this.values.value = reply.values;
    this.rows.value = rows;
    this.problems.value = reply.problems;
    this.others.value = reply.others;
    this.unlocked = reply.unlocked;
    this.title.value = reply.title;
    this.outputs.value = reply.outputs;
    this.notes.value = reply.notes;
    this.structure.value = reply.structure;
    this.price.value = reply.price;
    this.isDefined.value = reply.defined;
    this.changed.value = reply.given; // by the keys of fields
    for (const [key, value] of newer) if (key in reply.values) this.put(key, value);
  }

  /** Return rows, and in place of those that are as they are shown these, whose fields stay. */
  private known(rows: Row[]): Row[] {
    const lists = new Map<Value[], Value[]>(); // fields with the same list of files share it
    for (const { key, kind, options } of rows) {
      const shown = this.row(key)?.options;
      if (!options || !shown || !isMedia(kind) || lists.has(options)) continue;
      shown.splice(0, Number.POSITIVE_INFINITY, ...options);
      lists.set(options, shown);
    }
    const isEqual = (a: unknown, b: unknown) =>
      a === b || (typeof a === "object" && JSON.stringify(a) === JSON.stringify(b));
    return rows.map((row) => {
      if (row.options && isMedia(row.kind)) row.options = lists.get(row.options) ?? row.options;
      const shown = this.row(row.key);
      const names = Object.keys({ ...shown, ...row }) as (keyof Row)[];
      return shown && names.every((name) => isEqual(shown[name], row[name])) ? shown : row;
    });
  }

  /** The key that a shown field gets with the order of rows that was asked for. */
  private moved(key: string): string {
    const { group, place, index } = this.row(key)?.row ?? { group: "", place: 0, index: 0 };
    const order = this.orders[group];
    return order ? `${group}.${order.indexOf(place)}${key.slice(`${group}.${index}`.length)}` : key;
  }

  /** The user, or code, has set a value. */
  change(key: string, value: Value): void {
    if (this.isOpening.value) return; // the fields are those of another workflow
    this.stopSending(key);
    if (this.making) this.newer[key] = value;
    const row = this.put(key, value);
    if (row?.dynamic && row.options?.includes(value)) {
      const kept = Object.entries(this.changed.value).filter(([name]) => !isWithin(name, key));
      this.changed.value = Object.fromEntries(kept);
      this.remake();
    }
    this.onChange();
  }

  private put(key: string, value: Value): Row | undefined {
    const row = this.row(key);
    this.drawn.delete(key);
    const isAsSaved = row !== undefined && value === row.original && this.saved.has(key);
    const { [key]: _, ...others } = this.changed.value;
    batch(() => {
      this.values.value = { ...this.values.value, [key]: value };
      this.setProblem(key, "");
      this.changed.value = isAsSaved ? others : { ...others, [key]: value };
    });
    return row;
  }

  private setProblem(key: string, text: string): void {
    const { [key]: before = "", ...others } = this.problems.value;
    if (text !== before) this.problems.value = text ? { ...others, [key]: text } : others;
  }

  /** Store a file of the user in ComfyUI's input folder; return the name that it got. */
  async store(file: File, more: Pick<Upload, "progress" | "signal"> = {}): Promise<string> {
    const query = { machine: this.machine };
    const fields = { type: "input", subfolder: "", overwrite: "false" };
    const reply = await this.transport.send<{ name: string }>("upload-file", {
      ...more,
      file,
      query,
      fields,
    });
    return reply.name;
  }

  /**
   * Store a file as the value of a field; return its name, or null if the field has no such value:
   * the user has entered another one since, or chosen another workflow.
   */
  async upload(key: string, file: File): Promise<string | null> {
    this.stopSending(key);
    const stop = new AbortController();
    const { signal } = stop;
    const say = (stage: string) => {
      if (signal.aborted) return;
      const text = `Sending ${file.name}${stage}`;
      this.uploads.value = { ...this.uploads.value, [key]: { text, stop } };
    };
    const progress = (share: number) =>
      say(share < 1 ? `: ${Math.floor(100 * share)} %` : ": storing …");
    this.setProblem(key, "");
    say(" …");
    try {
      const name = await this.store(file, { progress, signal });
      if (signal.aborted) return null;
      this.stopSending(key);
      const row = this.row(key);
      if (!row) return null; // a value has removed the field
      // Fields with the same list share it.
      if (row.options && !row.options.includes(name)) row.options.push(name);
      this.change(key, name);
      return name;
    } catch (error) {
      if (signal.aborted) return null;
      this.stopSending(key);
      this.setProblem(key, `Not uploaded: ${messageOf(error)}`);
      return null;
    }
  }

  /** The files that are being sent for these fields are not wanted any more. */
  stopSending(...keys: string[]): void {
    for (const key of keys) {
      const { [key]: sending, ...others } = this.uploads.value;
      if (!sending) continue;
      sending.stop.abort();
      this.uploads.value = others;
    }
  }

  /** Add an input to a group, or remove the last one. */
  grow(key: string, more: boolean): void {
    if (this.making) {
      this.making.then(() => this.grow(key, more));
      return;
    }
    const row = this.row(key);
    if (row) {
      const changed = { ...this.changed.value };
      for (const [name, value] of more ? Object.entries(row.next ?? {}) : []) {
        if (changed[name] === null) delete changed[name];
        else changed[name] = value;
      }
      for (const name of more ? [] : (row.last ?? [])) {
        if (this.saved.has(name)) changed[name] = null;
        else delete changed[name];
      }
      this.changed.value = changed;
      this.remake();
    }
    this.onChange();
  }

  /** Change the order of the rows of a group, also before the last change of it is shown. */
  arrange(key: string, change: (order: Order) => Order): void {
    const asked = this.orders[key];
    if (this.making && !asked) {
      this.making.then(() => this.arrange(key, change));
      return;
    }
    const row = this.row(key);
    if (!row?.rows) return;
    const before = asked ?? [...row.rows.keys()];
    const order = change(before);
    if (order === before) return;
    this.orders[key] = order;
    const rows = this.rowsOf(row);
    this.setRows(
      key,
      order.map((place) => (place === null ? {} : (rows[place] ?? {}))),
    );
    this.onChange();
  }

  /** What the rows of a group have now. */
  private rowsOf({ key, rows }: Row): Record<string, unknown>[] {
    const fields = this.rows.value.filter(({ row }) => row?.group === key);
    return (rows ?? []).map((values, place) => {
      const index = fields.find(({ row }) => row?.place === place)?.row?.index ?? place;
      const start = `${key}.${index}.`;
      const now = Object.keys(values).map((name) => {
        const shown = this.values.value[start + name];
        return [name, shown === undefined ? values[name] : shown];
      });
      return Object.fromEntries(now);
    });
  }

  private setRows(key: string, rows: Record<string, unknown>[]): void {
    const others = Object.entries(this.changed.value).filter(([name]) => !isWithin(name, key));
    this.changed.value = { ...Object.fromEntries(others), [key]: rows };
    this.remake();
  }

  lock(key: string, isLocked: boolean): void {
    const others = this.locked.value.filter((each) => each !== key);
    this.drawn.delete(key);
    this.locked.value = isLocked ? [...others, key] : others;
    this.onChange();
  }

  /** Let an input take several values, one on each line; null: only the one of its field. */
  vary(key: string, text: string | null): void {
    const { [key]: before, ...others } = this.varied.value;
    batch(() => {
      for (const { members } of this.axes.value) {
        if (members.some((each) => each.key === key))
          for (const each of members) this.setProblem(each.key, "");
      }
      this.varied.value = text === null ? others : { ...others, [key]: { ...before, text } };
    });
    this.onChange();
  }

  /** Let an input change together with another one that takes several values; empty: with none. */
  varyAlong(key: string, along: string): void {
    const before = this.varied.value[key];
    if (!before) return;
    const others = Object.entries(this.varied.value).map(([name, several]): [string, Several] => {
      // those that changed with this one go on with the one that it changes with
      const isWith = along !== "" && name !== key && this.leaderOf(name) === key;
      return [name, isWith ? { ...several, along } : several];
    });
    const { text } = before;
    this.varied.value = {
      ...Object.fromEntries(others),
      [key]: along ? { text, along } : { text },
    };
    this.problems.value = {};
    this.onChange();
  }

  /** The input with which one that takes several values changes together; itself if with none. */
  leaderOf(key: string): string {
    const seen = [key];
    for (let last = key; ; seen.push(last)) {
      const along = this.varied.value[last]?.along;
      if (along === undefined || !this.varied.value[along] || !this.row(along)) return last;
      if (seen.includes(along)) return key; // they name each other
      last = along;
    }
  }

  draw(key: string): void {
    const row = this.row(key);
    if (row) this.change(key, drawSeed(row));
  }

  reset(): void {
    this.drawn.clear();
    this.changed.value = {};
    this.varied.value = {};
    this.remake();
    this.onChange();
  }

  /** Show other values in place of all changes. */
  async use(inputs: Inputs, locked: string[], varied: Varied = {}): Promise<void> {
    this.drawn.clear();
    batch(() => {
      this.changed.value = inputs;
      this.varied.value = varied;
      this.locked.value = locked;
    });
    await this.remake();
    this.onChange();
  }

  /** Return the form with the values of a run. */
  ofRun(promptId: string): Promise<FormReply> {
    const { source, machine } = this;
    const body = { ...source.value, machine, prompt_id: promptId, brief: true };
    return this.transport.post("workflow/form", body);
  }

  /**
   * Show the values of a run, and return a sentence about it. With `lock` its seeds are kept;
   * without it, as for a run that a panel has found, values that were changed meanwhile stay.
   */
  async reuse(promptId: string, lock = true): Promise<string> {
    const { source } = this;
    const asked = source.value;
    const changed = this.changed.value;
    const reply = await this.ofRun(promptId);
    if (source.value !== asked || (!lock && changed !== this.changed.value)) return "";
    this.asked?.abort();
    this.drawn.clear();
    batch(() => {
      this.take(reply);
      if (!lock) return;
      this.varied.value = {};
      this.locked.value = this.seeds();
    });
    this.onChange();
    const told = "The values and seeds of this run are in the form now";
    const { untold } = reply;
    return untold.length ? `${told}, but the run does not tell: ${untold.join(", ")}.` : `${told}.`;
  }

  /** The values that runs get of a field that takes several, and why there are none. */
  private readAll(row: Row, text: string): [values: unknown[], problem: string] {
    const values: unknown[] = [];
    const options = row.kind === "bool" ? [true, false] : isListed(row) ? row.options : null;
    for (const { number, text: line } of linesOf(text)) {
      const written = options ? options.find((each) => String(each) === line) : line;
      const [value, problem] =
        written === undefined ? [null, "is not one of the choices"] : this.read(row, written);
      if (problem) return [[], `line ${number}: ${problem}`];
      values.push(value);
    }
    return [values, values.length ? "" : "must have at least one value"];
  }

  /** The value that a run gets of a field, and why it is none. */
  private read(row: Row, written: Value): [value: unknown, problem: string] {
    if (row.required && (written === null || written === "") && !row.may_be_empty) {
      return [null, "must have a value, because the workflow has none"];
    }
    if (row.dynamic && !row.options?.includes(written)) {
      return [null, `must be one of ${row.options?.join(", ")}`];
    }
    if (row.kind === "bool") return [Boolean(written), ""];
    if (row.kind === "color" && (written !== row.original || row.key in this.varied.value)) {
      const isColour = /^#[0-9a-f]{6}$/i.test(String(written).trim());
      if (!isColour) return [null, "must be a colour like #1a2b3c"];
      return [Number.parseInt(String(written).trim().slice(1), 16), ""];
    }
    if (!["int", "float", "seed"].includes(row.kind) || row.options) return [written, ""];
    if (written === row.original && typeof written !== "string") return [written, ""];
    const number = readNumber(row, String(written ?? ""));
    return typeof number === "string" ? [null, number] : [number, ""];
  }

  /**
   * The inputs of a run: every value of the form, so that the run's record has all, and of those that
   * take several values all of them; null if a value is not valid, which its field then says. External inputs that were not changed are left out,
   * since their defaults may mean "none".
   */
  inputs(): Inputs | null {
    const problems: Record<string, string> = {};
    const inputs: Inputs = {};
    for (const [key, value] of Object.entries(this.changed.value)) {
      if (!(key in this.values.value)) inputs[key] = value;
    }
    for (const row of this.rows.value) {
      if (row.kind === "group") continue;
      const several = this.varied.value[row.key];
      if (several) {
        const [values, problem] = this.readAll(row, several.text);
        const leader = this.row(this.leaderOf(row.key)) ?? row;
        const count = linesOf(this.varied.value[leader.key]?.text ?? "").length;
        const isOther = values.length !== count;
        if (problem) problems[row.key] = problem;
        else if (isOther)
          problems[row.key] =
            `has ${counted(values.length, "value")}, but “${leader.label}”, with which it changes, has ${count}`;
        else {
          const pairs = row.keys.map((key): [string, unknown[]] => [key, values]);
          Object.assign(inputs, together(pairs, leader.keys[0]));
        }
        continue;
      }
      const isOwn = row.key === `${row.node}.${row.input}`;
      // An empty text is no value of these; the workflow has none.
      const isUnset = row.original === "" && (row.remote || row.kind === "video_edit");
      const isAsSaved = !(row.key in this.changed.value);
      const isLeftOut = isAsSaved && (!isOwn || row.original === null || isUnset);
      if (isLeftOut && (isUnset || !row.required)) continue;
      const [value, problem] = this.read(row, this.values.value[row.key] ?? null);
      if (problem) problems[row.key] = problem;
      else if (!isLeftOut && !(isAsSaved && row.kind === "color"))
        for (const key of row.keys) inputs[key] = value;
    }
    this.problems.value = problems;
    return Object.keys(problems).length ? null : inputs;
  }

  /** New numbers for the seeds that are not locked; `showDrawn` shows them. */
  drawAll(): Inputs {
    const drawn: Inputs = {};
    for (const row of this.rows.value) {
      if (!this.isDrawn(row)) continue;
      this.drawn.add(row.key);
      const seed = exact(drawSeed(row));
      for (const key of row.keys) drawn[key] = seed;
    }
    return drawn;
  }

  /** Whether runs get new seeds. */
  readonly isDrawing = computed(() => this.rows.value.some((row) => this.isDrawn(row)));

  /** What was changed, without the seeds that each run draws. */
  edits(): Inputs {
    const isKept = ([key]: [string, unknown]) => {
      const row = this.row(key);
      return !row || !this.isDrawn(row);
    };
    return Object.fromEntries(Object.entries(this.changed.value).filter(isKept));
  }

  private isDrawn({ kind, key }: Row): boolean {
    return kind === "seed" && !this.locked.value.includes(key) && !(key in this.varied.value);
  }

  /** The inputs of all runs of a batch; null as for `inputs`. Each combination gets `times` seeds. */
  inputsOfAll(times: number): Inputs | null {
    const inputs = this.inputs();
    const draws = Array.from({ length: times }, () => this.drawAll());
    if (!inputs || times === 1) return inputs && { ...inputs, ...draws[0] };
    const seeds = Object.keys(draws[0] ?? {});
    const others = Object.entries(inputs).filter(([key]) => !seeds.includes(key));
    const drawn = together(seeds.map((key) => [key, draws.map((draw) => draw[key])]));
    return { ...drawn, ...Object.fromEntries(others) };
  }

  /** Show the seeds of a run that was accepted, except where a user has set others since. */
  showDrawn(inputs: Inputs): void {
    const values = { ...this.values.value };
    const changed = { ...this.changed.value };
    for (const key of this.drawn) {
      if (!(key in inputs) || !(key in values)) continue;
      values[key] = changed[key] = String(inputs[key]);
    }
    batch(() => {
      this.values.value = values;
      this.changed.value = changed;
    });
  }

  /** Mark the fields that an error of a run names; return whether there is one. */
  mark(error: unknown): boolean {
    if (!(error instanceof RouteError)) return false;
    const { invalid, node_errors, points } = error.details as {
      invalid?: Record<string, string>;
      node_errors?: NodeErrors;
      points?: WrongPoint[];
    };
    if (Array.isArray(points)) return this.markPoints(points);
    return this.markNodes(node_errors ?? {}, invalid ?? {});
  }

  /** Mark the fields that ComfyUI's `node_errors` name, and those that are `invalid`. */
  markNodes(nodeErrors: NodeErrors, invalid: Record<string, string> = {}): boolean {
    return this.markRows((row) => {
      if (invalid[row.key]) return invalid[row.key];
      // The node that loads the file of an input has the name of that input.
      const loader = `${row.node}.${row.input}`;
      for (const id of [row.node, loader]) {
        for (const { sentence, extra_info: facts } of nodeErrors[id]?.errors ?? []) {
          const name = facts?.input_name;
          if (name && (id === loader || name === row.input)) {
            return sentence;
          }
        }
      }
      return undefined;
    });
  }

  /** Mark the fields whose values are wrong at points of a batch, with the lines of these values. */
  private markPoints(points: WrongPoint[]): boolean {
    const lines = new Map<string, string>(); // of the first wrong value of each field
    for (const { point, field, problem } of points) {
      const key = String(field).replace(/^inputs\./, "");
      const row = this.rows.value.find((each) => each.keys?.includes(key));
      if (!row || lines.has(row.key)) continue;
      const text = (problem.split("; inputs.")[0] ?? "").replace(/^inputs\..*?: /, "");
      const line = this.lineAt(row.key, point);
      lines.set(row.key, line === null ? text : `line ${line}: ${text}`);
    }
    return this.markRows((row) => lines.get(row.key));
  }

  /** The number of the line with the value that a field has at a point; the last field changes first. */
  private lineAt(key: string, point: number): number | null {
    const place = this.axes.value.findIndex(({ members }) => members.some((m) => m.key === key));
    const count = this.axes.value[place]?.count;
    if (!count) return null;
    const faster = this.axes.value.slice(place + 1).reduce((all, axis) => all * axis.count, 1);
    const index = Math.floor(point / faster) % count;
    return linesOf(this.varied.value[key]?.text ?? "")[index]?.number ?? null;
  }

  private markRows(problemOf: (row: Row) => string | undefined): boolean {
    const problems: Record<string, string> = {};
    for (const row of this.rows.value) {
      const problem = row.kind === "group" ? undefined : problemOf(row);
      if (problem) problems[row.key] = problem;
    }
    this.problems.value = problems;
    return Object.keys(problems).length > 0;
  }
}

/** A point of a batch whose values the server refuses. */
type WrongPoint = { point: number; field: string | null; problem: string };

export type NodeErrors = Record<
  string,
  {
    errors?: { sentence?: string; extra_info?: { input_name?: string } }[];
  }
>;
