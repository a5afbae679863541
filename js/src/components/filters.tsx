/** The controls that choose which runs are shown. */

import { useEffect, useRef, useState } from "preact/hooks";
import { IconButton, useId } from "./ui.tsx";

const WAIT = 300; // ms after a key until the typed text or date is used

/** The conditions of a search. */
export type Filter = {
  status: string;
  search: string;
  /** Only runs of the last days; 0 for all. */
  days: number;
  /** Dates of the first and the last day as a date input has them; empty for none. */
  first: string;
  last: string;
  /** The name and the value of a label. */
  label: [string, string] | null;
  pinned: boolean;
  starred: boolean;
  /** The id of a stored workflow; empty for all. */
  workflow: string;
};

export const EVERYTHING: Filter = {
  status: "",
  search: "",
  days: 0,
  first: "",
  last: "",
  label: null,
  pinned: false,
  starred: false,
  workflow: "",
};

/** Those of a gallery, before the user chooses others. */
export const SUCCESSFUL: Filter = { ...EVERYTHING, status: "success" };

const STATUSES: [string, string][] = [
  ["", "Any status"],
  ["success", "Success"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
];

const DAYS: [string, string][] = [
  ["0", "Any time"],
  ["1", "Last 24 hours"],
  ["7", "Last 7 days"],
  ["30", "Last 30 days"],
  ["dates", "From … to …"],
];

/** Return whether a filter has any condition that another one does not have. */
export function isFiltered(filter: Filter, base = EVERYTHING): boolean {
  return JSON.stringify(filter) !== JSON.stringify(base);
}

/** Return whether batches stand in place of their points: these are found one by one otherwise. */
export function foldsBatches({ status, search, pinned, starred, workflow }: Filter): boolean {
  return !(status || search || pinned || starred || workflow);
}

/** Return the fields of a filter as the routes of runs take them. */
export function fieldsOf(filter: Filter): Record<string, string | boolean> {
  const { status, search, days, label, pinned, starred, workflow } = filter;
  const latest = days ? new Date(Date.now() - days * 86_400_000).toISOString() : "";
  const isWrong = problemOf(filter) !== "";
  const after = isWrong ? "" : startOfDay(filter.first) || latest;
  const before = isWrong ? "" : startOfDay(filter.last, 1);
  return {
    ...(status && { status }),
    ...(search && { search }),
    ...(after && { after }),
    ...(before && { before }),
    ...(label && { [`metadata[${label[0]}]`]: label[1] }),
    ...(pinned && { pinned }),
    ...(starred && { starred }),
    ...(workflow && { workflow_id: workflow }),
  };
}

type FiltersProps = {
  filter: Filter;
  /** The names and values of labels that can be chosen. */
  labels: [string, string][];
  /** The ids and names of workflows that can be chosen. */
  workflows: [string, string][];
  /** What is chosen at first. */
  base: Filter;
  onChange: (filter: Filter) => void;
};

export function Filters({ filter, labels, workflows, base, onChange }: FiltersProps) {
  const [typed, setTyped] = useState(filter.search);
  const [isDated, setDated] = useState(Boolean(filter.first || filter.last));
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const pending = useRef<Partial<Filter>>({}); // typed, and not used yet
  const latest = useRef(filter);
  latest.current = filter;
  const id = useId();
  const change = (changed: Partial<Filter>) => {
    clearTimeout(timer.current);
    const next = { ...latest.current, ...pending.current, ...changed };
    pending.current = {};
    onChange(next);
  };
  const later = (changed: Partial<Filter>) => {
    clearTimeout(timer.current);
    pending.current = { ...pending.current, ...changed };
    timer.current = setTimeout(() => change({}), WAIT);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  useEffect(() => {
    // a space at the end is no part of the search, but more may be typed behind it
    setTyped((text) =>
      text.trim() === (pending.current.search ?? filter.search) ? text : filter.search,
    );
  }, [filter.search]);
  const problem = problemOf(filter);
  const choice = (
    name: string,
    value: string,
    options: [string, string][],
    choose: (value: string) => void,
  ) => (
    <select aria-label={name} value={value} onChange={(e) => choose(e.currentTarget.value)}>
      {options.map(([each, text]) => (
        <option key={each} value={each}>
          {text}
        </option>
      ))}
    </select>
  );
  const date = (name: "first" | "last", text: string) => (
    <label>
      <span>{text}</span>
      <input
        type="date"
        value={pending.current[name] ?? filter[name]}
        aria-invalid={problem ? true : undefined}
        aria-describedby={id}
        // A date that is typed is one after each digit of its year.
        onInput={({ currentTarget: { value, validity } }) => {
          if (!validity.badInput) later({ [name]: value });
        }}
      />
    </label>
  );
  return (
    <search class="cd-line cd-filters">
      <span class="cd-grow">
        <input
          type="search"
          placeholder="Search"
          aria-label="Search inputs, seeds, labels, errors and file names"
          title="Words, a value such as f06fa0, or a name and a value such as seed 11"
          value={typed}
          onInput={({ currentTarget: { value } }) => {
            setTyped(value);
            later({ search: value.trim() });
          }}
        />
      </span>
      {workflows.length > 0 &&
        choice("Workflow", filter.workflow, [["", "Any workflow"], ...workflows], (workflow) =>
          change({ workflow }),
        )}
      {choice("Status", filter.status, STATUSES, (status) => change({ status }))}
      {choice("Time", isDated ? "dates" : String(filter.days), DAYS, (value) => {
        setDated(value === "dates");
        change({ days: value === "dates" ? 0 : Number(value), first: "", last: "" });
      })}
      {isDated && (
        <fieldset class="cd-line cd-dates" aria-label="Dates">
          {date("first", "From")}
          {date("last", "to")}
          <span id={id} class="cd-failed" role="alert">
            {problem}
          </span>
        </fieldset>
      )}
      {(labels.length > 0 || filter.label) &&
        choice(
          "Label",
          filter.label ? JSON.stringify(filter.label) : "",
          [
            ["", "Any label"],
            ...labels.map((each): [string, string] => [JSON.stringify(each), each.join(": ")]),
          ],
          (value) => change({ label: value ? JSON.parse(value) : null }),
        )}
      <IconButton
        icon="star"
        label="Only runs with a star"
        pressed={filter.starred}
        onClick={() => change({ starred: !filter.starred })}
      />
      <IconButton
        icon="thumb-tack"
        label="Only pinned runs"
        pressed={filter.pinned}
        onClick={() => change({ pinned: !filter.pinned })}
      />
      {(isFiltered(filter, base) || isDated) && (
        <IconButton
          icon="times"
          label="Show all runs again"
          onClick={() => {
            setDated(false);
            setTyped("");
            change(base);
          }}
        />
      )}
    </search>
  );
}

/** Return what is wrong with two dates, either of which may be empty; empty for nothing. */
function problemOf({ first, last }: Filter): string {
  if ([first, last].some((date) => date && !/^[1-9]\d{3}-/.test(date))) {
    return "A year has four digits";
  }
  return first && last && first > last ? "The first date is after the second" : "";
}

/** Return when a day, or one some days later, begins for the browser; empty for no day. */
function startOfDay(date: string, later = 0): string {
  if (!date) return "";
  const time = new Date(`${date}T00:00`);
  time.setDate(time.getDate() + later);
  return time.toISOString();
}
