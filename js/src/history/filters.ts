/** The controls that choose which runs are shown. */

import { h, iconButton, newId, setAttribute, setText } from "../dom.ts";
import type { Filter } from "./run.ts";

const WAIT = 300; // ms after a key until the typed text or date is used

const STATUSES = [
  ["", "Any status"],
  ["success", "Success"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
] as const;

const DAYS = [
  [0, "Any time"],
  [1, "Last 24 hours"],
  [7, "Last 7 days"],
  [30, "Last 30 days"],
  ["dates", "From … to …"],
] as const;

export class Filters {
  private readonly search = h("input", {
    type: "search",
    placeholder: "Search",
    "aria-label": "Search inputs, seeds, labels, errors and file names",
  });
  private readonly status = select("Status", STATUSES);
  private readonly days = select("Time", DAYS);
  private readonly first = dateInput();
  private readonly last = dateInput();
  private readonly problem = h("span", { id: newId(), className: "cd-failed", role: "alert" });
  private readonly dates = h(
    "span",
    { className: "cd-line cd-dates", role: "group", "aria-label": "Dates", hidden: true },
    h("label", {}, h("span", {}, "From"), this.first),
    h("label", {}, h("span", {}, "to"), this.last),
    this.problem,
  );
  private readonly label = h("select", { "aria-label": "Label" });
  private readonly pinned = iconButton("thumb-tack", "Only pinned runs", () => this.togglePinned());
  private readonly reset = iconButton("times", "Show all runs again", () => this.clear());
  private readonly labelOf = new Map<string, string[]>();
  private timer = 0;
  private filter: Filter = {};
  readonly root = h(
    "div",
    { className: "cd-line cd-filters", role: "search" },
    h("span", { className: "cd-grow" }, this.search),
    this.status,
    this.days,
    this.dates,
    this.label,
    this.pinned,
    this.reset,
  );

  constructor(private readonly change: (filter: Filter) => void) {
    for (const each of [this.status, this.days, this.label]) {
      each.onchange = () => this.notify();
    }
    // A date that is typed is one after each digit of its year.
    for (const each of [this.search, this.first, this.last]) {
      each.oninput = () => {
        clearTimeout(this.timer);
        this.timer = window.setTimeout(() => this.notify(), WAIT);
      };
    }
    for (const each of [this.first, this.last]) {
      each.setAttribute("aria-describedby", this.problem.id);
    }
    this.pinned.setAttribute("aria-pressed", "false");
    this.showLabels([]);
    this.showDates();
  }

  /** Whether the user is choosing conditions. */
  get isInUse(): boolean {
    return !this.dates.hidden || this.root.contains(document.activeElement);
  }

  /** Show a filter, unless it is the one that was chosen here. */
  show(filter: Filter): void {
    if (conditionsOf(filter) === conditionsOf(this.filter)) return;
    this.filter = filter;
    setValue(this.search, filter.search ?? "");
    this.status.value = filter.status ?? "";
    const { after, before, days = 0 } = filter;
    this.days.value = after || before ? "dates" : String(days);
    setValue(this.first, after ? localDate(new Date(after)) : "");
    setValue(this.last, before ? localDate(new Date(Date.parse(before) - 1)) : "");
    this.label.value = filter.label?.join(": ") ?? "";
    this.pinned.setAttribute("aria-pressed", String(filter.pinned ?? false));
    this.showDates();
  }

  /** Set the list of labels, each with its name and value. */
  showLabels(labels: string[][]): void {
    const { value } = this.label;
    this.labelOf.clear();
    for (const label of labels) this.labelOf.set(label.join(": "), label);
    this.label.replaceChildren(
      h("option", { value: "" }, "Any label"),
      ...[...this.labelOf.keys()].map((text) => h("option", { value: text }, text)),
    );
    this.label.value = this.labelOf.has(value) ? value : "";
    setAttribute(this.label, "hidden", labels.length ? null : "");
  }

  /** Remove all conditions. */
  clear(): void {
    for (const each of [this.search, this.status, this.first, this.last, this.label]) {
      each.value = "";
    }
    this.days.value = "0";
    this.pinned.setAttribute("aria-pressed", "false");
    this.notify();
  }

  end(): void {
    clearTimeout(this.timer);
  }

  private togglePinned(): void {
    const isOn = this.pinned.getAttribute("aria-pressed") === "true";
    this.pinned.setAttribute("aria-pressed", String(!isOn));
    this.notify();
  }

  /** Show the fields of the dates if they are used, what is wrong with them, and the reset. */
  private showDates(): void {
    this.dates.hidden = this.days.value !== "dates";
    const problem = problemOf(this.first.value, this.last.value);
    setText(this.problem, problem);
    this.problem.hidden = !problem;
    for (const each of [this.first, this.last]) {
      setAttribute(each, "aria-invalid", problem ? "true" : null);
    }
    this.reset.hidden = this.dates.hidden && !isFiltered(this.filter);
  }

  /** Return the times of the dates; those before if the dates cannot be used yet. */
  private times(): Pick<Filter, "after" | "before"> {
    const { first, last, filter } = this;
    const isUnfinished = first.validity.badInput || last.validity.badInput;
    if (isUnfinished || problemOf(first.value, last.value)) {
      return { after: filter.after ?? "", before: filter.before ?? "" };
    }
    return { after: startOfDay(first.value), before: startOfDay(last.value, 1) };
  }

  private notify(): void {
    clearTimeout(this.timer);
    const isDated = this.days.value === "dates";
    const filter: Filter = {
      search: this.search.value.trim(),
      status: this.status.value,
      days: isDated ? 0 : Number(this.days.value),
      ...(isDated && this.times()),
      label: this.labelOf.get(this.label.value) ?? [],
      pinned: this.pinned.getAttribute("aria-pressed") === "true",
    };
    const isSame = conditionsOf(filter) === conditionsOf(this.filter);
    this.filter = filter;
    this.showDates();
    if (!isSame) this.change(filter);
  }
}

/** Return a text that is the same for filters with the same conditions. */
function conditionsOf({ search, status, days, after, before, label, pinned }: Filter): string {
  const texts = [search, status, after, before].map((text) => text ?? "");
  return JSON.stringify([texts, days ?? 0, label ?? [], pinned ?? false]);
}

/** Return whether a filter has any condition. */
export function isFiltered(filter: Filter): boolean {
  const { search, status, days, after, before, label, pinned } = filter;
  return Boolean(search || status || days || after || before || label?.length || pinned);
}

function dateInput(): HTMLInputElement {
  return h("input", { type: "date" });
}

/** Set the value of a field, unless the user types in it. */
function setValue(input: HTMLInputElement, value: string): void {
  if (document.activeElement !== input) input.value = value;
}

/** Return what is wrong with two dates, either of which may be empty; empty for nothing. */
function problemOf(first: string, last: string): string {
  if ([first, last].some((date) => date && !/^[1-9]\d{3}-/.test(date))) {
    return "A year has four digits";
  }
  return first && last && first > last ? "The first date is after the second" : "";
}

/** Return a day in the time zone of the browser as a date input has it: 2030-01-31. */
function localDate(time: Date): string {
  const parts = [time.getFullYear(), time.getMonth() + 1, time.getDate()];
  return parts.map((part, place) => String(part).padStart(place ? 2 : 4, "0")).join("-");
}

/** Return when a day, or one some days later, begins for the browser; empty for no day. */
function startOfDay(date: string, later = 0): string {
  if (!date) return "";
  const time = new Date(`${date}T00:00`);
  time.setDate(time.getDate() + later);
  return time.toISOString();
}

function select(name: string, options: readonly (readonly [string | number, string])[]) {
  return h(
    "select",
    { "aria-label": name },
    options.map(([value, text]) => h("option", { value: String(value) }, text)),
  );
}
