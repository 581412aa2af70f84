// smallFloats.ts: IEEE 754 numbers of 16 bits, as files hold them: binary16 (F16) and the upper half of binary32 (BF16).

interface Format {
  readonly exponentBits: number;
  readonly fractionBits: number;
}

const FORMATS = {
  F16: { exponentBits: 5, fractionBits: 10 },
  BF16: { exponentBits: 8, fractionBits: 7 },
} as const satisfies Record<string, Format>;

/** Floats of 16 bits. */
export type SmallFloat = keyof typeof FORMATS;

/** The values of 16-bit patterns, exactly. */
export function widen(patterns: Uint16Array, type: SmallFloat): Float32Array {
  const out = new Float32Array(patterns.length);
  if (type === "BF16") {
    const bits = new Uint32Array(out.buffer);
    for (let i = 0; i < patterns.length; i++) bits[i] = patterns[i]! << 16;
  } else {
    halves ??= Float32Array.from({ length: 2 ** 16 }, (_, pattern) => halfValue(pattern));
    for (let i = 0; i < patterns.length; i++) out[i] = halves[patterns[i]!]!;
  }
  return out;
}

let halves: Float32Array | undefined;

function halfValue(pattern: number): number {
  const sign = pattern & 0x8000 ? -1 : 1;
  const exponent = (pattern >> 10) & 31;
  const fraction = pattern & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * The 16-bit patterns nearest to the values, ties to the even one; values past the largest become infinite. Exact for what
 * `widen` gave.
 */
export function narrow(values: Float32Array | Float64Array, type: SmallFloat): Uint16Array {
  const { exponentBits, fractionBits } = FORMATS[type];
  const bias = 2 ** (exponentBits - 1) - 1;
  const lowest = 1 - bias; // exponent of the smallest normal number
  const infinity = (2 ** exponentBits - 1) * 2 ** fractionBits;
  // 1 / (distance of neighbours) for each exponent from the lowest
  const scales = Float64Array.from({ length: 2 * bias }, (_, i) => 2 ** (fractionBits - lowest - i));
  const scratch = new Float64Array(1);
  const words = new Uint32Array(scratch.buffer); // every host is little-endian
  const out = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    scratch[0] = value;
    const sign = (words[1]! >>> 31) << 15;
    const exponent = Math.max(((words[1]! >>> 20) & 0x7ff) - 1023, lowest);
    let pattern: number;
    if (exponent > bias) pattern = Number.isNaN(value) ? infinity + 2 ** (fractionBits - 1) : infinity;
    else {
      // value = fraction * 2^(exponent - fractionBits); adding 2^52 leaves no room for less than a whole number.
      // A fraction that reaches the next power of two carries into the exponent, as it should.
      const fraction = Math.abs(value) * scales[exponent - lowest]! + 2 ** 52 - 2 ** 52;
      pattern = Math.min((exponent - lowest) * 2 ** fractionBits + fraction, infinity);
    }
    out[i] = sign | pattern;
  }
  return out;
}
