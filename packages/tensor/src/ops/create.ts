// ops/create.ts: tensors from host data and from nothing.
import { connectedDevice } from "../device/current.ts";
import type { Device } from "../device/device.ts";
import { arrayType, type DType, type TypedArray } from "../dtype.ts";
import { ShapeError, ValueError } from "../errors.ts";
import { createNode } from "../node.ts";
import { checkPositiveInteger, checkShape, formatShape, type Shape, sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { cast, equal, greaterEqual } from "./elementwise.ts";
import { broadcastTo, reshape } from "./view.ts";

/** Where and as what a tensor is made. */
export interface CreateOptions {
  /** Default "f32" (from typed arrays: their own type; from booleans: "bool"). */
  readonly dtype?: DType;
  /** Default: the last connected device. */
  readonly device?: Device;
}

/** Options of `tensor`. */
export interface TensorOptions extends CreateOptions {
  /** Shape of flat data; default: the nesting of the arrays, or [length]. */
  readonly shape?: Shape;
}

/** Nested arrays of numbers or booleans, or a flat typed array. */
export type TensorData = number | boolean | TypedArray | readonly TensorData[];

/**
 * A tensor from host data. Arrays are copied.
 *
 * @throws ShapeError if rows have different lengths or `shape` does not fit, ValueError if no device is connected
 * @example
 * tensor([[1, 2], [3, 4]]);
 * tensor(new Int32Array([1, 2, 3, 4]), { shape: [2, 2] });
 */
export function tensor(data: TensorData, { shape, dtype, device = connectedDevice() }: TensorOptions = {}): Tensor {
  const { flat, nested, natural } = flatten(data);
  const size = flat.length;
  const to = shape ?? nested;
  checkShape("tensor", to);
  if (sizeOf(to) !== size) throw new ShapeError(`tensor: ${size} elements do not fill the shape ${formatShape(to)}`);
  const type = dtype ?? natural;
  const storage = device.allocate(type, size);
  device.upload(storage, convert(flat, type, device));
  return new Tensor(createNode({ kind: "buffer", storage }, [], [...to], type, device));
}

function convert(flat: ArrayLike<number>, dtype: DType, device: Device): TypedArray {
  const ArrayClass = arrayType(dtype, device.precision);
  if (dtype === "bool") return Uint8Array.from(flat, (v) => (v ? 1 : 0));
  return flat instanceof ArrayClass ? flat : (ArrayClass.from(flat) as TypedArray);
}

function flatten(data: TensorData): { flat: ArrayLike<number>; nested: number[]; natural: DType } {
  if (typeof data === "number") return { flat: [data], nested: [], natural: "f32" };
  if (typeof data === "boolean") return { flat: [data ? 1 : 0], nested: [], natural: "bool" };
  if (ArrayBuffer.isView(data)) {
    const natural =
      data instanceof Int32Array
        ? "i32"
        : data instanceof Uint32Array
          ? "u32"
          : data instanceof Uint8Array
            ? "bool"
            : "f32";
    return { flat: data as TypedArray, nested: [(data as TypedArray).length], natural };
  }
  const nested: number[] = [];
  for (let level: TensorData = data as readonly TensorData[]; Array.isArray(level); level = level[0] as TensorData)
    nested.push(level.length);
  const flat: number[] = [];
  let natural: DType = "f32";
  const visit = (level: TensorData, depth: number): void => {
    if (Array.isArray(level)) {
      if (level.length !== nested[depth])
        throw new ShapeError(
          `tensor: nested arrays must be rectangular, got lengths ${nested[depth] ?? "none"} and ${level.length} at depth ${depth}`,
        );
      for (const inner of level) visit(inner as TensorData, depth + 1);
    } else {
      if (depth !== nested.length)
        throw new ShapeError(
          `tensor: nested arrays must be rectangular, got a number at depth ${depth} of ${nested.length}`,
        );
      if (typeof level === "boolean") natural = "bool";
      else if (typeof level !== "number")
        throw new ValueError(`tensor: elements must be numbers or booleans, got ${typeof level}`);
      flat.push(Number(level));
    }
  };
  visit(data, 0);
  return { flat, nested, natural };
}

/** A tensor with every element `value`; it takes no memory until something stores it. @example full([2, 2], 7) */
export function full(
  shape: Shape,
  value: number,
  { dtype = "f32", device = connectedDevice() }: CreateOptions = {},
): Tensor {
  checkShape("full", shape);
  return broadcastTo(new Tensor(createNode({ kind: "constant", value }, [], [], dtype, device)), shape);
}

/** All zeros (false for bool). @example zeros([2, 3]) */
export const zeros = (shape: Shape, options: CreateOptions = {}): Tensor => full(shape, 0, options);
/** All ones (true for bool). @example ones([2, 3]) */
export const ones = (shape: Shape, options: CreateOptions = {}): Tensor => full(shape, 1, options);
/** Zeros of the shape, dtype and device of `x`. @example zerosLike(x) */
export const zerosLike = (x: Tensor): Tensor => full(x.shape, 0, { dtype: x.dtype, device: x.device });
/** Ones of the shape, dtype and device of `x`. @example onesLike(x) */
export const onesLike = (x: Tensor): Tensor => full(x.shape, 1, { dtype: x.dtype, device: x.device });

/** Row-major positions along one axis of a shape, i32; the building block of `arange`, masks and one-hot. @example iota([2, 3], 1) // [[0, 1, 2], [0, 1, 2]] */
export function iota(
  shape: Shape,
  axis: number,
  { device = connectedDevice() }: { readonly device?: Device } = {},
): Tensor {
  checkShape("iota", shape);
  return new Tensor(createNode({ kind: "iota", axis }, [], [...shape], "i32", device));
}

/** 0, 1, ..., n-1; i32 unless `dtype` says otherwise. @example arange(3) // [0, 1, 2] */
export function arange(n: number, { dtype = "i32", device = connectedDevice() }: CreateOptions = {}): Tensor {
  return cast(iota([n], 0, { device }), dtype);
}

/** The n x n identity, f32. @example eye(2) // [[1, 0], [0, 1]] */
export function eye(n: number, { dtype = "f32", device = connectedDevice() }: CreateOptions = {}): Tensor {
  checkPositiveInteger("eye", "n", n);
  return cast(equal(iota([n, n], 0, { device }), iota([n, n], 1, { device })), dtype);
}

/** bool [t, t], true on and below the diagonal: what position i may see in causal attention. @example causalMask(2) // [[true, false], [true, true]] */
export function causalMask(t: number, { device = connectedDevice() }: { readonly device?: Device } = {}): Tensor {
  checkPositiveInteger("causalMask", "t", t);
  return greaterEqual(iota([t, t], 0, { device }), iota([t, t], 1, { device }));
}

/** f32 (or `dtype`) [..., depth] with a one at each index; indices outside [0, depth) give zeros. @example oneHot(tensor([1], { dtype: "i32" }), 3) // [[0, 1, 0]] */
export function oneHot(indices: Tensor, depth: number, { dtype = "f32" }: { readonly dtype?: DType } = {}): Tensor {
  const wide = reshape(indices, [...indices.shape, 1]);
  return cast(
    equal(cast(wide, "i32"), iota([...indices.shape, depth], indices.ndim, { device: indices.device })),
    dtype,
  );
}
