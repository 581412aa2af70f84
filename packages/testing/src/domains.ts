// domains.ts: where an op's inputs are drawn from, so that its values and gradients are defined and can be compared.
import type { DType } from "@mc/tensor";
import type { Random } from "./random.ts";

/** A dtype and a way to draw one element. f32 draws are exactly representable, so that float64 and float32 see the same input. */
export interface Domain {
  readonly dtype: DType;
  readonly draw: (random: Random) => number;
}

const f32 = (draw: (random: Random) => number): Domain => ({ dtype: "f32", draw: (r) => Math.fround(draw(r)) });

/** Normal numbers, mean 0, deviation 1. */
export const anyNumber: Domain = f32((r) => r.normal());

/** In [0.25, 3): for logarithms, roots and divisors. */
export const positive: Domain = f32((r) => 0.25 + 2.75 * r.next());

/** Either sign, magnitude in [0.25, 2.25): no zero, no kink near it. */
export const awayFromZero: Domain = f32((r) => (r.chance(0.5) ? 1 : -1) * (0.25 + 2 * r.next()));

/** In [-4, 4] with a distance of at least 0.2 from every whole number: for floor, ceil and mod. */
export const awayFromIntegers: Domain = f32((r) => r.integer(-4, 4) + 0.2 + 0.6 * r.next());

/** Whole numbers -5..5 as i32. */
export const smallIntegers: Domain = { dtype: "i32", draw: (r) => r.integer(-5, 6) };

/** Whole numbers -5..5 without 0 as i32: divisors. */
export const nonZeroIntegers: Domain = { dtype: "i32", draw: (r) => (r.chance(0.5) ? 1 : -1) * r.integer(1, 6) };

/** Whole numbers 0..7 as u32: also valid shift distances. */
export const smallNaturals: Domain = { dtype: "u32", draw: (r) => r.integer(0, 8) };

/** All 32 bits, as u32. */
export const words: Domain = { dtype: "u32", draw: (r) => r.integer(0, 0x100000000) };

/** Truth values. */
export const bool: Domain = { dtype: "bool", draw: (r) => r.integer(0, 2) };

/** Valid positions in an axis of the given length, as i32. */
export const indicesInto = (length: number): Domain => ({ dtype: "i32", draw: (r) => r.integer(0, length) });

/** Numbers that no two draws share, so that sorting and maxima have no ties. */
export const distinct = (): Domain => {
  const seen = new Set<number>();
  return f32((r) => {
    for (;;) {
      const value = Math.round(r.normal() * 2 ** 20) / 2 ** 20;
      if (seen.has(value)) continue;
      seen.add(value);
      return value;
    }
  });
};
