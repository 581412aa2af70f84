// ops/views.ts: views, joining and splitting. Values never change, only where they are, so every comparison is exact.

import type { Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import { anyNumber, bool, smallIntegers } from "../domains.ts";
import { build, hostArray } from "../hostArray.ts";
import type { OpTable } from "./table.ts";

const cube = (n: number) => [[n, 2, 3]];
const exact = { rtol: 0, atol: 0 };

/** Every view, and concat, stack and split. */
export const viewOps: OpTable = {
  reshape: {
    "reshape(x, [3, -1]) keeps the row-major order": {
      op: (x: Tensor) => t.reshape(x, [3, -1]),
      inputs: [anyNumber],
      reference: (x) => hostArray([3, x.shape[0]!], x.data),
      tolerance: exact,
    },
    "reshape(transpose(x), [-1]) reads through the transpose": {
      op: (x: Tensor) => t.reshape(t.transpose(x), [-1]),
      inputs: [anyNumber],
      reference: (x) => build([x.data.length], (i) => x.at(i % x.shape[0]!, Math.floor(i / x.shape[0]!))),
      tolerance: exact,
    },
  },
  transpose: {
    "transpose(x) reverses all axes": {
      op: (x: Tensor) => t.transpose(x),
      inputs: [anyNumber],
      shapes: cube,
      reference: (x) => build([3, 2, x.shape[0]!], (k, j, i) => x.at(i, j, k)),
      tolerance: exact,
    },
    "transpose(x, [1, 2, 0]): axis i of the result is axis perm[i] of x": {
      op: (x: Tensor) => t.transpose(x, [1, 2, 0]),
      inputs: [smallIntegers],
      shapes: cube,
      reference: (x) => build([2, 3, x.shape[0]!], (j, k, i) => x.at(i, j, k)),
    },
  },
  swapAxes: {
    "swapAxes(x, 0, -1)": {
      op: (x: Tensor) => t.swapAxes(x, 0, -1),
      inputs: [anyNumber],
      shapes: cube,
      reference: (x) => build([3, 2, x.shape[0]!], (k, j, i) => x.at(i, j, k)),
      tolerance: exact,
    },
  },
  mT: {
    "mT(x) swaps the last two axes": {
      op: (x: Tensor) => t.mT(x),
      inputs: [anyNumber],
      shapes: cube,
      reference: (x) => build([x.shape[0]!, 3, 2], (i, k, j) => x.at(i, j, k)),
      tolerance: exact,
    },
  },
  broadcastTo: {
    "broadcastTo(x, shape) repeats axes of size one": {
      op: (x: Tensor) => t.broadcastTo(x, [4, x.shape[0]!, 3]),
      inputs: [anyNumber],
      shapes: (n) => [[n, 1]],
      reference: (x) => build([4, x.shape[0]!, 3], (_, i) => x.at(i, 0)),
      tolerance: exact,
      gradient: 2,
    },
  },
  expandDims: {
    "expandDims(x, 1)": {
      op: (x: Tensor) => t.expandDims(x, 1),
      inputs: [anyNumber],
      reference: (x) => hostArray([x.shape[0]!, 1, 3], x.data),
      tolerance: exact,
    },
  },
  squeeze: {
    "squeeze(x, 1) removes that axis": {
      op: (x: Tensor) => t.squeeze(x, 1),
      inputs: [anyNumber],
      shapes: (n) => [[n, 1, 3]],
      reference: (x) => hostArray([x.shape[0]!, 3], x.data),
      tolerance: exact,
    },
  },
  slice: {
    "slice(x, starts, ends) cuts a box": {
      op: (x: Tensor) => t.slice(x, [0, 1, 1], [x.shape[0]!, 2, 3]),
      inputs: [anyNumber],
      shapes: cube,
      reference: (x) => build([x.shape[0]!, 1, 2], (i, j, k) => x.at(i, j + 1, k + 1)),
      tolerance: exact,
    },
    "slice(x, [-1, 0], ends) counts from the back": {
      op: (x: Tensor) => t.slice(x, [-1, 0], [x.shape[0]!, 3]),
      inputs: [anyNumber],
      reference: (x) => build([1, 3], (_, j) => x.at(x.shape[0]! - 1, j)),
      tolerance: exact,
    },
  },
  sliceAxis: {
    "sliceAxis(x, -1, 1, 3)": {
      op: (x: Tensor) => t.sliceAxis(x, -1, 1, 3),
      inputs: [bool],
      reference: (x) => build([x.shape[0]!, 2], (i, j) => x.at(i, j + 1)),
    },
  },
  flip: {
    "flip(x, 0) reverses the rows": {
      op: (x: Tensor) => t.flip(x, 0),
      inputs: [anyNumber],
      reference: (x) => build(x.shape, (i, j) => x.at(x.shape[0]! - 1 - i, j)),
      tolerance: exact,
    },
    "flip(x, [0, 1]) reverses everything": {
      op: (x: Tensor) => t.flip(x, [0, 1]),
      inputs: [smallIntegers],
      reference: (x) => build(x.shape, (i, j) => x.at(x.shape[0]! - 1 - i, 2 - j)),
    },
  },
  pad: {
    "pad(x, widths) adds zeros around": {
      op: (x: Tensor) =>
        t.pad(x, [
          [1, 2],
          [0, 3],
        ]),
      inputs: [anyNumber],
      reference: (x) =>
        build([x.shape[0]! + 3, 6], (i, j) => (i >= 1 && i <= x.shape[0]! && j < 3 ? x.at(i - 1, j) : 0)),
      tolerance: exact,
    },
  },
  concat: {
    "concat([x, y], 1) joins two expressions": {
      op: (x: Tensor, y: Tensor) => t.concat([t.mul(x, 2), t.sub(y, x), y], 1),
      inputs: [anyNumber, anyNumber],
      reference: (x, y) =>
        build([x.shape[0]!, 9], (i, j) =>
          j < 3 ? 2 * x.at(i, j) : j < 6 ? y.at(i, j - 3) - x.at(i, j - 3) : y.at(i, j - 6),
        ),
      gradient: 2,
    },
    "concat([x, x]) may join a tensor with itself": {
      op: (x: Tensor) => t.concat([x, x]),
      inputs: [smallIntegers],
      reference: (x) => build([2 * x.shape[0]!, 3], (i, j) => x.at(i % x.shape[0]!, j)),
    },
    "concat of pieces that are used elsewhere too": {
      op: (x: Tensor, y: Tensor) => {
        const sum = t.add(x, y);
        const joined = t.concat([sum, t.flip(sum, 0)], 0);
        return [joined, t.add(sum, 1), t.sum(joined, { axis: 0 })];
      },
      inputs: [anyNumber, anyNumber],
      tolerance: { rtol: 1e-4, atol: 1e-4 },
    },
  },
  stack: {
    "stack([x, y], 1) makes a new axis": {
      op: (x: Tensor, y: Tensor) => t.stack([x, t.add(y, 1)], 1),
      inputs: [anyNumber, anyNumber],
      reference: (x, y) => build([x.shape[0]!, 2, 3], (i, s, j) => (s === 0 ? x.at(i, j) : y.at(i, j) + 1)),
    },
  },
  split: {
    "split(x, [1, 2], 1) cuts into pieces": {
      op: (x: Tensor) => t.split(x, [1, 2], 1),
      inputs: [anyNumber],
      reference: (x) => [build([x.shape[0]!, 1], (i) => x.at(i, 0)), build([x.shape[0]!, 2], (i, j) => x.at(i, j + 1))],
      tolerance: exact,
    },
    "split(x, 3, -1) cuts into equal pieces": {
      op: (x: Tensor) => t.split(x, 3, -1),
      inputs: [smallIntegers],
      reference: (x) => [0, 1, 2].map((c) => build([x.shape[0]!, 1], (i) => x.at(i, c))),
    },
  },
};
