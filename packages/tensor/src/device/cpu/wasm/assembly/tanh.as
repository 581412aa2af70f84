// A soft cap on f32 values, in operations that every machine rounds alike.

import { expFlushed4 } from "./exp";

/** c tanh(x / c). */
// @ts-ignore: decorator
@inline
export function capped4(x: v128, c: v128): v128 {
  return f32x4.mul(c, tanh4(f32x4.div(x, c)));
}

/** Its derivative by x, 1 - tanh^2(x / c) = u (2 - u) with u = 1 - tanh |x / c|: no digits cancel far out. */
// @ts-ignore: decorator
@inline
export function cappedSlope4(x: v128, c: v128): v128 {
  const u = distanceToOne(f32x4.div(x, c));
  return f32x4.mul(u, f32x4.sub(f32x4.splat(2), u));
}

// Odd polynomial for |x| < 0.625 (Moshier, Cephes tanhf), else 1 - 2 / (e^2|x| + 1) with the sign of x.
// @ts-ignore: decorator
@inline
function tanh4(x: v128): v128 {
  const z = f32x4.mul(x, x);
  let y = f32x4.splat(-5.70498872745e-3);
  y = f32x4.add(f32x4.mul(y, z), f32x4.splat(2.06390887954e-2));
  y = f32x4.add(f32x4.mul(y, z), f32x4.splat(-5.37397155531e-2));
  y = f32x4.add(f32x4.mul(y, z), f32x4.splat(1.33314422036e-1));
  y = f32x4.add(f32x4.mul(y, z), f32x4.splat(-3.33332819422e-1));
  const near = f32x4.add(f32x4.mul(f32x4.mul(y, z), x), x);
  const sign = v128.and(x, i32x4.splat(i32.MIN_VALUE));
  const far = v128.or(f32x4.sub(f32x4.splat(1), distanceToOne(x)), sign);
  return v128.bitselect(near, far, f32x4.lt(f32x4.abs(x), f32x4.splat(0.625)));
}

// 1 - tanh |x| = 2 / (e^2|x| + 1)
// @ts-ignore: decorator
@inline
function distanceToOne(x: v128): v128 {
  const e = expFlushed4(f32x4.mul(f32x4.splat(2), f32x4.abs(x)));
  return f32x4.div(f32x4.splat(2), f32x4.add(e, f32x4.splat(1)));
}
