// random.ts: seeded random numbers on the host, for shuffling and splitting; they decide an order and never a tensor's values.
import { ValueError } from "@mc/tensor";

/** A deterministic stream of random numbers. The same seed gives the same stream on every machine. */
export interface HostRandom {
  /** The next 32 bits, an integer in [0, 2^32). */
  bits(): number;
  /** The next integer in [0, n), every value equally likely. `n` must be an integer in [1, 2^32]. */
  below(n: number): number;
  /** Where the stream is: `hostRandom` of it goes on from here. */
  state(): RandomState;
}

/** The state of a `HostRandom`, four integers in [0, 2^32); it may be saved as JSON. */
export type RandomState = readonly [a: number, b: number, c: number, counter: number];

/**
 * Small Fast Counter (sfc32): 96 bits of state and a counter, which makes the period at least 2^32.
 *
 *     out = a + b + counter;  a' = b ^ (b >>> 9);  b' = c + (c << 3);  c' = rotl(c, 21) + out
 *
 * The state starts as a = 0, b = seed, c = 0, counter = 1, and twelve outputs are thrown away to mix it, as in PractRand. Use it for orders and
 * splits on the host; tensors get their random numbers from `key` in `@mc/tensor`.
 *
 * @param seed an integer in [0, 2^32), or the `state()` of a stream to go on with
 * @throws ValueError when the seed, or a number of the state, is out of range
 * @example
 * const random = hostRandom(1);
 * random.below(6); // a die
 * const same = hostRandom(random.state()); // gives from now on what `random` gives
 *
 * @see C. Doty-Humphrey, PractRand: https://pracrand.sourceforge.net/RNG_engines.txt
 */
export function hostRandom(seed: number | RandomState): HostRandom {
  const start = typeof seed === "number" ? ([0, seed, 0, 1] as const) : seed;
  if (start.length !== 4 || !start.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32)) {
    throw new ValueError(`hostRandom: seed must be an integer in [0, 2^32) or a state of four such, got ${seed}`);
  }
  let [a, b, c, counter] = start.map((word) => word | 0) as [number, number, number, number];

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

  if (typeof seed === "number") for (let i = 0; i < 12; i++) bits();
  return { bits, below, state: () => [a >>> 0, b >>> 0, c >>> 0, counter >>> 0] };
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
