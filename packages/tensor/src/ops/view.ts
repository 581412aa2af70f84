// ops/view.ts: the same elements under other indices. Views are index arithmetic in the kernel that reads them: nothing moves.
import { ShapeError } from "../errors.ts";
import { createNode } from "../node.ts";
import {
  checkPermutation,
  checkShape,
  formatShape,
  normalizeAxes,
  normalizeAxis,
  resolveReshape,
  type Shape,
  sameShape,
} from "../shape.ts";
import { Tensor } from "../tensor.ts";

/**
 * The same elements in another shape, row-major; one size may be -1.
 * @throws ShapeError if the number of elements differs
 * @example reshape(arange(6), [2, -1]) // shape [2, 3]
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const to = resolveReshape(x.shape, shape);
  return sameShape(x.shape, to) ? x : new Tensor(createNode({ kind: "reshape" }, [x.node], to, x.dtype));
}

/**
 * Reorders the axes: axis i of the result is axis `perm[i]` of `x`; without `perm` the order is reversed.
 * @example transpose(zeros([2, 3, 4]), [1, 0, 2]) // shape [3, 2, 4]
 */
export function transpose(x: Tensor, perm?: readonly number[]): Tensor {
  const order = perm ? checkPermutation("transpose", perm, x.ndim) : x.shape.map((_, i) => x.ndim - 1 - i);
  if (order.every((p, i) => p === i)) return x;
  return new Tensor(
    createNode(
      { kind: "permute", perm: order },
      [x.node],
      order.map((p) => x.shape[p]!),
      x.dtype,
    ),
  );
}

/** Exchanges two axes. @example swapAxes(zeros([2, 3, 4]), 1, 2) // shape [2, 4, 3] */
export function swapAxes(x: Tensor, a: number, b: number): Tensor {
  const i = normalizeAxis("swapAxes", a, x.ndim);
  const j = normalizeAxis("swapAxes", b, x.ndim);
  return transpose(
    x,
    x.shape.map((_, k) => (k === i ? j : k === j ? i : k)),
  );
}

/** Transposes the last two axes: a matrix or a batch of them. @example matmul(mT(a), b) */
export function mT(x: Tensor): Tensor {
  if (x.ndim < 2) throw new ShapeError(`mT: needs at least 2 dimensions, got shape ${formatShape(x.shape)}`);
  return swapAxes(x, -1, -2);
}

/**
 * Repeats size-1 (or missing leading) dimensions to give `shape`.
 * @example broadcastTo(tensor([1, 2]), [3, 2]) // three equal rows
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  checkShape("broadcastTo", shape);
  const lead = shape.length - x.ndim;
  if (lead < 0 || x.shape.some((d, i) => d !== 1 && d !== shape[lead + i])) {
    throw new ShapeError(`broadcastTo: cannot broadcast ${formatShape(x.shape)} to ${formatShape(shape)}`);
  }
  const aligned = reshape(x, [...new Array<number>(lead).fill(1), ...x.shape]);
  return sameShape(aligned.shape, shape)
    ? aligned
    : new Tensor(createNode({ kind: "expand" }, [aligned.node], [...shape], x.dtype));
}

/** Inserts an axis of size one. @example expandDims(zeros([2, 3]), 1) // shape [2, 1, 3] */
export function expandDims(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis("expandDims", axis, x.ndim + 1);
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** Removes axes of size one: the given ones, or all. @example squeeze(zeros([2, 1, 3])) // shape [2, 3] */
export function squeeze(x: Tensor, axis?: number | readonly number[]): Tensor {
  const axes =
    axis === undefined ? x.shape.flatMap((d, i) => (d === 1 ? [i] : [])) : normalizeAxes("squeeze", axis, x.ndim);
  for (const a of axes)
    if (x.shape[a] !== 1)
      throw new ShapeError(`squeeze: axis ${a} must have size 1, got shape ${formatShape(x.shape)}`);
  return reshape(
    x,
    x.shape.filter((_, i) => !axes.includes(i)),
  );
}

/**
 * The box from `starts` up to but not including `ends`; negative bounds count from the back.
 * @throws ShapeError if a bound lies outside
 * @example slice(arange(5), [1], [4]) // [1, 2, 3]
 */
export function slice(x: Tensor, starts: readonly number[], ends: readonly number[]): Tensor {
  if (starts.length !== x.ndim || ends.length !== x.ndim) {
    throw new ShapeError(
      `slice: needs a start and an end for each of ${x.ndim} axes, got ${starts.length} and ${ends.length}`,
    );
  }
  const from = starts.map((s, i) => (s < 0 ? s + x.shape[i]! : s));
  const to = ends.map((e, i) => (e < 0 ? e + x.shape[i]! : e));
  from.forEach((s, i) => {
    const e = to[i]!;
    if (!Number.isInteger(s) || !Number.isInteger(e) || s < 0 || e < s || e > x.shape[i]!) {
      throw new ShapeError(`slice: axis ${i} of size ${x.shape[i]} cannot be sliced from ${starts[i]} to ${ends[i]}`);
    }
  });
  const shape = from.map((s, i) => to[i]! - s);
  return sameShape(shape, x.shape)
    ? x
    : new Tensor(createNode({ kind: "slice", starts: from }, [x.node], shape, x.dtype));
}

/** `slice` along one axis; `end` defaults to the axis's size. @example sliceAxis(x, -1, 0, 3) */
export function sliceAxis(x: Tensor, axis: number, start: number, end?: number): Tensor {
  const at = normalizeAxis("slice", axis, x.ndim);
  return slice(
    x,
    x.shape.map((_, i) => (i === at ? start : 0)),
    x.shape.map((d, i) => (i === at ? (end ?? d) : d)),
  );
}

/** Reverses the order along the axes. @example flip(arange(3), 0) // [2, 1, 0] */
export function flip(x: Tensor, axis: number | readonly number[]): Tensor {
  const axes = normalizeAxes("flip", axis, x.ndim).filter((a) => x.shape[a]! > 1);
  return axes.length === 0 ? x : new Tensor(createNode({ kind: "flip", axes }, [x.node], x.shape, x.dtype));
}

/** Adds zeros (false for bool) before and after each axis: `widths[i] = [before, after]`. @example pad(tensor([1]), [[1, 2]]) // [0, 1, 0, 0] */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[]): Tensor {
  if (widths.length !== x.ndim || widths.flat().some((w) => !Number.isInteger(w) || w < 0)) {
    throw new ShapeError(
      `pad: needs a pair of non-negative integers for each of ${x.ndim} axes, got ${JSON.stringify(widths)}`,
    );
  }
  const shape = x.shape.map((d, i) => d + widths[i]![0] + widths[i]![1]);
  if (sameShape(shape, x.shape)) return x;
  return new Tensor(createNode({ kind: "pad", before: widths.map((w) => w[0]) }, [x.node], shape, x.dtype));
}
