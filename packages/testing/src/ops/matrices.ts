// ops/matrices.ts: matrix products in four transpose modes, batched, and at the edges of tiles.

import type { Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import { anyNumber } from "../domains.ts";
import { build, type HostArray, range } from "../hostArray.ts";
import type { OpTable } from "./table.ts";

const product = (a: HostArray, b: HostArray): HostArray =>
  build([a.shape[0]!, b.shape[1]!], (i, j) => range(a.shape[1]!).reduce((s, k) => s + a.at(i, k) * b.at(k, j), 0));
const matmul = (a: Tensor, b: Tensor): Tensor => t.matmul(a, b);
const flipped = (a: HostArray): HostArray => build([a.shape[1]!, a.shape[0]!], (i, j) => a.at(j, i));

const referenceTolerance = { rtol: 1e-10, atol: 1e-10 };
const tolerance = { rtol: 1e-4, atol: 1e-4 };
const sizes = [1, 63, 64, 65, 130];

/** Every matrix product. */
export const matrixOps: OpTable = {
  matmul: {
    "matmul(a, b) of [n, n] matrices": {
      op: matmul,
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [n, n],
        [n, n],
      ],
      sizes,
      reference: product,
      referenceTolerance,
      tolerance,
      gradient: 2,
    },
    "matmul(a, b) of a tall and a wide matrix": {
      op: matmul,
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [n, 3],
        [3, n + 2],
      ],
      sizes,
      reference: product,
      referenceTolerance,
      tolerance,
    },
    "matmul(a, b) over a long inner axis": {
      op: matmul,
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [5, n],
        [n, 7],
      ],
      sizes: [1, 63, 64, 65, 1500],
      reference: product,
      referenceTolerance,
      tolerance: { rtol: 1e-4, atol: 1e-3 },
    },
    "matmul(mT(a), b)": {
      op: (a: Tensor, b: Tensor) => t.matmul(t.mT(a), b),
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [n, 17],
        [n, 5],
      ],
      sizes,
      reference: (a, b) => product(flipped(a), b),
      referenceTolerance,
      tolerance,
    },
    "matmul(a, mT(b))": {
      op: (a: Tensor, b: Tensor) => t.matmul(a, t.mT(b)),
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [n, 17],
        [33, 17],
      ],
      sizes,
      reference: (a, b) => product(a, flipped(b)),
      referenceTolerance,
      tolerance,
    },
    "matmul(mT(a), mT(b))": {
      op: (a: Tensor, b: Tensor) => t.matmul(t.mT(a), t.mT(b)),
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [17, n],
        [9, 17],
      ],
      sizes,
      reference: (a, b) => product(flipped(a), flipped(b)),
      referenceTolerance,
      tolerance,
    },
    "matmul(a, b) of batches": {
      op: matmul,
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [2, 3, n, 5],
        [2, 3, 5, 4],
      ],
      sizes,
      reference: (a, b) =>
        build([2, 3, a.shape[2]!, 4], (p, q, i, j) =>
          range(5).reduce((s, k) => s + a.at(p, q, i, k) * b.at(p, q, k, j), 0),
        ),
      referenceTolerance,
      tolerance,
    },
    "matmul(a, b) broadcasts batches": {
      op: matmul,
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [3, 1, n, 5],
        [2, 5, 4],
      ],
      sizes,
      reference: (a, b) =>
        build([3, 2, a.shape[2]!, 4], (p, q, i, j) =>
          range(5).reduce((s, k) => s + a.at(p, 0, i, k) * b.at(q, k, j), 0),
        ),
      referenceTolerance,
      tolerance,
    },
    "matmul(heads of a, heads of b) reads permuted and sliced operands": {
      // q and k of attention: [n, 2 heads of 4] and the same, behind split and permute
      op: (a: Tensor, b: Tensor) => {
        const heads = (x: Tensor) => t.transpose(t.reshape(t.sliceAxis(x, 1, 2, 10), [x.shape[0]!, 2, 4]), [1, 0, 2]);
        return t.matmul(heads(a), t.mT(heads(b)));
      },
      inputs: [anyNumber, anyNumber],
      shapes: (n) => [
        [n, 12],
        [7, 12],
      ],
      sizes,
      reference: (a, b) =>
        build([2, a.shape[0]!, 7], (h, i, j) =>
          range(4).reduce((s, d) => s + a.at(i, 2 + 4 * h + d) * b.at(j, 2 + 4 * h + d), 0),
        ),
      referenceTolerance,
      tolerance,
    },
    "matmul(x, mT(w)) + bias, relu: an epilogue": {
      op: (x: Tensor, w: Tensor, b: Tensor) => t.relu(t.add(t.matmul(x, t.mT(w)), b)),
      inputs: [anyNumber, anyNumber, anyNumber],
      shapes: (n) => [[n, 8], [6, 8], [6]],
      sizes,
      reference: (x, w, b) => {
        const y = product(x, flipped(w));
        return build(y.shape, (i, j) => Math.max(0, y.at(i, j) + b.at(j)));
      },
      referenceTolerance,
      tolerance,
    },
    "2 a + 3 a a: a matrix read as operand and in the epilogue": {
      op: (a: Tensor) => t.add(t.mul(a, 2), t.mul(t.matmul(a, a), 3)),
      inputs: [anyNumber],
      shapes: (n) => [[n, n]],
      sizes: [1, 63, 64, 65],
      reference: (a) => {
        const y = product(a, a);
        return build(y.shape, (i, j) => 2 * a.at(i, j) + 3 * y.at(i, j));
      },
      referenceTolerance,
      tolerance,
      gradientTolerance: 1e-3,
    },
    "matmul(x, mT(x)) of batches, symmetric": {
      op: (x: Tensor) => t.matmul(x, t.mT(x), { symmetric: true }),
      inputs: [anyNumber],
      shapes: (n) => [[2, n, 6]],
      sizes,
      reference: (x) =>
        build([2, x.shape[1]!, x.shape[1]!], (z, i, j) =>
          range(6).reduce((s, k) => s + x.at(z, i, k) * x.at(z, j, k), 0),
        ),
      referenceTolerance,
      tolerance,
      gradient: 2,
    },
    "2 a + 3 a a of a symmetric a": {
      op: (x: Tensor) => {
        const a = t.add(x, t.mT(x));
        return t.add(t.mul(a, 2), t.mul(t.matmul(a, a, { symmetric: true }), 3));
      },
      inputs: [anyNumber],
      shapes: (n) => [[n, n]],
      sizes: [1, 63, 65],
      reference: (x) => {
        const a = build(x.shape, (i, j) => x.at(i, j) + x.at(j, i));
        const y = product(a, a);
        return build(y.shape, (i, j) => 2 * a.at(i, j) + 3 * y.at(i, j));
      },
      referenceTolerance,
      tolerance,
      gradientTolerance: 1e-3,
    },
  },
};
