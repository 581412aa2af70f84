// ops/concat.ts: joining and splitting along an axis. Pieces are written straight into the joined buffer where possible.
import { DTypeError, ShapeError, ValueError } from "../errors.ts";
import { createNode } from "../node.ts";
import { formatShape, normalizeAxis } from "../shape.ts";

import { Tensor } from "../tensor.ts";
import { expandDims, sliceAxis } from "./view.ts";

/**
 * Joins tensors along an existing axis; all other sizes and the dtypes must agree.
 * @example concat([zeros([2, 3]), ones([1, 3])]) // shape [3, 3]
 */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  const first = tensors[0];
  if (!first) throw new ValueError("concat: needs at least one tensor, got none");
  const at = normalizeAxis("concat", axis, first.ndim);
  for (const t of tensors) {
    if (t.ndim !== first.ndim || t.shape.some((d, i) => i !== at && d !== first.shape[i])) {
      throw new ShapeError(
        `concat: shapes must agree except on axis ${at}, got ${tensors.map((x) => formatShape(x.shape)).join(", ")}`,
      );
    }
    if (t.dtype !== first.dtype) throw new DTypeError(`concat: dtypes must agree, got ${first.dtype} and ${t.dtype}`);
  }
  const parts = tensors.filter((t) => t.shape[at] !== 0);
  if (parts.length <= 1) return parts[0] ?? first;
  const shape = first.shape.map((d, i) => (i === at ? parts.reduce((s, t) => s + t.shape[at]!, 0) : d));
  return new Tensor(
    createNode(
      { kind: "concat", axis: at },
      parts.map((t) => t.node),
      shape,
      first.dtype,
    ),
  );
}

/** Joins tensors of one shape along a new axis. @example stack([zeros([3]), ones([3])]) // shape [2, 3] */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const first = tensors[0];
  if (!first) throw new ValueError("stack: needs at least one tensor, got none");
  const at = normalizeAxis("stack", axis, first.ndim + 1);
  return concat(
    tensors.map((t) => expandDims(t, at)),
    at,
  );
}

/**
 * Cuts along an axis, into pieces of the given sizes or into a number of equal pieces.
 * @throws ShapeError if the sizes do not add up
 * @example const [q, k, v] = split(qkv, 3, -1);
 */
export function split(x: Tensor, sizes: number | readonly number[], axis = 0): Tensor[] {
  const at = normalizeAxis("split", axis, x.ndim);
  const size = x.shape[at]!;
  const parts = typeof sizes === "number" ? new Array<number>(sizes).fill(size / sizes) : sizes;
  if (parts.some((p) => !Number.isInteger(p) || p < 0) || parts.reduce((a, b) => a + b, 0) !== size) {
    throw new ShapeError(
      `split: axis ${at} of size ${size} cannot be split into ${typeof sizes === "number" ? `${sizes} equal pieces` : formatShape(parts)}`,
    );
  }
  let start = 0;
  return parts.map((p) => {
    start += p;
    return sliceAxis(x, at, start - p, start);
  });
}
