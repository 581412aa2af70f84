// attention/decode.ts: attention of one new token a row to the tokens that a cache holds.
import {
  add,
  cast,
  div,
  exp,
  greaterEqual,
  iota,
  less,
  logicalAnd,
  matmul,
  max,
  maximum,
  mT,
  mul,
  reshape,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
  where,
} from "@mc/tensor";
import { type KeyValueCache, overRows } from "./cache.ts";

/** The options of `attention` that count for one token. */
export interface DecodeOptions {
  readonly window?: number;
  readonly softCap?: number;
  readonly slopes?: readonly number[];
  readonly sinks?: Tensor;
}

/**
 * `attention` for one query a row: the token at place `positions[b]` of row b, whose key and value are in the cache already.
 *
 * @param q - f32 [B, H, D]
 * @param positions - i32 [B]; a position outside of the cache gives NaN
 * @returns f32 [B, H, Dv]
 */
export function attendToCache(
  q: Tensor,
  { keys, values }: KeyValueCache,
  positions: Tensor,
  { scale, ...options }: DecodeOptions & { readonly scale: number },
): Tensor {
  const [batch, heads, size] = q.shape as [number, number, number];
  const keyHeads = keys.shape[1]!;
  const scores = matmul(reshape(q, [batch, keyHeads, heads / keyHeads, size]), mT(keys));
  const weights = cacheWeights(mul(scores, scale), positions, options);
  return reshape(matmul(weights, values), [batch, heads, values.shape[3]!]);
}

/**
 * Softmax over the places that a token sees, from its scaled scores: the same steps as the softmax's inputs in `attention`.
 *
 * @param scores - f32 [B, Hkv, H / Hkv, S]
 * @param positions - i32 [B]
 * @returns weights in the shape of the scores
 */
export function cacheWeights(
  scores: Tensor,
  positions: Tensor,
  { window, softCap, slopes, sinks }: DecodeOptions,
): Tensor {
  const { device, shape } = scores;
  const [, keyHeads, group, length] = shape as [number, number, number, number];
  const perHead = (x: Tensor): Tensor => reshape(x, [keyHeads, group, 1]);
  const mine = overRows(positions, 4);
  const distance = sub(mine, iota([length], 0, { device })); // i - j, [B, 1, 1, S]

  const capped = softCap === undefined ? scores : mul(tanh(div(scores, softCap)), softCap);
  const biased = slopes
    ? sub(capped, mul(perHead(tensor(slopes, { dtype: "f32", device })), cast(distance, "f32")))
    : capped;
  const past = greaterEqual(distance, 0);
  const visible = window === undefined ? past : logicalAnd(past, less(distance, window));
  const inside = logicalAnd(greaterEqual(mine, 0), less(mine, length)); // else the token itself is not in the cache
  const inputs = where(inside, where(visible, biased, Number.NEGATIVE_INFINITY), Number.NaN);

  const largest = max(inputs, { axis: -1, keepDims: true });
  const shift = sinks ? maximum(largest, perHead(sinks)) : largest;
  const e = exp(sub(inputs, shift));
  const total = sum(e, { axis: -1, keepDims: true });
  return div(e, sinks ? add(total, exp(sub(perHead(sinks), shift))) : total);
}
