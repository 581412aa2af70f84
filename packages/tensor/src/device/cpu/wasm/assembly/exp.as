// e^x for f32, four at a time, within 1 ulp (denormals included), in operations that every machine rounds alike.

/** to[i] = e^from[i] for i < size; whole vectors, so up to 3 more values are read and written. In place is fine. */
export function exp(from: usize, to: usize, size: i32): void {
  const end = from + (size << 2);
  for (; from < end; from += 16) {
    v128.store(to, exp4(v128.load(from)));
    to += 16;
  }
}

// e^x = 2^n e^r with n = round(x / ln 2), r = x - n ln 2 in [-0.35, 0.35]. Polynomial and split of ln 2 from the Cephes
// library's expf (Moshier): n * 0.693359375 is exact. 2^n is applied in two halves, so that only the second one rounds
// where the result is denormal. The bounds are past overflow and past half of the smallest denormal.
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  x = f32x4.pmin(x, f32x4.splat(89)); // pmin and pmax keep a NaN that comes first
  x = f32x4.pmax(x, f32x4.splat(-105));
  const n = f32x4.nearest(f32x4.mul(x, f32x4.splat(1.44269504088896341)));
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let y = f32x4.splat(1.9875691500e-4);
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(1.3981999507e-3));
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(8.3334519073e-3));
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(4.1665795894e-2));
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(1.6666665459e-1));
  y = f32x4.add(f32x4.mul(y, r), f32x4.splat(5.0000001201e-1));
  y = f32x4.add(f32x4.add(f32x4.mul(f32x4.mul(r, r), y), r), f32x4.splat(1));
  const whole = i32x4.trunc_sat_f32x4_s(n);
  const half = i32x4.shr_s(whole, 1);
  return f32x4.mul(f32x4.mul(y, power2(half)), power2(i32x4.sub(whole, half)));
}

// 2^n for |n| <= 126, by its exponent bits
// @ts-ignore: decorator
@inline
function power2(n: v128): v128 {
  return i32x4.shl(i32x4.add(n, i32x4.splat(127)), 23);
}
