// compare.ts: how two sets of numbers differ.

/** Numbers in a row: a typed array or a plain one. */
export type Numbers = ArrayLike<number>;

/** Allowed difference: `|actual - expected| <= atol + rtol * |expected|`. */
export interface Tolerance {
  /** Relative to the expected value; default 1e-5. */
  readonly rtol?: number;
  /** Absolute; default 1e-6. */
  readonly atol?: number;
}

/** The worst place where two arrays differ by more than allowed. */
export interface Mismatch {
  readonly index: number;
  readonly actual: number;
  readonly expected: number;
  /** Places that differ by more than allowed. */
  readonly count: number;
}

const bits = new DataView(new ArrayBuffer(8));

/** NaN by its bits: a comparison of a value with itself is what some drivers and optimizers fold away. */
export function isNaNByBits(value: number): boolean {
  bits.setFloat64(0, value);
  const high = bits.getUint32(0);
  return (high & 0x7ff00000) === 0x7ff00000 && ((high & 0xfffff) | bits.getUint32(4)) !== 0;
}

/**
 * The worst difference beyond the tolerance, or undefined when all elements are close. NaN equals NaN and nothing else;
 * an infinity equals itself only.
 *
 * @throws Error when the lengths differ
 */
export function findMismatch(
  actual: Numbers,
  expected: Numbers,
  { rtol = 1e-5, atol = 1e-6 }: Tolerance = {},
): Mismatch | undefined {
  if (actual.length !== expected.length)
    throw new Error(`findMismatch: lengths must agree, got ${actual.length} and ${expected.length}`);
  let worst = -1;
  let worstExcess = 0;
  let count = 0;
  for (let i = 0; i < actual.length; i++) {
    const a = actual[i]!;
    const e = expected[i]!;
    if (a === e) continue;
    const aNaN = isNaNByBits(a);
    const eNaN = isNaNByBits(e);
    if (aNaN && eNaN) continue;
    // a finite pair may differ by the tolerance; NaN against a number, or an infinity against anything else, never
    const finite = Number.isFinite(a) && Number.isFinite(e);
    const excess = finite ? Math.abs(a - e) / (atol + rtol * Math.abs(e)) : Number.POSITIVE_INFINITY;
    if (excess <= 1) continue;
    count++;
    if (worst < 0 || excess > worstExcess) {
      worst = i;
      worstExcess = excess;
    }
  }
  return worst < 0 ? undefined : { index: worst, actual: actual[worst]!, expected: expected[worst]!, count };
}

/**
 * Distance in the 2-norm relative to a length: `|actual - expected| / |expected - origin|`, where `origin` defaults to zero.
 * 0 when both distances vanish, infinity when only the denominator does; NaN in either array gives NaN.
 *
 * @param origin where a trajectory began: the error is then relative to the change since the start
 * @throws Error when the lengths differ
 * @example
 * relativeError([3, 4.005], [3, 4]); // 0.001
 */
export function relativeError(actual: Numbers, expected: Numbers, origin?: Numbers): number {
  if (actual.length !== expected.length)
    throw new Error(`relativeError: lengths must agree, got ${actual.length} and ${expected.length}`);
  let error = 0;
  let length = 0;
  for (let i = 0; i < actual.length; i++) {
    const d = actual[i]! - expected[i]!;
    const e = expected[i]! - (origin ? origin[i]! : 0);
    error += d * d;
    length += e * e;
  }
  return error === 0 ? 0 : Math.sqrt(error / length);
}
