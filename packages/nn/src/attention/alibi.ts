// attention/alibi.ts: the slopes of attention with linear biases.
import { checkPositive } from "../check.ts";

/**
 * Slopes of ALiBi for `attention(q, k, v, { slopes })`: a geometric sequence that ends in 2^-8. For n heads, n a power of
 * two, head h = 0, 1, ... has slope 2^(-8 (h + 1) / n). For other n: the slopes for the largest power of two p below n, and
 * then every second one of those for 2p, from its first on, as far as needed.
 * Source: Press et al. 2022 (arXiv:2108.12409) and the `get_slopes` of its code.
 *
 * @param numHeads - H, a positive integer
 * @returns H numbers in (0, 1)
 * @throws ValueError if `numHeads` is not a positive integer
 * @example
 * alibiSlopes(4); // [0.25, 0.0625, 0.015625, 0.00390625]
 * alibiSlopes(3); // [0.0625, 0.00390625, 0.25]
 */
export function alibiSlopes(numHeads: number): number[] {
  checkPositive("alibiSlopes", "numHeads", numHeads);
  const power = 2 ** Math.floor(Math.log2(numHeads));
  // for 2p heads the slopes at 0, 2, 4, ... lie between those for p
  const between = geometric(2 * power).filter((_, h) => h % 2 === 0);
  return [...geometric(power), ...between].slice(0, numHeads);
}

/** 2^(-8 (h + 1) / n) for h < n. */
const geometric = (n: number): number[] => Array.from({ length: n }, (_, h) => 2 ** ((-8 * (h + 1)) / n));
