// ops/indexing.ts: reading and adding at positions given by data. `scatterAdd` is the adjoint of `takeAlongAxis`.
import { DTypeError, ShapeError } from "../errors.ts";
import { defineFused, type FusedOp, type TensorSpec } from "../fused.ts";
import { createNode } from "../node.ts";
import { checkPositiveInteger, formatShape, normalizeAxis, type Shape, sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { iota } from "./create.ts";
import {
  cast,
  equal,
  expectDType,
  expectRank,
  greater,
  isNaN,
  less,
  logicalAnd,
  logicalOr,
  where,
} from "./elementwise.ts";
import { sum } from "./reduce.ts";
import { type ScatterParams, scatterAddCpu, scatterAddThreads } from "./scatterAddKernels.ts";
import { type TopKSizes, topKCpu, topKThreads, topKWorkgroups } from "./topKKernels.ts";
import { broadcastTo, reshape } from "./view.ts";

function expectIndices(op: string, indices: Tensor): void {
  if (indices.dtype !== "i32" && indices.dtype !== "u32")
    throw new DTypeError(`${op}: indices must be i32 or u32, got ${indices.dtype}; use cast(indices, "i32")`);
}

/**
 * `out[..., i, ...] = x[..., indices[..., i, ...], ...]` (PyTorch's `gather`). `indices` has the rank of `x` and broadcasts
 * to it on the other axes. An index outside gives NaN (f32), 0 (integers) or false: visible, and no memory is touched.
 *
 * @example takeAlongAxis(tensor([[10, 20, 30]]), tensor([[2]], { dtype: "i32" }), 1) // [[30]]
 */
export function takeAlongAxis(x: Tensor, indices: Tensor, axis: number): Tensor {
  expectIndices("takeAlongAxis", indices);
  if (indices.ndim !== x.ndim)
    throw new ShapeError(
      `takeAlongAxis: indices must have the rank of x, got ${formatShape(indices.shape)} for ${formatShape(x.shape)}`,
    );
  const at = normalizeAxis("takeAlongAxis", axis, x.ndim);
  const shape = x.shape.map((d, i) => (i === at ? indices.shape[at]! : d));
  const aligned = broadcastTo(indices, shape);
  return new Tensor(createNode({ kind: "gather", axis: at }, [x.node, aligned.node], shape, x.dtype));
}

/**
 * Rows of a table (an embedding look-up): `out.shape = table.shape[:axis] + indices.shape + table.shape[axis+1:]`.
 * An index outside gives NaN.
 * @example take(tensor([[1, 2], [3, 4]]), tensor([1, 0, 1], { dtype: "i32" })) // [[3, 4], [1, 2], [3, 4]]
 */
export function take(table: Tensor, indices: Tensor, axis = 0): Tensor {
  expectIndices("take", indices);
  expectRank("take", table, 1);
  const at = normalizeAxis("take", axis, table.ndim);
  const before = table.shape.slice(0, at);
  const after = table.shape.slice(at + 1);
  const column = reshape(indices, [...before.map(() => 1), indices.size, ...after.map(() => 1)]);
  return reshape(takeAlongAxis(table, column, at), [...before, ...indices.shape, ...after]);
}

const scatterShape = (shape: Shape, { axis, size }: ScatterParams): number[] =>
  shape.map((d, i) => (i === axis ? size : d));

/** indices [...], src of the same shape -> src's shape with `size` places along `axis`. */
export const scatterAddFused: FusedOp<ScatterParams> = {
  name: "scatterAdd",
  outputs: ([, src], params) => [{ shape: scatterShape(src!.shape, params), dtype: src!.dtype }],
  // out[.., v, ..] = sum over n of src[.., n, ..] where indices[.., n, ..] = v
  reference: ([indices, src], { axis, size }) => {
    const wide = (x: Tensor) => reshape(x, [...x.shape.slice(0, axis), 1, ...x.shape.slice(axis)]);
    const shape = [...src!.shape.slice(0, axis), size, ...src!.shape.slice(axis)];
    const hit = equal(broadcastTo(cast(wide(indices!), "i32"), shape), iota(shape, axis, { device: src!.device }));
    return [sum(where(hit, broadcastTo(wide(src!), shape), 0), { axis: axis + 1 })];
  },
  vjp: ({ inputs: [indices], cotangents: [g], params }) => [undefined, g && takeAlongAxis(g, indices!, params.axis)],
  cpu: (_, params) => scatterAddCpu(params),
  webgpu: ([, src], params, device) => scatterAddThreads(src!.shape, params, device.software ? 1 : undefined),
};

const scatterAddOp = defineFused(scatterAddFused);

/**
 * Adds each element of `src` into `out` (zeros with `size` places along `axis`) at its index: the adjoint of `takeAlongAxis`.
 * Equal indices add in order, so results are the same in every run. Indices outside are dropped.
 *
 * @param indices - i32 or u32, broadcasts to `src`
 * @param src - f32, i32 or u32
 * @example scatterAdd(tensor([0, 2, 0], { dtype: "i32" }), tensor([1, 2, 3]), 0, 4) // [4, 0, 2, 0]
 */
export function scatterAdd(indices: Tensor, src: Tensor, axis: number, size: number): Tensor {
  expectIndices("scatterAdd", indices);
  expectDType("scatterAdd", src, "f32", "i32", "u32");
  const at = normalizeAxis("scatterAdd", axis, src.ndim);
  return scatterAddOp([broadcastTo(indices, src.shape), src], { axis: at, size })[0]!;
}

/** f32 [..., n] -> i32 [..., k]: places of the largest elements. */
export const topKFused: FusedOp<{ readonly k: number }> = {
  name: "topK",
  outputs: ([x], { k }) => [{ shape: [...x!.shape.slice(0, -1), k], dtype: "i32" }],
  // an element's place is the number of elements that come before it: larger ones, and equal ones with a smaller index
  reference: ([x], { k }) => {
    const n = x!.shape.at(-1)!;
    const lead = x!.shape.slice(0, -1);
    const square = [...lead, n, n];
    const keys = where(isNaN(x!), Number.POSITIVE_INFINITY, x!);
    const self = broadcastTo(reshape(keys, [...lead, n, 1]), square);
    const other = broadcastTo(reshape(keys, [...lead, 1, n]), square);
    const i = iota(square, square.length - 2, { device: x!.device });
    const j = iota(square, square.length - 1, { device: x!.device });
    const before = logicalOr(greater(other, self), logicalAnd(equal(other, self), less(j, i)));
    const place = sum(cast(before, "i32"), { axis: -1 });
    const table = [...lead, k, n];
    const hit = equal(
      broadcastTo(reshape(place, [...lead, 1, n]), table),
      iota(table, table.length - 2, { device: x!.device }),
    );
    return [sum(where(hit, iota(table, table.length - 1, { device: x!.device }), 0), { axis: -1 })];
  },
  vjp: () => [undefined],
  cpu: ([x], params) => topKCpu(topKSizes(x!, params)),
  webgpu: ([x], params, device) => (device.software ? topKThreads : topKWorkgroups)(topKSizes(x!, params)),
};

const topKIndices = defineFused(topKFused);

/** How many rows of which length; no rows where they are empty. */
export function topKSizes({ shape }: TensorSpec, { k }: { readonly k: number }): TopKSizes {
  const n = shape.at(-1)!;
  return { rows: n === 0 ? 0 : sizeOf(shape) / n, n, k };
}

/** Result of `topK`. */
export interface TopK {
  /** [..., k], descending. */
  readonly values: Tensor;
  /** i32 [..., k]. */
  readonly indices: Tensor;
}
/**
 * The k largest elements along the last axis, largest first; among equals the lower index first; NaN counts as +infinity.
 * Gradients flow through `values`.
 * @example topK(tensor([1, 3, 2]), 2) // values [3, 2], indices [1, 2]
 */
export function topK(x: Tensor, k: number): TopK {
  expectDType("topK", x, "f32");
  expectRank("topK", x, 1);
  checkPositiveInteger("topK", "k", k);
  if (k > x.shape.at(-1)!)
    throw new ShapeError(`topK: k must be at most the last axis, got k ${k} for shape ${formatShape(x.shape)}`);
  const indices = topKIndices([x], { k })[0]!;
  return { values: takeAlongAxis(x, indices, -1), indices };
}
