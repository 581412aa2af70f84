// random.ts: seeded random numbers on the host, for shuffling and splitting; they decide an order and never a tensor's values.
import { ValueError } from "@mc/tensor";

/** A deterministic stream of random numbers. The same seed gives the same stream on every machine. */
export interface HostRandom {
  /** The next 32 bits, an integer in [0, 2^32). */
  bits(): number;
  /** The next integer in [0, n), every value equally likely. `n` must be an integer in [1, 2^32]. */
  below(n: number): number;
}

/**
 * Small Fast Counter (sfc32): 96 bits of state and a counter, which makes the period at least 2^32.
 *
 *     out = a + b + counter;  a' = b ^ (b >>> 9);  b' = c + (c << 3);  c' = rotl(c, 21) + out
 *
 * The state starts as a = 0, b = seed, c = 0, counter = 1, and twelve outputs are thrown away to mix it, as in PractRand. Use it for orders and
 * splits on the host; tensors get their random numbers from `key` in `@mc/tensor`.
 *
 * @param seed an integer in [0, 2^32)
 * @throws ValueError when the seed is out of range
 * @example
 * const random = hostRandom(1);
 * random.below(6); // a die
 *
 * @see C. Doty-Humphrey, PractRand: https://pracrand.sourceforge.net/RNG_engines.txt
 */
export function hostRandom(seed: number): HostRandom {
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) {
    throw new ValueError(`hostRandom: seed must be an integer in [0, 2^32), got ${seed}`);
  }
  let a = 0;
  let b = seed | 0;
  let c = 0;
  let counter = 1;

  function bits(): number {
    const out = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + out) | 0;
    return out >>> 0;
  }

  function below(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
      throw new ValueError(`below: n must be an integer in [1, 2^32], got ${n}`);
    }
    // The last, incomplete run of n values is rejected: without that, small results would be likelier.
    const limit = 2 ** 32 - (2 ** 32 % n);
    let value = bits();
    while (value >= limit) value = bits();
    return value % n;
  }

  for (let i = 0; i < 12; i++) bits();
  return { bits, below };
}

/**
 * The integers 0 to n-1 in random order (Fisher-Yates: swap each place, from the last, with one at or before it), so that every
 * order is equally likely as far as the stream allows.
 *
 * @param n how many, an integer >= 0
 * @param random the stream to draw from; it is advanced by n - 1 draws or a few more
 * @example
 * permutation(3, hostRandom(1)); // an Int32Array with 0, 1 and 2 in some order
 *
 * @see R. Durstenfeld, Algorithm 235: Random permutation, CACM 7 (1964)
 */
export function permutation(n: number, random: HostRandom): Int32Array {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const swapped = order[i]!;
    order[i] = order[j]!;
    order[j] = swapped;
  }
  return order;
}
