// ops/reduce.ts: reductions. The result drops the reduced axes unless `keepDims`.
import { ShapeError } from "../errors.ts";
import { createNode, type ReduceKind } from "../node.ts";
import { formatShape, normalizeAxes, normalizeAxis } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { add, cast, div, equal, exp, expectDType, isFinite, log, stopGradient, sub, where } from "./elementwise.ts";
import { reshape, transpose } from "./view.ts";

/** Axes of a reduction. */
export interface ReduceOptions {
  /** One axis or several, negative from the back; default all. */
  readonly axis?: number | readonly number[];
  /** Keep the reduced axes with size 1; default false. */
  readonly keepDims?: boolean;
}

function reduce(op: string, kind: ReduceKind, x: Tensor, { axis, keepDims = false }: ReduceOptions): Tensor {
  const axes = normalizeAxes(op, axis, x.ndim);
  if (kind !== "sum" && axes.some((a) => x.shape[a] === 0)) {
    throw new ShapeError(`${op}: cannot reduce over an axis of size 0, got shape ${formatShape(x.shape)}`);
  }
  const kept = x.shape.filter((_, i) => !axes.includes(i));
  const out =
    axes.length === 0
      ? x
      : new Tensor(
          createNode({ kind: "reduce", reduce: kind, axes }, [x.node], kept, kind === "argmax" ? "i32" : x.dtype),
        );
  return keepDims
    ? reshape(
        out,
        x.shape.map((d, i) => (axes.includes(i) ? 1 : d)),
      )
    : out;
}

/** Moves the reduced axes into one last axis, so that a position in it is one number. */
function lastAxis(
  op: string,
  x: Tensor,
  axis: ReduceOptions["axis"],
): { rows: Tensor; shape: number[]; kept: number[] } {
  const axes = normalizeAxes(op, axis, x.ndim);
  const others = x.shape.map((_, i) => i).filter((i) => !axes.includes(i));
  const kept = others.map((i) => x.shape[i]!);
  return {
    rows: reshape(transpose(x, [...others, ...axes]), [...kept, axes.reduce((p, a) => p * x.shape[a]!, 1)]),
    shape: x.shape.map((d, i) => (axes.includes(i) ? 1 : d)),
    kept,
  };
}

/** Sum of the elements, accumulated in f32; integers wrap. The sum of nothing is 0. @example sum(ones([2, 3]), { axis: 1 }) // [3, 3] */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectDType("sum", x, "f32", "i32", "u32");
  return reduce("sum", "sum", x, options);
}

/** Mean of f32 elements. @example mean(tensor([1, 3])) // 2 */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectDType("mean", x, "f32");
  const total = sum(x, options);
  return div(total, Math.max(1, x.size) / Math.max(1, total.size));
}

/** Largest element; NaN wins; at a tie the first takes the gradient. @throws ShapeError over nothing @example max(tensor([1, 3])) // 3 */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return extremum("max", x, options);
}

/** Smallest element; NaN wins; at a tie the first takes the gradient. @throws ShapeError over nothing @example min(tensor([1, 3])) // 1 */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  return extremum("min", x, options);
}

function extremum(kind: "max" | "min", x: Tensor, { axis, keepDims = false }: ReduceOptions): Tensor {
  expectDType(kind, x, "f32", "i32", "u32");
  if (x.ndim === 0) return x;
  // the gradient finds its place by argmax over one axis
  const { rows, shape, kept } = lastAxis(kind, x, axis);
  const out = reduce(kind, kind, rows, { axis: -1 });
  return keepDims ? reshape(out, shape) : reshape(out, kept);
}

/** Options of `argmax`. */
export interface ArgmaxOptions {
  /** The axis to search, negative from the back; default: the flattened tensor. */
  readonly axis?: number;
  /** Keep the axis with size 1; default false. */
  readonly keepDims?: boolean;
}
/** Position (i32) of the largest element, the first among equals; NaN counts as largest. @example argmax(tensor([1, 3, 2])) // 1 */
export function argmax(x: Tensor, { axis, keepDims = false }: ArgmaxOptions = {}): Tensor {
  expectDType("argmax", x, "f32", "i32", "u32");
  if (axis === undefined) {
    const flat = reduce("argmax", "argmax", reshape(x, [-1]), { axis: 0 });
    return keepDims
      ? reshape(
          flat,
          x.shape.map(() => 1),
        )
      : flat;
  }
  return reduce("argmax", "argmax", x, { axis: normalizeAxis("argmax", axis, x.ndim), keepDims });
}

/**
 * `log(sum(exp(x)))` without overflow: m + log(sum(exp(x - m))), m the maximum. Rows of -infinity give -infinity.
 * @example logsumexp(tensor([1000, 1000])) // 1000.6931
 */
export function logsumexp(x: Tensor, { axis, keepDims = false }: ReduceOptions = {}): Tensor {
  expectDType("logsumexp", x, "f32");
  const top = stopGradient(max(x, { axis, keepDims: true }));
  const shift = where(isFinite(top), top, 0);
  const total = sum(exp(sub(x, shift)), { axis, keepDims: true });
  const out = add(log(total), shift);
  const axes = normalizeAxes("logsumexp", axis, x.ndim);
  return keepDims
    ? out
    : reshape(
        out,
        x.shape.filter((_, i) => !axes.includes(i)),
      );
}

/** Options of `softmax` and `logSoftmax`. */
export interface SoftmaxOptions {
  /** Default -1, the last. */
  readonly axis?: number;
}
/** `exp(x) / sum(exp(x))` along an axis, shifted by the maximum. @example softmax(tensor([0, 0])) // [0.5, 0.5] */
export function softmax(x: Tensor, { axis = -1 }: SoftmaxOptions = {}): Tensor {
  expectDType("softmax", x, "f32");
  const top = stopGradient(max(x, { axis, keepDims: true }));
  const e = exp(sub(x, where(isFinite(top), top, 0)));
  return div(e, sum(e, { axis, keepDims: true }));
}

/** `log(softmax(x))`, computed as x - logsumexp(x). @example logSoftmax(tensor([0, 0])) // [-0.6931, -0.6931] */
export function logSoftmax(x: Tensor, { axis = -1 }: SoftmaxOptions = {}): Tensor {
  return sub(x, logsumexp(x, { axis, keepDims: true }));
}

/** Whether any element of a bool tensor is true. @example any(less(x, 0)) */
export function any(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectDType("any", x, "bool");
  return cast(sum(cast(x, "i32"), options), "bool");
}

/** Whether all elements of a bool tensor are true. @example all(less(x, 0)) */
export function all(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectDType("all", x, "bool");
  return equal(sum(sub(1, cast(x, "i32")), options), 0);
}
