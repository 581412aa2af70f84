// cursor.ts: a place in data that can be saved as JSON, and how a saved one is checked.
import { ValueError } from "@mc/tensor";
import type { RandomState } from "./random.ts";

/** What a cursor may hold. */
export type CursorValue = string | number | boolean | null | readonly CursorValue[] | Cursor;

/**
 * A place in a run through data: a plain object for `JSON.stringify`. Reading that resumes at it gives exactly what would have come.
 *
 * Only the function that made it knows what is inside.
 */
export interface Cursor {
  readonly [name: string]: CursorValue;
}

/** The integer from 0 to `max` called `name` in a cursor. */
export function cursorCount(op: string, cursor: Cursor, name: string, max = Number.MAX_SAFE_INTEGER): number {
  const value = cursor[name];
  if (Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max) return value as number;
  throw foreign(op, name, `an integer from 0 to ${max}`, value);
}

/** The cursor called `name` in a cursor: that of what lies below. */
export function cursorWithin(op: string, cursor: Cursor, name: string): Cursor {
  const value = cursor[name];
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Cursor;
  throw foreign(op, name, "an object", value);
}

/** The random state called `name` in a cursor; `hostRandom` checks its numbers. */
export function cursorRandom(op: string, cursor: Cursor, name: string): RandomState {
  const value = cursor[name];
  if (Array.isArray(value) && value.length === 4) return value as unknown as RandomState;
  throw foreign(op, name, "four integers", value);
}

/** Checks that what resumes is what was saved: every setting must be as the cursor has it. */
export function checkSettings(op: string, cursor: Cursor, settings: Readonly<Record<string, string | number>>): void {
  for (const [name, value] of Object.entries(settings)) {
    if (cursor[name] === undefined) throw foreign(op, name, JSON.stringify(value), undefined);
    if (cursor[name] !== value) {
      throw new ValueError(
        `${op}: a cursor resumes what it was taken from, with ${name} ${JSON.stringify(cursor[name])}, got ${JSON.stringify(value)}`,
      );
    }
  }
}

function foreign(op: string, name: string, wanted: string, got: CursorValue | undefined): ValueError {
  return new ValueError(
    `${op}: the cursor must be one that ${op} gave, whose "${name}" is ${wanted}, got ${JSON.stringify(got)}`,
  );
}
