// moe/sortByExpert.ts: a stable counting sort of token assignments by expert, on the device.
import {
  arange,
  broadcastTo,
  type CpuFusedKernel,
  cast,
  DTypeError,
  defineFused,
  equal,
  expandDims,
  type FusedOp,
  less,
  logicalAnd,
  logicalOr,
  maximum,
  minimum,
  mul,
  reshape,
  ShapeError,
  sum,
  type Tensor,
} from "@mc/tensor";
import { checkPositive, formatShape } from "../check.ts";
import { sortThreads, sortWorkgroups } from "./sortKernels.ts";

/** Assignments by expert. Assignment `n * k + j` is the j-th choice of token n; there are M = N * k. */
export interface SortedAssignments {
  /** i32 [E + 1]: expert e has the places `offsets[e]` to `offsets[e + 1]`. */
  readonly offsets: Tensor;
  /** i32 [M]: the assignment at each place. Within an expert they keep their order. */
  readonly order: Tensor;
  /** i32 [M]: the place of each assignment; the inverse of `order`. */
  readonly place: Tensor;
}

/** i32 [N, k] -> offsets i32 [E + 1], order i32 [N * k], place i32 [N * k]. */
export const sortFused: FusedOp<{ readonly numExperts: number }> = {
  name: "sortByExpert",
  outputs: ([experts], { numExperts }) => {
    const size = experts!.shape.reduce((p, d) => p * d, 1);
    return [
      { shape: [numExperts + 1], dtype: "i32" },
      { shape: [size], dtype: "i32" },
      { shape: [size], dtype: "i32" },
    ];
  },
  reference: ([experts], { numExperts }) => {
    const { device, size } = experts!;
    const id = minimum(maximum(reshape(experts!, [size]), 0), numExperts - 1);
    const place = arange(size, { device });
    const table = (a: number, b: number) => [a, b] as const;
    const rows = (x: Tensor, columns: number): Tensor => broadcastTo(expandDims(x, 1), table(x.size, columns));
    const columns = (x: Tensor, count: number): Tensor => broadcastTo(expandDims(x, 0), table(count, x.size));
    const count = (hits: Tensor): Tensor => sum(cast(hits, "i32"), { axis: 1 });
    // before an assignment come those of smaller experts, and earlier ones of its own
    const [mine, other] = [rows(id, size), columns(id, size)];
    const earlier = less(columns(place, size), rows(place, size));
    const places = count(logicalOr(less(other, mine), logicalAnd(equal(other, mine), earlier)));
    const hit = equal(columns(places, size), rows(place, size));
    const order = sum(mul(cast(hit, "i32"), columns(place, size)), { axis: 1 });
    const offsets = count(less(columns(id, numExperts + 1), rows(arange(numExperts + 1, { device }), size)));
    return [offsets, order, places];
  },
  vjp: () => [],
  cpu: (_, { numExperts }) => sortCpu(numExperts),
  webgpu: ([experts], { numExperts }, device) =>
    (device.software ? sortThreads : sortWorkgroups)(
      experts!.shape.reduce((p, d) => p * d, 1),
      numExperts,
    ),
};

function sortCpu(numExperts: number): CpuFusedKernel {
  return {
    contiguous: true,
    run: ([experts], [offsets, order, place]) => {
      const size = order!.shape[0]!;
      const expertOf = (n: number): number =>
        Math.min(Math.max(experts!.data[experts!.offset + n]!, 0), numExperts - 1);
      const next = new Int32Array(numExperts + 1);
      for (let n = 0; n < size; n++) next[expertOf(n) + 1]!++;
      for (let e = 0; e < numExperts; e++) next[e + 1]! += next[e]!;
      offsets!.data.set(next, offsets!.offset);
      for (let n = 0; n < size; n++) {
        const p = next[expertOf(n)]!++;
        order!.data[order!.offset + p] = n;
        place!.data[place!.offset + n] = p;
      }
    },
  };
}

const sortOp = defineFused(sortFused);

/**
 * Sorts assignments of tokens to experts: a stable counting sort that stays on the device and gives the same result in every
 * run.
 *
 * @param experts - i32 [N, k], from 0 to `numExperts - 1`; what lies outside counts as the nearest
 * @throws ShapeError or DTypeError if `experts` is not i32 [N, k]
 * @example
 * const { offsets, order } = sortByExpert(tensor([[2, 0], [0, 1]], { dtype: "i32" }), 3); // [0, 2, 3, 4], [1, 2, 3, 0]
 */
export function sortByExpert(experts: Tensor, numExperts: number): SortedAssignments {
  checkPositive("sortByExpert", "numExperts", numExperts);
  if (experts.dtype !== "i32") throw new DTypeError(`sortByExpert: experts must be i32, got ${experts.dtype}`);
  if (experts.ndim !== 2)
    throw new ShapeError(`sortByExpert: experts must be [N, k], got shape ${formatShape(experts.shape)}`);
  const [offsets, order, place] = sortOp([experts], { numExperts }) as [Tensor, Tensor, Tensor];
  return { offsets, order, place };
}
