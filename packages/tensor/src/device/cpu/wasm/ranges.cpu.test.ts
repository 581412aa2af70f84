import { expect, test } from "vitest";
import { type KeyRangeOptions, keyRanges } from "./ranges.ts";

const ids = (...values: number[]) => Int32Array.from(values);
const both = (...values: number[]) => ({ query: ids(...values), key: ids(...values) });
const of = (options: Partial<KeyRangeOptions> & { queries: number }) => [
  ...keyRanges({ keys: options.queries, causal: true, ...options }),
];

test("a causal mask ends the range of four queries at the last of them", () => {
  expect(of({ queries: 9 })).toEqual([0, 4, 0, 8, 0, 12]);
  expect(of({ queries: 9, causal: false })).toEqual([0, 12, 0, 12, 0, 12]);
});

test("a window begins it where the first of them looks back to", () => {
  expect(of({ queries: 16, window: 2 })).toEqual([0, 4, 0, 8, 4, 12, 8, 16]);
  expect(of({ queries: 4, keys: 20, window: 3 })).toEqual([12, 20]);
});

test("documents one after the other have the ranges of their own", () => {
  expect(of({ queries: 12, documents: both(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2) })).toEqual([0, 4, 4, 8, 8, 12]);
  expect(of({ queries: 12, documents: both(0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2) })).toEqual([0, 4, 0, 8, 4, 12]);
});

test("documents that are mixed have ranges that cover them and never fall", () => {
  expect(of({ queries: 12, documents: both(0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0) })).toEqual([0, 4, 0, 8, 0, 12]);
});

test("queries that see nothing need no keys", () => {
  const documents = { query: ids(-1, -1, -1, -1, 5, 5, 5, 5, -1, -1, -1, -1), key: new Int32Array(12).fill(-2) };
  expect(of({ queries: 12, documents })).toEqual([0, 0, 0, 0, 0, 0]);
  expect(of({ queries: 8, keys: 4 })).toEqual([0, 0, 0, 4]);
});
