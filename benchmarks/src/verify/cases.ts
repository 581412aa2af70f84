// verify/cases.ts: what a proof is: operands given as numbers, a function, and every element of its result in doubles.
import { type Tensor, tensor } from "@mc/tensor";

/** Numbers with a shape; `dtype` is f32 unless it says otherwise. */
export interface Operand {
  readonly shape: readonly number[];
  readonly data: Float64Array;
  readonly dtype?: "f32" | "i32";
}

/** One proof. */
export interface Proof {
  readonly name: string;
  readonly shape: readonly number[];
  readonly operands: readonly Operand[];
  readonly run: (...operands: Tensor[]) => Tensor | readonly Tensor[];
  /** Every element of every result, one after the other. */
  readonly expected: () => ArrayLike<number>;
  /** Largest error relative to the largest element. Default 0: whole numbers come out exactly, in any order of additions. */
  readonly tolerance?: number;
}

/** A list of numbers that looks random and is the same everywhere, in [0, 1). */
export function noise(seed: number, size: number): Float64Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Float64Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 24;
  });
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((p, d) => p * d, 1);

/** Whole numbers from -3 to 3: sums of their products are exact in f32, and they are exact in half precision. */
export const whole = (seed: number, shape: readonly number[]): Operand => ({
  shape,
  data: noise(seed, sizeOf(shape)).map((x) => Math.floor(x * 7) - 3),
});

/** Numbers in (-1, 1) as f32 holds them. */
export const real = (seed: number, shape: readonly number[]): Operand => ({
  shape,
  data: Float64Array.from(Float32Array.from(noise(seed, sizeOf(shape)), (x) => 2 * x - 1)),
});

/** Whole numbers in [0, high), as indices. */
export const index = (seed: number, shape: readonly number[], high: number): Operand => ({
  shape,
  data: noise(seed, sizeOf(shape)).map((x) => Math.floor(x * high)),
  dtype: "i32",
});

/** The operand on the default device. */
export const upload = ({ shape, data, dtype = "f32" }: Operand): Tensor =>
  tensor(dtype === "f32" ? Float32Array.from(data) : Int32Array.from(data), { shape: [...shape], dtype });

/** `f` of each place of a space of this shape, in row-major order. */
export function fill(shape: readonly number[], f: (...at: number[]) => number): Float64Array {
  const at = shape.map(() => 0);
  return Float64Array.from({ length: sizeOf(shape) }, () => {
    const value = f(...at);
    for (let d = shape.length - 1; d >= 0; d--) {
      if (++at[d]! < shape[d]!) break;
      at[d] = 0;
    }
    return value;
  });
}
