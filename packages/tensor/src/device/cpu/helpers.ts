// device/cpu/helpers.ts: functions that generated JavaScript calls.

// 2 / sqrt(pi)
const TWO_OVER_SQRT_PI = 1.1283791670955126;

/**
 * erf in double precision. Abramowitz & Stegun 7.1.6 below 2.5 (all terms positive, no cancellation):
 *   erf(x) = 2/sqrt(pi) e^(-x^2) sum_n 2^n x^(2n+1) / (1*3*...*(2n+1));
 * above it the continued fraction 7.1.14 of the complement.
 */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (!(a < 6)) return Number.isNaN(x) ? x : Math.sign(x);
  let y: number;
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * a * a) / (2 * n + 1);
      sum += term;
    }
    y = TWO_OVER_SQRT_PI * Math.exp(-a * a) * sum;
  } else {
    let f = 0;
    for (let k = 60; k > 0; k--) f = k / 2 / (a + f);
    y = 1 - (TWO_OVER_SQRT_PI / 2) * (Math.exp(-a * a) / (a + f));
  }
  return x < 0 ? -y : y;
}

/** 2^(i - 150): every power of two that matters in single precision. */
export const powersOfTwo = Float64Array.from({ length: 279 }, (_, i) => 2 ** (i - 150));

/** WGSL's i32(f32): truncate, saturate, NaN gives 0. */
export function toI32(x: number): number {
  return x >= 2147483647 ? 2147483647 : x <= -2147483648 ? -2147483648 : x | 0;
}

/** WGSL's u32(f32): likewise; what is below 0 gives 0. */
export function toU32(x: number): number {
  return x >= 4294967295 ? 4294967295 : x > 0 ? x >>> 0 : 0;
}
