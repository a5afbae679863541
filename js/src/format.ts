/** Formats numbers and sizes for display, and parses JSON. */

/** Return the displayed text for a duration in seconds. */
export function formatDuration(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Return the displayed text for a number of bytes. */
export function formatBytes(size: number): string {
  let value = size;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (value < 1024)
      return unit === "B" ? `${Math.round(value)} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} GiB`;
}

/** Return the words of a search, in lower case. */
export function searchWords(search: string): string[] {
  return search.toLowerCase().split(/\s+/).filter(Boolean);
}

/** Return whether a text contains all words, in any order; case does not matter. */
export function containsWords(text: string, words: string[]): boolean {
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}

/** Return the object that a text contains as JSON, or null if it contains none. */
export function parseJson<Type extends object>(text: string | null | undefined): Type | null {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return null;
  }
}

/** Return the message of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Return a number with its noun, such as "1 run". */
export function counted(count: number, noun: string): string {
  return `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;
}
