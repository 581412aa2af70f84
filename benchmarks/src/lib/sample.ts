// lib/sample.ts: comparing a few elements of large results with double precision, reading no more than those few.
import { type Device, reshape, type Tensor, type TypedArray, take, tensor } from "@mc/tensor";
import type { Check } from "./case.ts";

/** Largest |actual - expected| over largest |expected|; infinite where one of them is not finite. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!Number.isFinite(difference)) return Number.POSITIVE_INFINITY;
    worst = Math.max(worst, difference);
    scale = Math.max(scale, Math.abs(expected[i]!));
  }
  return worst === 0 ? 0 : worst / (scale || 1);
}

/** `count` places in [0, size), spread evenly by the golden ratio, first and last included. */
export function places(size: number, count: number): number[] {
  if (size <= count) return Array.from({ length: size }, (_, i) => i);
  const spread = Array.from({ length: count - 2 }, (_, i) => Math.floor(((i + 1) * 0.6180339887498949 * size) % size));
  return [...new Set([0, ...spread, size - 1])].sort((a, b) => a - b);
}

/** Indices as a tensor on the device of `like`. */
export const indexTensor = (indices: readonly number[], device: Device): Tensor =>
  tensor(Int32Array.from(indices), { shape: [indices.length], dtype: "i32", device });

/** Host copy of the slices of `x` at `indices` along an axis. */
export async function readAt(x: Tensor, indices: readonly number[], axis = 0): Promise<TypedArray> {
  const picked = take(x, indexTensor(indices, x.device), axis);
  const data = await picked.data();
  picked.dispose();
  return data;
}

/** Host copy of single elements of `x`, counted in row-major order. */
export const readElements = (x: Tensor, indices: readonly number[]): Promise<TypedArray> =>
  readAt(reshape(x, [-1]), indices);

/** Checks an element-wise function of operands of one shape at 256 places. */
export function elementCheck(expected: (...values: number[]) => number): Check {
  return async ({ inputs, outputs: [out] }) => {
    const at = places(out!.size, 256);
    const values = await Promise.all(inputs.map((x) => readElements(x, at)));
    return relativeError(
      await readElements(out!, at),
      at.map((_, i) => expected(...values.map((v) => v[i]!))),
    );
  };
}

/** Checks a function of whole rows (the last axis of the first operand) at 24 rows: `expected` gives a row's results. */
export function rowCheck(expected: (row: TypedArray, r: number) => ArrayLike<number>): Check {
  return async ({ inputs: [x], outputs: [out] }) => {
    const width = x!.shape.at(-1)!;
    const rows = x!.size / width;
    const at = places(rows, 24);
    const data = await readAt(reshape(x!, [rows, width]), at);
    const actual = await readAt(reshape(out!, [rows, -1]), at);
    const right = at.flatMap((r, i) => Array.from(expected(data.subarray(i * width, (i + 1) * width), r)));
    return relativeError(actual, right);
  };
}
