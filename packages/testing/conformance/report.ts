// report.ts: errors against their bounds, as lines of text.
import type { TypedArray } from "@mc/tensor";

/** One comparison. */
export interface Check {
  /** The fixture's tensor, or what else was compared. */
  readonly name: string;
  /** Relative error, or a number of differences. */
  readonly error: number;
  /** Largest allowed error; undefined where the error is printed for information. */
  readonly bound: number | undefined;
}

/** A computed tensor, ready to be written. */
export interface Computed {
  readonly shape: readonly number[];
  readonly data: TypedArray;
}

/** What running one folder gives. */
export interface Outcome {
  readonly checks: readonly Check[];
  /** Computed tensors by the fixture's names. */
  readonly tensors: Readonly<Record<string, Computed>>;
  /** Numbers that the fixture keeps outside of its tensors, such as losses. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Whether the error is within its bound; NaN never is. */
export const passes = ({ error, bound }: Check): boolean => bound === undefined || error <= bound;

/** The checks as a table, one line each. */
export function formatChecks(checks: readonly Check[]): string {
  const width = Math.max(...checks.map((c) => c.name.length));
  return checks
    .map((c) => {
      const bound =
        c.bound === undefined
          ? "(for information)"
          : `<= ${c.bound.toExponential(0).padEnd(6)} ${passes(c) ? "ok" : "FAILED"}`;
      return `  ${c.name.padEnd(width)}  ${c.error.toExponential(2).padStart(9)}  ${bound}`;
    })
    .join("\n");
}
