// e^x for f32, in operations that every machine rounds alike.

/**
 * to[i] = e^from[i] for i < size, within 1 ulp, denormals included. Works on 8 values at a time: up to 7 more are read
 * and written. In place is fine.
 */
export function exp(from: usize, to: usize, size: i32): void {
  const end = from + (size << 2);
  // Two vectors a turn, here and in attention, because V8 builds every constant again in every turn.
  for (; from < end; from += 32) {
    const low = exp4(v128.load(from)), high = exp4(v128.load(from, 16));
    v128.store(to, low);
    v128.store(to, high, 16);
    to += 32;
  }
}

// e^x = 2^n e^r with n = round(x / ln 2). 2^n is applied in two halves, so that only the second one rounds where the
// result is denormal. The bounds are past overflow and past half of the smallest denormal.
// @ts-ignore: decorator
@inline
function exp4(x: v128): v128 {
  x = f32x4.pmin(x, f32x4.splat(89)); // pmin and pmax keep a NaN that comes first
  x = f32x4.pmax(x, f32x4.splat(-105));
  const shifted = shiftedQuotient(x);
  const n = i32x4.sub(shifted, f32x4.splat(SHIFT));
  const half = i32x4.shr_s(n, 1);
  return f32x4.mul(f32x4.mul(expRemainder(x, shifted), power2(half)), power2(i32x4.sub(n, half)));
}

/**
 * e^x for x <= 88 as softmax needs it: 0 below -87, where exp would give denormals, which slow processors down a
 * hundredfold (masked scores, at -Infinity, would pass through them too).
 */
// @ts-ignore: decorator
@inline
export function expFlushed4(x: v128): v128 {
  const small = f32x4.lt(x, f32x4.splat(-87));
  x = f32x4.pmin(x, f32x4.splat(88));
  x = f32x4.pmax(x, f32x4.splat(-87));
  const shifted = shiftedQuotient(x);
  return v128.andnot(f32x4.mul(expRemainder(x, shifted), power2(shifted)), small);
}

// Adding 1.5 * 2^23 rounds to an integer n, and leaves n in the low bits of the sum.
const SHIFT: f32 = 12582912;

// @ts-ignore: decorator
@inline
function shiftedQuotient(x: v128): v128 {
  return f32x4.add(f32x4.mul(x, f32x4.splat(1.44269504088896341)), f32x4.splat(SHIFT));
}

// e^r for r = x - n ln 2 in [-0.35, 0.35]. Polynomial and split of ln 2 from the Cephes library's expf (Moshier);
// n * 0.693359375 is exact.
// @ts-ignore: decorator
@inline
function expRemainder(x: v128, shifted: v128): v128 {
  const n = f32x4.sub(shifted, f32x4.splat(SHIFT));
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let y = f32x4.splat(1.9875691500e-4);
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(1.3981999507e-3));
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(8.3334519073e-3));
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(4.1665795894e-2));
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(1.6666665459e-1));
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(5.0000001201e-1));
  return f32x4.add(f32x4.add(f32x4.mul(f32x4.mul(r, r), y), r), f32x4.splat(1));
}

// 2^n for -126 <= n <= 127, by its exponent bits. The bits of SHIFT, if they are in n, are shifted out.
// @ts-ignore: decorator
@inline
function power2(n: v128): v128 {
  return i32x4.shl(i32x4.add(n, i32x4.splat(127)), 23);
}
