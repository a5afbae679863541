/** JSON with integers that JavaScript's numbers do not hold exactly, such as seeds. */

const MARK = "\u0001exact:";
const MARKED = /"\\u0001exact:(-?\d+)"/g;

/** An integer that is written with all its digits. */
export class Exact {
  constructor(readonly digits: string) {}

  toJSON(): string {
    return `${MARK}${this.digits}`;
  }

  toString(): string {
    return this.digits;
  }
}

/** Return a whole number as JSON has it: a number, or an `Exact` one. */
export function exact(digits: string): number | Exact {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : new Exact(BigInt(digits).toString());
}

/** Return a value as JSON, on one line without `indent`. */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(MARKED, "$1");
}
