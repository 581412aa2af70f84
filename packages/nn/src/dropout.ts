// dropout.ts: zeroes elements at random while training.
import { bernoulli, mul, type Tensor, ValueError, where } from "@mc/tensor";

/**
 * Zeroes each element with probability `rate` and divides the others by `1 - rate`, so that the mean stays. The same key gives
 * the same elements; use a new one each step (`foldIn(key, step)`), and a different one for each place.
 *
 * @param rate - in [0, 1); 0 returns `x`
 * @throws ValueError for other rates
 * @example dropout(key(1), ones([4]), 0.5) // zeros and twos
 */
export function dropout(key: Tensor, x: Tensor, rate: number): Tensor {
  if (!(rate >= 0 && rate < 1)) throw new ValueError(`dropout: rate must be in [0, 1), got ${rate}`);
  if (rate === 0) return x;
  return where(bernoulli(key, x.shape, 1 - rate), mul(x, 1 / (1 - rate)), 0);
}
