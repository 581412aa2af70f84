// device/webgpu/helpers.ts: WGSL functions that generated code may call, and the way literals are written.
// They exist where WGSL leaves room: NaN, infinities, large arguments, and accuracy (WGSL's log, pow, sin and tanh may be
// off by 1e-3). A function is part of a module only when something in the module names it.
import type { DType } from "../../dtype.ts";

/** WGSL type of a value; storage holds bool as u32. */
export const wgslType = (dtype: DType): string => dtype;

/** WGSL type of an element in a storage buffer. */
export const storageType = (dtype: DType): string => (dtype === "bool" ? "u32" : dtype);

const bits = (x: number): number => new Uint32Array(new Float32Array([x]).buffer)[0]!;

/**
 * A constant as WGSL text. Const-expressions must not be infinite or NaN, and compilers were seen to merge 0 and -0, so
 * those go through functions; denormals are written by their bits; negative numbers are in parentheses, because `--` is a
 * token.
 */
export function wgslLiteral(value: number, dtype: DType): string {
  switch (dtype) {
    case "bool":
      return value ? "true" : "false";
    case "u32":
      return `${value >>> 0}u`;
    case "i32":
      return `i32(${value | 0})`;
    case "f32": {
      const x = Math.fround(value);
      if (Number.isNaN(x)) return "mc_nan()";
      if (x === Infinity) return "mc_infinity()";
      if (x === -Infinity) return "(-mc_infinity())";
      if (Object.is(x, -0)) return "mc_negativeZero()";
      if (x !== 0 && Math.abs(x) < 1.1754943508222875e-38) return `bitcast<f32>(${bits(x)}u)`;
      const text = `${x}`;
      return x < 0 ? `(${text}f)` : `${text}f`;
    }
  }
}

