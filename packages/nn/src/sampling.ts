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
  const best = mostLikely(logits);
  if (temperature === 0 || logits[best] === Number.POSITIVE_INFINITY) return best;
  const weightOf = (logit: number): number => Math.exp((logit - logits[best]!) / temperature);
  const everything = topK >= logits.length && topP === 1;
  const { least, ties } = everything
    ? { least: Number.NEGATIVE_INFINITY, ties: 0 }
    : keptOf(logits, topK, topP, weightOf);
  let tiesLeft = ties;
  let total = 0;
  const weights = Float64Array.from(logits, (logit) => {
    const kept = logit > least || (logit === least && tiesLeft-- > 0);
    const weight = kept ? weightOf(logit) : 0;
    total += weight;
    return weight;
  });
  let rest = random() * total;
  const drawn = weights.findIndex((weight) => (rest -= weight) < 0);
  return drawn < 0 ? weights.findLastIndex((weight) => weight > 0) : drawn; // rounding may leave a rest behind the last one
}

/** The first of the largest logits. */
function mostLikely(logits: ArrayLike<number>): number {
  let best = -1;
  let largest = Number.NEGATIVE_INFINITY;
  for (let token = 0; token < logits.length; token++) {
    if (!(logits[token]! > largest)) continue; // NaN is not
    largest = logits[token]!;
    best = token;
  }
  if (best < 0) throw new ValueError("sample: the logits hold no number above -infinity; has the training diverged?");
  return best;
}

/** The smallest logit among the `topK` most likely tokens that it takes to reach the share `topP`, and how many equal to it count. */
function keptOf(
  logits: ArrayLike<number>,
  topK: number,
  topP: number,
  weightOf: (logit: number) => number,
): { least: number; ties: number } {
  const descending = Float64Array.from(logits)
    .filter((logit) => logit > Number.NEGATIVE_INFINITY)
    .sort()
    .reverse()
    .subarray(0, topK);
  const weights = descending.map(weightOf);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let sum = 0;
  const last = weights.findIndex((weight) => (sum += weight) >= topP * total);
  const least = descending.at(last)!; // none reaches a share of 1 where rounding is against it: -1 is the last one
  return { least, ties: (last < 0 ? descending.length : last + 1) - descending.indexOf(least) };
}

/**
 * Uniform numbers in [0, 1) from a seed: the same on every machine.
 *
 * @param seed - an integer; its lower 32 bits count
 * @param stream - an integer: equal seeds give other numbers in each stream; default 0
 * @example const random = randomNumbers(1); random(); // 0.6270739405881613
 */
export function randomNumbers(seed: number, stream = 0): () => number {
  // mulberry32 (Tommy Ettinger 2017, public domain); the stream through the finalizer of MurmurHash3, which leaves 0 alone
  let state = (seed | 0) ^ scramble(stream | 0);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

function scramble(x: number): number {
  let h = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
