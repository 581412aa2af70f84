// sampling.ts: choosing the next token from logits, on the host: one row of numbers is read for each token anyway.
import { ValueError } from "@mc/tensor";

/** How the next token is drawn. */
export interface SamplingOptions {
  /** Divides the logits; 0 takes the most likely token always; default 1. */
  readonly temperature?: number;
  /** Draw among this many most likely tokens; default all. */
  readonly topK?: number;
  /** Draw among the most likely tokens that together have at least this probability (Holtzman et al. 2019, arXiv:1904.09751); default 1. */
  readonly topP?: number;
}

/** Throws ValueError for options out of range. */
export function checkSampling({ temperature = 1, topK, topP = 1 }: SamplingOptions): void {
  if (!(temperature >= 0) || !Number.isFinite(temperature))
    throw new ValueError(`sample: temperature must be a number of at least 0, got ${temperature}`);
  if (topK !== undefined && !(Number.isInteger(topK) && topK >= 1))
    throw new ValueError(`sample: topK must be a positive integer, got ${topK}`);
  if (!(topP > 0 && topP <= 1)) throw new ValueError(`sample: topP must be in (0, 1], got ${topP}`);
}

/**
 * Draws a token. `topK` counts before `topP`; among equals the lower token comes first.
 *
 * @param logits - one row, any numbers; NaN is never drawn
 * @param random - gives uniform numbers in [0, 1), one a call
 * @throws ValueError for options out of range, or if no logit is a number
 * @example sampleToken([0, 5, 1], randomNumbers(1), { temperature: 0 }) // 1
 */
export function sampleToken(logits: ArrayLike<number>, random: () => number, options: SamplingOptions = {}): number {
  checkSampling(options);
  const { temperature = 1, topK = logits.length, topP = 1 } = options;
  const order = Array.from({ length: logits.length }, (_, token) => token).filter(
    (token) => logits[token]! > Number.NEGATIVE_INFINITY,
  );
  if (order.length === 0)
    throw new ValueError("sample: the logits hold no number above -infinity; has the training diverged?");
  order.sort((a, b) => logits[b]! - logits[a]! || a - b);
  const best = order[0]!;
  if (temperature === 0 || logits[best] === Number.POSITIVE_INFINITY) return best;
  const candidates = order.slice(0, topK);
  const weights = candidates.map((token) => Math.exp((logits[token]! - logits[best]!) / temperature));
  const kept = nucleus(weights, topP);
  let rest = random() * weights.slice(0, kept).reduce((sum, w) => sum + w, 0);
  for (let i = 0; i < kept; i++) {
    rest -= weights[i]!;
    if (rest < 0) return candidates[i]!;
  }
  return candidates[kept - 1]!;
}

/** How many of the descending weights it takes to reach the share `topP`. */
function nucleus(weights: readonly number[], topP: number): number {
  const total = weights.reduce((sum, w) => sum + w, 0);
  let sum = 0;
  const last = weights.findIndex((w) => (sum += w) >= topP * total);
  return last < 0 ? weights.length : last + 1;
}

/**
 * Uniform numbers in [0, 1) from a seed: the same on every machine.
 *
 * @param seed - an integer; its lower 32 bits count
 * @example const random = randomNumbers(1); random(); // 0.6270739405881613
 */
export function randomNumbers(seed: number): () => number {
  // mulberry32 (Tommy Ettinger 2017, public domain)
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}
