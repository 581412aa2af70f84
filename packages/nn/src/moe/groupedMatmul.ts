// moe/groupedMatmul.ts: matrix products over ragged groups of rows, one weight a group. The two ops are each other's gradients.
import {
  arange,
  broadcastTo,
  defineFused,
  type FusedOp,
  greaterEqual,
  less,
  logicalAnd,
  matmul,
  mT,
  reshape,
  sliceAxis,
  sum,
  type Tensor,
  where,
} from "@mc/tensor";
import { groupedBlocks } from "./groupedBlocks.ts";
import { groupedMatmulCpu, groupedOuterCpu } from "./groupedCpu.ts";
import { matmulProblem, outerProblem } from "./groupedProblem.ts";
import { matmulSizes, outerSizes } from "./groupedSizes.ts";
import { groupedTiles } from "./groupedTiles.ts";

/** x [M, K], w [E, N, K], offsets i32 [E + 1] -> y [M, N]. */
export const groupedMatmulFused: FusedOp<null> = {
  name: "groupedMatmul",
  outputs: ([x, w, offsets]) => {
    const { rows, columns } = matmulSizes(x!, w!, offsets!);
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  reference: ([x, w, offsets]) => {
    const { rows, groups, columns } = matmulSizes(x!, w!, offsets!);
    const products = matmul(x!, mT(w!)); // [E, M, N]
    const mine = broadcastTo(reshape(members(offsets!, rows), [groups, rows, 1]), [groups, rows, columns]);
    return [sum(where(mine, products, 0), { axis: 0 })];
  },
  // y_r = w_e x_r for r in group e:  dx_r = w_e^T dy_r,  dw_e = sum over r in e of dy_r x_r^T
  vjp: ({ inputs, cotangents: [dy] }) => {
    const [x, w, offsets] = inputs as [Tensor, Tensor, Tensor];
    return dy ? [groupedMatmul(dy, mT(w), offsets), groupedOuter(dy, x, offsets)] : [];
  },
  flops: ([x, w, offsets]) => {
    const { rows, columns, inner } = matmulSizes(x!, w!, offsets!);
    return 2 * rows * columns * inner; // each row meets one weight
  },
  cpu: ([x, w, offsets], _, device) => groupedMatmulCpu(matmulSizes(x!, w!, offsets!), device.precision),
  webgpu: ([x, w, offsets], _, device) => {
    const problem = matmulProblem(matmulSizes(x!, w!, offsets!));
    return device.software ? groupedBlocks(problem) : groupedTiles(problem);
  },
};

/** a [M, P], b [M, Q], offsets i32 [E + 1] -> y [E, P, Q]. */
export const groupedOuterFused: FusedOp<null> = {
  name: "groupedOuter",
  outputs: ([a, b, offsets]) => {
    const { groups, left, right } = outerSizes(a!, b!, offsets!);
    return [{ shape: [groups, left, right], dtype: "f32" }];
  },
  reference: ([a, b, offsets]) => {
    const { rows, groups, left } = outerSizes(a!, b!, offsets!);
    const shape = [groups, rows, left];
    const mine = broadcastTo(reshape(members(offsets!, rows), [groups, rows, 1]), shape);
    return [matmul(mT(where(mine, broadcastTo(a!, shape), 0)), b!)];
  },
  // y_e = sum over r in e of a_r b_r^T:  da_r = dy_e b_r,  db_r = dy_e^T a_r
  vjp: ({ inputs, cotangents: [dy] }) => {
    const [a, b, offsets] = inputs as [Tensor, Tensor, Tensor];
    return dy ? [groupedMatmul(b, dy, offsets), groupedMatmul(a, mT(dy), offsets)] : [];
  },
  flops: ([a, b, offsets]) => {
    const { rows, left, right } = outerSizes(a!, b!, offsets!);
    return 2 * rows * left * right; // each row belongs to one group
  },
  cpu: ([a, b, offsets], _, device) => groupedOuterCpu(outerSizes(a!, b!, offsets!), device.precision),
  webgpu: ([a, b, offsets], _, device) => {
    const problem = outerProblem(outerSizes(a!, b!, offsets!));
    return device.software ? groupedBlocks(problem) : groupedTiles(problem);
  },
};

/** bool [E, M]: whether row r belongs to group e. */
function members(offsets: Tensor, rows: number): Tensor {
  const groups = offsets.size - 1;
  const shape = [groups, rows];
  const row = broadcastTo(arange(rows, { device: offsets.device }), shape);
  const bound = (from: number): Tensor =>
    broadcastTo(reshape(sliceAxis(offsets, 0, from, from + groups), [groups, 1]), shape);
  return logicalAnd(greaterEqual(row, bound(0)), less(row, bound(1)));
}

const matmulOp = defineFused(groupedMatmulFused);
const outerOp = defineFused(groupedOuterFused);

/**
 * `y_r = w_e x_r`: each row of x times the weight of its group. Group e has the rows `offsets[e]` to `offsets[e + 1]`; it may
 * have none. The work follows the rows and not the number of groups, and nothing is read back to the host. Operands may be
 * views: a transposed `w` costs no copy.
 *
 * @param x - f32 [M, K], rows in the order of their groups
 * @param w - f32 [E, N, K]
 * @param offsets - i32 [E + 1], not decreasing, from 0 to M
 * @returns f32 [M, N]
 * @throws ShapeError or DTypeError if the operands do not belong together
 * @example
 * // one row of the first group, two of the second
 * groupedMatmul(ones([3, 2]), tensor([[[1, 1]], [[3, 4]]]), tensor([0, 1, 3], { dtype: "i32" })); // [[2], [7], [7]]
 */
export function groupedMatmul(x: Tensor, w: Tensor, offsets: Tensor): Tensor {
  return matmulOp([x, w, offsets], null)[0]!;
}

/**
 * `y_e = sum over the rows r of group e of a_r b_r^T`: what flows back to the weights of `groupedMatmul`. A group without
 * rows gives zeros.
 *
 * @param a - f32 [M, P], rows in the order of their groups
 * @param b - f32 [M, Q]
 * @param offsets - i32 [E + 1], not decreasing, from 0 to M
 * @returns f32 [E, P, Q]
 * @throws ShapeError or DTypeError if the operands do not belong together
 * @example
 * groupedOuter(tensor([[1], [2]]), tensor([[3], [4]]), tensor([0, 2, 2], { dtype: "i32" })); // [[[11]], [[0]]]
 */
export function groupedOuter(a: Tensor, b: Tensor, offsets: Tensor): Tensor {
  return outerOp([a, b, offsets], null)[0]!;
}
