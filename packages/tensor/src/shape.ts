// shape.ts: pure functions on shapes; every message begins with the op that was called.
import { ShapeError, ValueError } from "./errors.ts";

/** Sizes of a tensor's dimensions, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements: the product of the sizes. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const d of shape) size *= d;
  return size;
}

/** `[2, 3]` as text. */
export const formatShape = (shape: Shape): string => `[${shape.join(", ")}]`;

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}

export function checkShape(op: string, shape: Shape): void {
  for (const d of shape) {
    if (!Number.isInteger(d) || d < 0)
      throw new ShapeError(`${op}: sizes must be non-negative integers, got ${formatShape(shape)}`);
  }
}

/** The NumPy broadcast of the shapes. */
export function broadcastShapes(op: string, ...shapes: Shape[]): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  const out = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (let i = 0; i < shape.length; i++) {
      const at = rank - shape.length + i;
      const d = shape[i]!;
      if (d === 1) continue;
      if (out[at] !== 1 && out[at] !== d) {
        throw new ShapeError(`${op}: shapes must broadcast, got ${shapes.map(formatShape).join(" and ")}`);
      }
      out[at] = d;
    }
  }
  return out;
}

/** `axis` counted from the front; negative axes count from the back. */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || at < 0 || at >= rank) {
    throw new ShapeError(`${op}: axis must be an integer in [${-rank}, ${rank - 1}] for rank ${rank}, got ${axis}`);
  }
  return at;
}

/** Sorted distinct axes; undefined means all. */
export function normalizeAxes(op: string, axis: number | readonly number[] | undefined, rank: number): number[] {
  if (axis === undefined) return Array.from({ length: rank }, (_, i) => i);
  const axes = (typeof axis === "number" ? [axis] : [...axis]).map((a) => normalizeAxis(op, a, rank));
  if (new Set(axes).size !== axes.length)
    throw new ShapeError(`${op}: axes must be distinct, got [${axes.join(", ")}]`);
  return axes.sort((a, b) => a - b);
}

/** Replaces one -1 by what is left of `size`. */
export function resolveReshape(from: Shape, to: Shape): number[] {
  const size = sizeOf(from);
  const holes = to.filter((d) => d === -1).length;
  if (holes > 1) throw new ShapeError(`reshape: at most one size may be -1, got ${formatShape(to)}`);
  const known = to.reduce((p, d) => (d === -1 ? p : p * d), 1);
  const out = to.map((d) => (d === -1 ? (known === 0 ? 0 : size / known) : d));
  if (out.some((d) => !Number.isInteger(d) || d < 0) || sizeOf(out) !== size) {
    throw new ShapeError(`reshape: cannot give ${formatShape(from)} (${size} elements) the shape ${formatShape(to)}`);
  }
  return out;
}

export function checkPermutation(op: string, perm: readonly number[], rank: number): number[] {
  const out = perm.map((p) => normalizeAxis(op, p, rank));
  if (out.length !== rank || new Set(out).size !== rank) {
    throw new ShapeError(`${op}: permutation must name each of ${rank} axes once, got [${perm.join(", ")}]`);
  }
  return out;
}

export function checkPositiveInteger(op: string, name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new ValueError(`${op}: ${name} must be a positive integer, got ${value}`);
}