/** Every helper by name. The order is the order of declaration in a module. */
const helpers: Record<string, string> = {
  // a `var` keeps the bits out of constant evaluation
  mc_infinity: `fn mc_infinity() -> f32 { var b = 0x7f800000u; return bitcast<f32>(b); }`,

  mc_nan: `fn mc_nan() -> f32 { var b = 0x7fc00000u; return bitcast<f32>(b); }`,

  mc_negativeZero: `fn mc_negativeZero() -> f32 { var b = 0x80000000u; return bitcast<f32>(b); }`,

  // some drivers say x != x is false for NaN: look at the bits
  mc_isNaN: `fn mc_isNaN(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }`,

  mc_isFinite: `fn mc_isFinite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }`,

  // NaN wins, as in JavaScript and PyTorch; WGSL's max(NaN, 1) may be 1
  mc_max: `fn mc_max(a: f32, b: f32) -> f32 { return select(select(max(a, b), b, mc_isNaN(b)), a, mc_isNaN(a)); }`,

  mc_min: `fn mc_min(a: f32, b: f32) -> f32 { return select(select(min(a, b), b, mc_isNaN(b)), a, mc_isNaN(a)); }`,

  mc_sign: `fn mc_sign(x: f32) -> f32 { return select(sign(x), x, mc_isNaN(x)); }`,

  // the upper 12 bits of the significand: products of two such numbers are exact
  mc_high: `fn mc_high(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }`,

  // order-preserving map to u32 for argmax: -inf < ... < -0 = 0 < ... < inf < NaN
  mc_order: `fn mc_order(x: f32) -> u32 {
  let u = bitcast<u32>(x);
  let magnitude = u & 0x7fffffffu;
  let key = select(u | 0x80000000u, ~u, (u >> 31u) == 1u && magnitude != 0u);
  return select(key, 0xffffffffu, magnitude > 0x7f800000u);
}`,

  // saturating; NaN gives 0
  mc_toI32: `fn mc_toI32(x: f32) -> i32 {
  if (mc_isNaN(x)) { return 0; }
  if (x >= 2147483648.0) { return 2147483647; }
  if (x <= -2147483648.0) { return i32(-2147483648); }
  return i32(x);
}`,

  mc_toU32: `fn mc_toU32(x: f32) -> u32 {
  if (mc_isNaN(x) || x <= 0.0) { return 0u; }
  if (x >= 4294967296.0) { return 4294967295u; }
  return u32(x);
}`,

  // remainder with the sign of x: |x| - q |y| with the product in four exact parts, exact for quotients below 2^24; the
  // rounded quotient may be one too large, so the result is brought back into range
  mc_mod: `fn mc_mod(x: f32, y: f32) -> f32 {
  let a = abs(x);
  let b = abs(y);
  if (!mc_isFinite(x) || mc_isNaN(y) || b == 0.0) { return mc_nan(); }
  if (a < b || !mc_isFinite(y)) { return x; }
  let q = trunc(a / b);
  let qh = mc_high(q);
  let bh = mc_high(b);
  var r = ((a - qh * bh) - qh * (b - bh)) - (q - qh) * bh;
  r -= (q - qh) * (b - bh);
  if (r < 0.0) { r += b; }
  if (r >= b) { r -= b; }
  return select(r, -r, x < 0.0);
}`,

  // the clamp keeps hardware exponentials away from arguments where they were seen to wrap; NaN stays
  mc_exp: `fn mc_exp(x: f32) -> f32 {
  if (mc_isNaN(x)) { return x; }
  if (x > 88.8) { return mc_infinity(); }
  return exp(max(x, -110.0));
}`,

  // ln x = e ln2 + ln m, m in [sqrt(1/2), sqrt(2)); with f = m - 1 and s = f / (2 + f):
  // ln m = 2 atanh(s) = f - s (f - R), R = s^2 (2/3 + 2/5 s^2 + 2/7 s^4 + ...)
  mc_log: `fn mc_log(x: f32) -> f32 {
  if (mc_isNaN(x) || x < 0.0) { return mc_nan(); }
  if (x == 0.0) { return -mc_infinity(); }
  if (!mc_isFinite(x)) { return x; }
  let denormal = x < 1.17549435e-38f;
  let u = bitcast<u32>(select(x, x * 8388608.0, denormal)) - 0x3f3504f3u; // bits of sqrt(1/2)
  let e = f32(bitcast<i32>(u) >> 23u) - select(0.0, 23.0, denormal);
  let f = bitcast<f32>((u & 0x007fffffu) + 0x3f3504f3u) - 1.0;
  let s = f / (2.0 + f);
  let z = s * s;
  let r = z * (0.666666667 + z * (0.4 + z * (0.285714286 + z * (0.222222222 + z * 0.181818182))));
  return e * 0.693359375 + (f - (s * (f - r) + e * 2.12194440e-4)); // ln2 = 0.693359375 - 2.12194440e-4
}`,

  // x^y = 2^(y log2 x) with log2 x and the product kept as sums of two floats: relative error below 3e-7, also for
  // 0.999^10000, where WGSL's pow loses four digits. Special cases as in JavaScript.
  mc_pow: `fn mc_powPositive(x: f32, y: f32) -> f32 {
  // x = 2^e m; ln m = 2 s + s^3 (2/3 + 2/5 s^2 + ...), s = (m - 1) / (m + 1) = sh + sl
  let denormal = x < 1.17549435e-38f;
  let u = bitcast<u32>(select(x, x * 8388608.0, denormal)) - 0x3f3504f3u;
  let e = f32(bitcast<i32>(u) >> 23u) - select(0.0, 23.0, denormal);
  let m = bitcast<f32>((u & 0x007fffffu) + 0x3f3504f3u);
  let f = m - 1.0;
  let s = f / (m + 1.0);
  let sh = mc_high(s);
  let th = mc_high(m + 1.0);
  let tl = m - (th - 1.0);
  let sl = ((f - sh * th) - sh * tl) / (m + 1.0);
  let z = s * s;
  let tail = 2.0 * sl + s * z * (0.666666667 + z * (0.4 + z * (0.285714286 + z * (0.222222222 + z * 0.181818182))));
  // log2 x = e + (2 sh + tail) log2(e), log2(e) = 1.4423828125 + 3.12228389e-4
  let a = 2.0 * sh * 1.4423828125;
  let b = 2.0 * sh * 3.12228389e-4 + tail * 1.44269504;
  let sum = e + a;
  let rest = (a - (sum - e)) + b;
  let lh = mc_high(sum + rest);
  let ll = (sum - lh) + rest;
  // y log2 x = ph + pl
  let yh = mc_high(y);
  let ph = yh * lh;
  let pl = (y - yh) * lh + y * ll;
  let p = ph + pl;
  if (p >= 128.0) { return mc_infinity(); }
  if (p < -150.0) { return 0.0; }
  let n = round(p);
  let r = (ph - n) + pl;
  // 2^r = sum (r ln2)^k / k!
  let t = r * 0.693147181;
  let q = 1.0 + t * (1.0 + t * (0.5 + t * (0.166666667 + t * (0.0416666667 + t * (0.00833333333 + t * (0.00138888889 + t * 0.000198412698))))));
  let half = i32(n) / 2;
  return (q * bitcast<f32>(u32(half + 127) << 23u)) * bitcast<f32>(u32(i32(n) - half + 127) << 23u);
}
fn mc_pow(x: f32, y: f32) -> f32 {
  if (y == 0.0) { return 1.0; }
  if (mc_isNaN(x) || mc_isNaN(y)) { return mc_nan(); }
  let a = abs(x);
  if (!mc_isFinite(y)) {
    if (a == 1.0) { return mc_nan(); }
    return select(0.0, mc_infinity(), (a > 1.0) == (y > 0.0));
  }
  let whole = abs(y) >= 8388608.0 || floor(y) == y;
  let odd = abs(y) < 16777216.0 && whole && (i32(y) & 1) == 1;
  let negative = (bitcast<u32>(x) >> 31u) == 1u;
  var r = 0.0;
  if (a == 0.0 || !mc_isFinite(x)) {
    r = select(0.0, mc_infinity(), (a == 0.0) == (y < 0.0));
  } else {
    if (negative && !whole) { return mc_nan(); }
    r = mc_powPositive(a, y);
  }
  return select(r, -r, negative && odd);
}`,

  // x = n pi/2 + r with pi/2 in three parts (Cody and Waite), then Taylor to r^9 and r^10; good to 1e-7 for |x| < 1e4,
  // and the error grows with |x| after that
  mc_sinQuadrant: `fn mc_sinQuadrant(x: f32, quadrant: i32) -> f32 {
  if (!mc_isFinite(x)) { return mc_nan(); }
  let n = round(x * 0.636619772);
  let r = ((x - n * 1.5703125) - n * 4.83751297e-4) - n * 7.54978995e-8;
  let z = r * r;
  let s = r + r * z * (-0.166666667 + z * (0.00833333333 + z * (-0.000198412698 + z * 2.75573192e-6)));
  let c = 1.0 + z * (-0.5 + z * (0.0416666667 + z * (-0.00138888889 + z * (2.48015873e-5 - z * 2.75573192e-7))));
  let q = mc_toI32(n) + quadrant;
  let y = select(s, c, (q & 1) == 1);
  return select(y, -y, (q & 2) == 2);
}`,

  mc_sin: `fn mc_sin(x: f32) -> f32 { return mc_sinQuadrant(x, 0); }`,

  mc_cos: `fn mc_cos(x: f32) -> f32 { return mc_sinQuadrant(x, 1); }`,

  // |x| < 0.625: odd polynomial (S. Moshier, Cephes tanhf); else 1 - 2 / (e^2x + 1), which is 1 in f32 from 9.02 on
  mc_tanh: `fn mc_tanh(x: f32) -> f32 {
  if (mc_isNaN(x)) { return x; }
  let a = abs(x);
  let z = x * x;
  if (a < 0.625) {
    return x + x * z * (-3.33332819e-1 + z * (1.33314422e-1 + z * (-5.37397155e-2 + z * (2.06390888e-2 - z * 5.70498873e-3))));
  }
  let y = 1.0 - 2.0 / (exp(2.0 * min(a, 10.0)) + 1.0);
  return select(y, -y, x < 0.0);
}`,

  // |x| < 1: Maclaurin series (DLMF 7.6.1), else Abramowitz and Stegun 7.1.26 (error 1.5e-7)
  mc_erf: `fn mc_erf(x: f32) -> f32 {
  if (mc_isNaN(x)) { return x; }
  let a = min(abs(x), 6.0);
  let z = a * a;
  if (a < 1.0) {
    return x * (1.12837917 + z * (-0.376126389 + z * (0.112837917 + z * (-0.0268661706 + z * (0.00522397762 + z * (-8.54832702e-4
      + z * (1.20553330e-4 + z * (-1.49256503e-5 + z * (1.64621143e-6 + z * (-1.63658447e-7 + z * 1.48071928e-8))))))))));
  }
  let t = 1.0 / (1.0 + 0.3275911 * a);
  let y = 1.0 - t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * exp(-z);
  return select(y, -y, x < 0.0);
}`,
};

const usedIn = (code: string): Set<string> =>
  new Set([...code.matchAll(/\bmc_\w+/g)].map((m) => m[0]).filter((name) => name in helpers));

/** The helpers that `code` calls, and those that they call, as WGSL. */
export function helperCode(code: string): string {
  const wanted = new Set<string>();
  const visit = (text: string): void => {
    for (const name of usedIn(text)) {
      if (wanted.has(name)) continue;
      wanted.add(name);
      visit(helpers[name]!);
    }
  };
  visit(code);
  return Object.keys(helpers)
    .filter((name) => wanted.has(name))
    .map((name) => `${helpers[name]}\n`)
    .join("");
}
