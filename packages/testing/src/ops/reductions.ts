// ops/reductions.ts: sums, extrema and what is built on them, in every regime of size: one row or many, short rows or long.

import type { Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import { anyNumber, bool, distinct, smallIntegers, words } from "../domains.ts";
import { build, type HostArray, range } from "../hostArray.ts";
import type { OpTable } from "./table.ts";

/** f over the last axis of [n, m]. */
const overRows = (f: (row: number[]) => number) => (x: HostArray) =>
  build([x.shape[0]!], (i) => f(range(x.shape[1]!).map((j) => x.at(i, j))));
/** f over the first axis of [n, m]. */
const overColumns = (f: (column: number[]) => number) => (x: HostArray) =>
  build([x.shape[1]!], (j) => f(range(x.shape[0]!).map((i) => x.at(i, j))));
const overAll = (f: (all: number[]) => number) => (x: HostArray) => build([], () => f(Array.from(x.data)));

const sumOf = (v: readonly number[]): number => v.reduce((a, b) => a + b, 0);
const meanOf = (v: readonly number[]): number => sumOf(v) / v.length;
const maxOf = (v: readonly number[]): number => v.reduce((a, b) => Math.max(a, b));
const minOf = (v: readonly number[]): number => v.reduce((a, b) => Math.min(a, b));
const firstOf = (v: readonly number[], best: number): number => v.indexOf(best);
const logsumexpOf = (v: readonly number[]): number => {
  const top = maxOf(v);
  return top + Math.log(sumOf(v.map((a) => Math.exp(a - top))));
};

/** Few long rows: one workgroup a row, or a split row. */
const longRows = (n: number) => [[3, n]];
/** f64 sums in another order differ in the last digits. */
const summed = { rtol: 1e-10, atol: 1e-10 };
const f32Sum = { rtol: 1e-4, atol: 1e-4 };
const long = [1, 63, 64, 65, 9000];

/** Rows with a normalised form of every element. */
const rowwise = (f: (row: number[]) => number[]) => (x: HostArray) => {
  const rows = range(x.shape[0]!).map((i) => f(range(x.shape[1]!).map((j) => x.at(i, j))));
  return build(x.shape, (i, j) => rows[i]![j]!);
};
const logSoftmaxOf = (v: readonly number[]): number[] => {
  const total = logsumexpOf(v);
  return v.map((a) => a - total);
};

/** Every reduction, softmax included. */
export const reductionOps: OpTable = {
  sum: {
    "sum(x, { axis: -1 }) of many short rows": {
      op: (x: Tensor) => t.sum(x, { axis: -1 }),
      inputs: [anyNumber],
      reference: overRows(sumOf),
      referenceTolerance: summed,
      gradient: 2,
    },
    "sum(x, { axis: 1 }) of few long rows": {
      op: (x: Tensor) => t.sum(x, { axis: 1 }),
      inputs: [anyNumber],
      shapes: longRows,
      sizes: long,
      reference: overRows(sumOf),
      referenceTolerance: summed,
      tolerance: f32Sum,
    },
    "sum(x, { axis: 0 }) of long columns": {
      op: (x: Tensor) => t.sum(x, { axis: 0 }),
      inputs: [anyNumber],
      sizes: long,
      reference: overColumns(sumOf),
      referenceTolerance: summed,
      tolerance: f32Sum,
    },
    "sum(x) of everything": {
      op: (x: Tensor) => t.sum(x),
      inputs: [anyNumber],
      sizes: [1, 63, 64, 65, 30000],
      reference: overAll(sumOf),
      referenceTolerance: summed,
      tolerance: { rtol: 1e-4, atol: 1e-3 },
    },
    "sum(x, { axis: [0, 2], keepDims: true })": {
      op: (x: Tensor) => t.sum(x, { axis: [0, 2], keepDims: true }),
      inputs: [anyNumber],
      shapes: (n) => [[n, 2, 3]],
      reference: (x) =>
        build([1, 2, 1], (_, j) => sumOf(range(x.shape[0]!).flatMap((i) => range(3).map((k) => x.at(i, j, k))))),
      referenceTolerance: summed,
      tolerance: f32Sum,
    },
    "sum(x) of u32 wraps at 2^32": {
      op: (x: Tensor) => t.sum(x),
      inputs: [words],
      reference: overAll((v) => v.reduce((a, b) => (a + b) >>> 0, 0)),
    },
    "sum(x, { axis: 0 }) of i32": {
      op: (x: Tensor) => t.sum(x, { axis: 0 }),
      inputs: [smallIntegers],
      reference: overColumns(sumOf),
    },
  },
  mean: {
    "mean(x, { axis: -1 })": {
      op: (x: Tensor) => t.mean(x, { axis: -1 }),
      inputs: [anyNumber],
      shapes: longRows,
      reference: overRows(meanOf),
      referenceTolerance: summed,
      gradient: 2,
    },
    "mean(x) of everything": {
      op: (x: Tensor) => t.mean(x),
      inputs: [anyNumber],
      reference: overAll(meanOf),
      referenceTolerance: summed,
    },
  },
  max: {
    "max(x, { axis: -1 })": {
      op: (x: Tensor) => t.max(x, { axis: -1 }),
      inputs: [distinct()],
      reference: overRows(maxOf),
    },
    "max(x, { axis: 1 }) of few long rows": {
      op: (x: Tensor) => t.max(x, { axis: 1 }),
      inputs: [distinct()],
      shapes: longRows,
      reference: overRows(maxOf),
    },
    "max(x, { axis: 0, keepDims: true })": {
      op: (x: Tensor) => t.max(x, { axis: 0, keepDims: true }),
      inputs: [distinct()],
      reference: (x) => build([1, 3], (_, j) => maxOf(range(x.shape[0]!).map((i) => x.at(i, j)))),
    },
    "max(x) of everything, u32": { op: (x: Tensor) => t.max(x), inputs: [words], reference: overAll(maxOf) },
  },
  min: {
    "min(x, { axis: -1 })": {
      op: (x: Tensor) => t.min(x, { axis: -1 }),
      inputs: [distinct()],
      reference: overRows(minOf),
    },
    "min(x) of everything": { op: (x: Tensor) => t.min(x), inputs: [distinct()], reference: overAll(minOf) },
    "min(x, { axis: 0 }) of i32": {
      op: (x: Tensor) => t.min(x, { axis: 0 }),
      inputs: [smallIntegers],
      reference: overColumns(minOf),
    },
  },
  argmax: {
    "argmax(x, { axis: 1 }) is the first of equals": {
      op: (x: Tensor) => t.argmax(x, { axis: 1 }),
      inputs: [smallIntegers],
      shapes: longRows,
      reference: overRows((v) => firstOf(v, maxOf(v))),
    },
    "argmax(x, { axis: 0 }) of f32": {
      op: (x: Tensor) => t.argmax(x, { axis: 0 }),
      inputs: [distinct()],
      reference: overColumns((v) => firstOf(v, maxOf(v))),
      gradient: 0,
    },
    "argmax(x) of the flattened tensor": {
      op: (x: Tensor) => t.argmax(x),
      inputs: [distinct()],
      reference: overAll((v) => firstOf(v, maxOf(v))),
      gradient: 0,
    },
  },
  logsumexp: {
    "logsumexp(x, { axis: -1 })": {
      op: (x: Tensor) => t.logsumexp(x, { axis: -1 }),
      inputs: [anyNumber],
      shapes: longRows,
      reference: overRows(logsumexpOf),
      referenceTolerance: summed,
      gradient: 2,
    },
    "logsumexp(100 x) does not overflow": {
      op: (x: Tensor) => t.logsumexp(t.mul(x, 100), { axis: -1 }),
      inputs: [anyNumber],
      reference: overRows((v) => logsumexpOf(v.map((a) => 100 * a))),
      referenceTolerance: summed,
    },
    "logsumexp(x) of everything": {
      op: (x: Tensor) => t.logsumexp(x),
      inputs: [anyNumber],
      reference: overAll(logsumexpOf),
      referenceTolerance: summed,
    },
  },
  softmax: {
    "softmax(x) over the last axis": {
      op: (x: Tensor) => t.softmax(x),
      inputs: [anyNumber],
      shapes: longRows,
      reference: rowwise((v) => logSoftmaxOf(v).map(Math.exp)),
      gradient: 2,
    },
    "softmax(100 x) does not overflow": {
      op: (x: Tensor) => t.softmax(t.mul(x, 100)),
      inputs: [anyNumber],
      reference: rowwise((v) => logSoftmaxOf(v.map((a) => 100 * a)).map(Math.exp)),
      tolerance: { rtol: 2e-4 },
      gradient: 0,
    },
  },
  logSoftmax: {
    "logSoftmax(x) over the last axis": {
      op: (x: Tensor) => t.logSoftmax(x),
      inputs: [anyNumber],
      shapes: longRows,
      reference: rowwise(logSoftmaxOf),
      referenceTolerance: summed,
      gradient: 2,
    },
  },
  any: {
    "any(x, { axis: 1 })": {
      op: (x: Tensor) => t.any(x, { axis: 1 }),
      inputs: [bool],
      reference: overRows((v) => (v.some(Boolean) ? 1 : 0)),
    },
  },
  all: {
    "all(x, { axis: 1 })": {
      op: (x: Tensor) => t.all(x, { axis: 1 }),
      inputs: [bool],
      reference: overRows((v) => (v.every(Boolean) ? 1 : 0)),
    },
  },
};
