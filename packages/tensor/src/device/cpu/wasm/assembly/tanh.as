// tanh for f32 values, in operations that every machine rounds alike.

import { expFlushed4 } from "./exp";

/** u = 1 - tanh |x| = 2 / (e^2|x| + 1). */
// @ts-ignore: decorator
@inline
export function tanhGap4(x: v128): v128 {
  const e = expFlushed4(f32x4.mul(f32x4.splat(2), f32x4.abs(x)));
  return f32x4.div(f32x4.splat(2), f32x4.add(e, f32x4.splat(1)));
}

/** tanh x, given its gap: an odd polynomial for |x| < 0.625 (Moshier, Cephes tanhf), else 1 - u with the sign of x. */
// @ts-ignore: decorator
@inline
export function tanh4(x: v128, gap: v128): v128 {
  const z = f32x4.mul(x, x);
  let y = f32x4.splat(-5.70498872745e-3);
  y = f32x4.add(f32x4.mul(y, z), f32x4.splat(2.06390887954e-2));
  y = f32x4.add(f32x4.mul(y, z), f32x4.splat(-5.37397155531e-2));
  y = f32x4.add(f32x4.mul(y, z), f32x4.splat(1.33314422036e-1));
  y = f32x4.add(f32x4.mul(y, z), f32x4.splat(-3.33332819422e-1));
  const near = f32x4.add(f32x4.mul(f32x4.mul(y, z), x), x);
  const far = v128.or(f32x4.sub(f32x4.splat(1), gap), v128.and(x, i32x4.splat(i32.MIN_VALUE)));
  return v128.bitselect(near, far, f32x4.lt(f32x4.abs(x), f32x4.splat(0.625)));
}

/** 1 - tanh^2 x = u (2 - u), given its gap: no digits cancel far out. */
// @ts-ignore: decorator
@inline
export function tanhSlope4(gap: v128): v128 {
  return f32x4.mul(gap, f32x4.sub(f32x4.splat(2), gap));
}
