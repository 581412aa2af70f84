// ops/indexing.ts: reading and adding at positions given by data.

import type { Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import { anyNumber, distinct, indicesInto, smallIntegers } from "../domains.ts";
import { build, type HostArray, hostArray, range } from "../hostArray.ts";
import type { OpTable } from "./table.ts";

const exact = { rtol: 0, atol: 0 };
/** Positions of the k largest of a row, the lower index first among equals. */
const order = (row: readonly number[], k: number): number[] =>
  range(row.length)
    .sort((a, b) => row[b]! - row[a]! || a - b)
    .slice(0, k);
const rowOf = (x: HostArray, i: number): number[] => range(x.shape[1]!).map((j) => x.at(i, j));

/** Every op that is addressed by data. */
export const indexingOps: OpTable = {
  take: {
    "take(table, indices) looks up rows": {
      op: (table: Tensor, i: Tensor) => t.take(table, i),
      inputs: [anyNumber, indicesInto(7)],
      shapes: (n) => [
        [7, 3],
        [n, 2],
      ],
      reference: (table, index) => build([index.shape[0]!, 2, 3], (i, j, k) => table.at(index.at(i, j), k)),
      tolerance: exact,
      gradient: 2,
    },
    "take(vector, indices) looks up numbers": {
      op: (table: Tensor, i: Tensor) => t.take(table, i),
      inputs: [anyNumber, indicesInto(9)],
      shapes: (n) => [[9], [n]],
      reference: (table, index) => build([index.shape[0]!], (i) => table.at(index.at(i))),
      tolerance: exact,
      gradient: 1,
    },
    "take(table, indices, 1) looks up columns": {
      op: (table: Tensor, i: Tensor) => t.take(table, i, 1),
      inputs: [smallIntegers, indicesInto(5)],
      shapes: (n) => [[n, 5], [4]],
      reference: (table, index) => build([table.shape[0]!, 4], (i, j) => table.at(i, index.at(j))),
    },
    "take(table, indices) gives NaN outside of the table": {
      op: (table: Tensor, i: Tensor) => t.take(table, i),
      inputs: [anyNumber, smallIntegers],
      shapes: (n) => [[3, 2], [n]],
      reference: (table, index) =>
        build([index.shape[0]!, 2], (i, k) =>
          index.at(i) >= 0 && index.at(i) < 3 ? table.at(index.at(i), k) : Number.NaN,
        ),
      tolerance: exact,
    },
    "take(x, indices) of an expression computes only what is read": {
      op: (x: Tensor, i: Tensor) => t.take(t.exp(x), i),
      inputs: [anyNumber, indicesInto(6)],
      shapes: (n) => [[6, 3], [n]],
      reference: (x, index) => build([index.shape[0]!, 3], (i, k) => Math.exp(x.at(index.at(i), k))),
      gradient: 1,
    },
  },
  takeAlongAxis: {
    "takeAlongAxis(x, indices, 1) picks within each row": {
      op: (x: Tensor, i: Tensor) => t.takeAlongAxis(x, i, 1),
      inputs: [anyNumber, indicesInto(5)],
      shapes: (n) => [
        [n, 5],
        [n, 2],
      ],
      reference: (x, index) => build(index.shape, (i, j) => x.at(i, index.at(i, j))),
      tolerance: exact,
      gradient: 2,
    },
    "takeAlongAxis(x, indices, 0) of i32 with one row of indices": {
      op: (x: Tensor, i: Tensor) => t.takeAlongAxis(x, i, 0),
      inputs: [smallIntegers, indicesInto(4)],
      shapes: (n) => [
        [4, n],
        [3, 1],
      ],
      reference: (x, index) => build([3, x.shape[1]!], (i, j) => x.at(index.at(i, 0), j)),
    },
  },
  scatterAdd: {
    "scatterAdd(indices, x, 0, size) adds rows where they belong": {
      op: (i: Tensor, x: Tensor) => t.scatterAdd(i, x, 0, 7),
      inputs: [indicesInto(7), anyNumber],
      shapes: (n) => [
        [n, 1],
        [n, 3],
      ],
      reference: (index, x) => {
        const out = range(7).map(() => [0, 0, 0]);
        for (let i = 0; i < x.shape[0]!; i++) for (let j = 0; j < 3; j++) out[index.at(i, 0)]![j]! += x.at(i, j);
        return hostArray([7, 3], out.flat());
      },
      referenceTolerance: { rtol: 1e-10, atol: 1e-10 },
      tolerance: { rtol: 1e-4, atol: 1e-4 },
      gradient: 2,
    },
    "scatterAdd(indices, x, 0, size) of a vector": {
      op: (i: Tensor, x: Tensor) => t.scatterAdd(i, x, 0, 5),
      inputs: [indicesInto(5), anyNumber],
      shapes: (n) => [[n], [n]],
      reference: (index, x) => {
        const out = new Float64Array(5);
        for (let i = 0; i < x.shape[0]!; i++) out[index.at(i)]! += x.at(i);
        return hostArray([5], out);
      },
      referenceTolerance: { rtol: 1e-10, atol: 1e-10 },
      tolerance: { rtol: 1e-4, atol: 1e-4 },
    },
    "scatterAdd(indices, x, 1, size) of a cube with one index a row": {
      op: (i: Tensor, x: Tensor) => t.scatterAdd(i, x, 1, 3),
      inputs: [indicesInto(3), anyNumber],
      shapes: (n) => [
        [n, 1, 1],
        [n, 2, 4],
      ],
      reference: (index, x) =>
        build([x.shape[0]!, 3, 4], (i, v, k) => (index.at(i, 0, 0) === v ? x.at(i, 0, k) + x.at(i, 1, k) : 0)),
    },
    "scatterAdd(indices, x, 1, size) of i32 drops what lies outside": {
      op: (i: Tensor, x: Tensor) => t.scatterAdd(i, x, 1, 4),
      inputs: [smallIntegers, smallIntegers],
      reference: (index, x) =>
        build([x.shape[0]!, 4], (i, v) => range(3).reduce((s, j) => s + (index.at(i, j) === v ? x.at(i, j) : 0), 0)),
    },
  },
  oneHot: {
    "oneHot(indices, depth) has a one at each index": {
      op: (i: Tensor) => t.oneHot(i, 4),
      inputs: [smallIntegers],
      shapes: (n) => [[n]],
      reference: (index) => build([index.shape[0]!, 4], (i, v) => (index.at(i) === v ? 1 : 0)),
    },
  },
  topK: {
    "topK(x, 2) gives the largest first": {
      op: (x: Tensor) => {
        const { values, indices } = t.topK(x, 2);
        return [values, indices];
      },
      inputs: [distinct()],
      shapes: (n) => [[n, 6]],
      sizes: [1, 63, 64, 65, 600],
      reference: (x) => [
        build([x.shape[0]!, 2], (i, k) => rowOf(x, i)[order(rowOf(x, i), 2)[k]!]!),
        build([x.shape[0]!, 2], (i, k) => order(rowOf(x, i), 2)[k]!),
      ],
      tolerance: exact,
      gradient: 1,
    },
    "topK(x, 1) of a vector": {
      op: (x: Tensor) => t.topK(x, 1).values,
      inputs: [distinct()],
      shapes: (n) => [[n]],
      sizes: [1, 63, 64, 65, 300],
      reference: (x) => hostArray([1], [Math.max(...Array.from(x.data))]),
      tolerance: exact,
    },
    "topK(x, 3) takes NaN for +infinity, and of equal elements the first": {
      op: (i: Tensor) => {
        const x = t.where(t.equal(i, 5), Number.POSITIVE_INFINITY, t.cast(i, "f32"));
        return t.topK(t.where(t.equal(i, -5), Number.NaN, t.where(t.equal(i, -4), Number.NEGATIVE_INFINITY, x)), 3)
          .indices;
      },
      inputs: [smallIntegers],
      shapes: (n) => [[n, 2, 40]],
      sizes: [1, 65],
      reference: (x) => {
        const value = (v: number): number => (Math.abs(v) === 5 ? Infinity : v === -4 ? -Infinity : v);
        return build(
          [x.shape[0]!, 2, 3],
          (i, j, k) =>
            order(
              range(40).map((l) => value(x.at(i, j, l))),
              3,
            )[k]!,
        );
      },
    },
    "topK(x, 70) of longer rows": {
      op: (x: Tensor) => t.topK(x, 70).indices,
      inputs: [distinct()],
      shapes: (n) => [[n, 90]],
      sizes: [1, 7],
      reference: (x) => {
        const sorted = range(x.shape[0]!).map((i) => order(rowOf(x, i), 70));
        return build([x.shape[0]!, 70], (i, k) => sorted[i]![k]!);
      },
      gradient: 0,
    },
    "topK(x, n) sorts a row, the lower index first among equals": {
      op: (i: Tensor) => t.topK(t.cast(i, "f32"), i.shape[1]!).indices,
      inputs: [smallIntegers],
      shapes: (n) => [[2, n]],
      sizes: [1, 63, 64, 65, 300],
      reference: (x) => {
        const sorted = [0, 1].map((i) => order(rowOf(x, i), x.shape[1]!));
        return build(x.shape, (i, k) => sorted[i]![k]!);
      },
    },
  },
};
