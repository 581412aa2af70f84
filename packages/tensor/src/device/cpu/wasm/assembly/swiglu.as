// The gated activation of SwiGLU: s = sigmoid(g), y = u g s, on rows that hold F gates and then F linear values.
// Rows are padded: up to 3 values past the end of a row are read and written.

import { expFlushed4 } from "./exp";

/** y[i] = u[i] g[i] s[i], for `rows` rows of `size` values: `from` has 2 * stride values a row, g at 0 and u at stride. */
export function swiglu(from: usize, to: usize, rows: i32, size: i32, stride: i32): void {
  const step = stride << 2;
  for (let r = 0; r < rows; r++) {
    for (let i = 0, end = size << 2; i < end; i += 16) {
      const g = v128.load(from + i), u = v128.load(from + step + i);
      v128.store(to + i, f32x4.mul(u, f32x4.mul(g, sigmoid4(g))));
    }
    from += step << 1;
    to += step;
  }
}

/** dg = dy u s (1 + g (1 - s)) and du = dy g s, in the layout of `from`. */
export function swigluBackward(from: usize, dy: usize, to: usize, rows: i32, size: i32, stride: i32): void {
  const step = stride << 2;
  for (let r = 0; r < rows; r++) {
    for (let i = 0, end = size << 2; i < end; i += 16) {
      const g = v128.load(from + i), u = v128.load(from + step + i), d = v128.load(dy + i);
      const s = sigmoid4(g);
      const ds = f32x4.mul(d, s);
      const slope = f32x4.add(f32x4.splat(1), f32x4.mul(g, f32x4.sub(f32x4.splat(1), s)));
      v128.store(to + i, f32x4.mul(f32x4.mul(ds, u), slope));
      v128.store(to + step + i, f32x4.mul(ds, g));
    }
    from += step << 1;
    to += step << 1;
    dy += step;
  }
}

// 1 / (1 + e^-x), from e^-|x|, which does not overflow; NaN passes.
// @ts-ignore: decorator
@inline
function sigmoid4(x: v128): v128 {
  const e = expFlushed4(f32x4.neg(f32x4.abs(x)));
  const one = f32x4.splat(1);
  const numerator = v128.bitselect(e, one, f32x4.lt(x, f32x4.splat(0)));
  return f32x4.div(numerator, f32x4.add(one, e));
}
