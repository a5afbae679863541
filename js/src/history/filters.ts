/** The controls that choose which runs are shown. */

import { h, iconButton, setAttribute } from "../dom.ts";
import type { Filter } from "./run.ts";

const WAIT = 300; // ms after a key until the text is searched

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
  private readonly dates = h(
    "span",
    { className: "cd-line cd-dates", role: "group", "aria-label": "Dates", hidden: true },
    h("label", {}, h("span", {}, "From"), this.first),
    h("label", {}, h("span", {}, "to"), this.last),
  );
  private readonly label = h("select", { "aria-label": "Label" });
  private readonly pinned = iconButton("thumb-tack", "Only pinned runs", () => this.togglePinned());
  private readonly reset = iconButton("times", "Show all runs again", () => this.clear());
  private readonly labelOf = new Map<string, string[]>();
  private timer = 0;
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
    for (const each of [this.status, this.days, this.first, this.last, this.label]) {
      each.onchange = () => this.notify();
    }
    this.search.oninput = () => {
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => this.notify(), WAIT);
    };
    this.pinned.setAttribute("aria-pressed", "false");
    this.showLabels([]);
    this.show({});
  }

  /** Show a filter. */
  show(filter: Filter): void {
    if (document.activeElement !== this.search) this.search.value = filter.search ?? "";
    this.status.value = filter.status ?? "";
    const { after, before, days = 0 } = filter;
    if (after || before) this.days.value = "dates";
    else if (days || this.days.value !== "dates") this.days.value = String(days);
    this.first.value = after ? localDate(new Date(after)) : "";
    this.last.value = before ? localDate(new Date(Date.parse(before) - 1)) : "";
    this.showDates();
    this.label.value = filter.label?.join(": ") ?? "";
    this.pinned.setAttribute("aria-pressed", String(filter.pinned ?? false));
    this.reset.hidden = !isFiltered(filter);
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
    this.search.value = "";
    this.days.value = "0";
    this.show({});
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

  /** Show the fields of the dates if they are used; neither can be beyond the other. */
  private showDates(): void {
    this.dates.hidden = this.days.value !== "dates";
    this.first.max = this.last.value;
    this.last.min = this.first.value;
  }

  private notify(): void {
    clearTimeout(this.timer);
    this.showDates();
    const isDated = this.days.value === "dates";
    this.change({
      search: this.search.value.trim(),
      status: this.status.value,
      days: isDated ? 0 : Number(this.days.value),
      ...(isDated && {
        after: startOfDay(this.first.value),
        before: startOfDay(this.last.value, 1),
      }),
      label: this.labelOf.get(this.label.value) ?? [],
      pinned: this.pinned.getAttribute("aria-pressed") === "true",
    });
  }
}

/** Return whether a filter has any condition. */
export function isFiltered(filter: Filter): boolean {
  const { search, status, days, after, before, label, pinned } = filter;
  return Boolean(search || status || days || after || before || label?.length || pinned);
}

function dateInput(): HTMLInputElement {
  return h("input", { type: "date" });
}

/** Return a day in the time zone of the browser as a date input has it: 2030-01-31. */
function localDate(time: Date): string {
  const parts = [time.getFullYear(), time.getMonth() + 1, time.getDate()];
  return parts.map((part) => String(part).padStart(2, "0")).join("-");
}

/** Return when a day, or one some days later, begins for the browser; empty for no day. */
function startOfDay(date: string, later = 0): string {
  const [year = 0, month = 0, day = 0] = date.split("-").map(Number);
  return date && new Date(year, month - 1, day + later).toISOString();
}

function select(name: string, options: readonly (readonly [string | number, string])[]) {
  return h(
    "select",
    { "aria-label": name },
    options.map(([value, text]) => h("option", { value: String(value) }, text)),
  );
}
