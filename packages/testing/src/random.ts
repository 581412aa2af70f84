// random.ts: a small seeded generator for test data on the host, equal in Node and in browsers.

/** Uniform numbers from a seed. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** A whole number in [low, high). */
  integer(low: number, high: number): number;
  /** Approximately normal: mean 0, deviation 1. */
  normal(): number;
  /** True with probability p. */
  chance(p: number): boolean;
  /** One of the choices, all equally likely. */
  pick<T>(choices: readonly T[]): T;
}

/**
 * The generator for a seed (splitmix32): the same seed gives the same numbers everywhere.
 *
 * @example
 * random(7).integer(0, 10);
 */
export function random(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 4294967296;
  };
  const integer = (low: number, high: number): number => low + Math.floor(next() * (high - low));
  return {
    next,
    integer,
    // sum of twelve uniforms: mean 6, variance 1, and no logarithm whose last bit could differ between hosts
    normal: () => {
      let sum = -6;
      for (let i = 0; i < 12; i++) sum += next();
      return sum;
    },
    chance: (p) => next() < p,
    pick: (choices) => choices[integer(0, choices.length)]!,
  };
}
