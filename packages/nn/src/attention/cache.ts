// attention/cache.ts: what attention keeps of the tokens before, so that the next token costs one row and not a whole sequence.
import { equal, iota, pad, reshape, ShapeError, type Tensor, ValueError, where } from "@mc/tensor";
import { formatShape } from "../check.ts";

/** Keys, normed and rotated, and values of one layer: S places a row, token i at place i. */
export type KeyValueCache = {
  /** f32 [B, Hkv, S, D]. */
  keys: Tensor;
  /** f32 [B, Hkv, S, Dv]. */
  values: Tensor;
};

/** The latents of one layer of latent attention: all heads' keys and values come from them. S places a row, token i at place i. */
export type LatentCache = {
  /** Normed latents c, f32 [B, S, rkv]. */
  latents: Tensor;
  /** Rotated keys k^R, f32 [B, S, dr]. */
  rotaryKeys: Tensor;
};

/** What one layer of attention keeps of the tokens before. */
export type AttentionCache = KeyValueCache | LatentCache;

/** Places of a cache, S. */
export const cacheLengthOf = (cache: AttentionCache): number =>
  "keys" in cache ? cache.keys.shape[2]! : cache.latents.shape[1]!;

/** The first places of a cache of `cacheLength`, filled with tokens along `axis`; zeros behind. */
export function fillCache(tokens: Tensor, axis: number, cacheLength: number): Tensor {
  const given = tokens.shape[axis]!;
  if (!Number.isInteger(cacheLength) || cacheLength < given) {
    throw new ValueError(
      `prefill: cacheLength must be an integer of at least the ${given} tokens of the prompt, got ${cacheLength}`,
    );
  }
  return pad(
    tokens,
    tokens.shape.map((_, i): [number, number] => [0, i === axis ? cacheLength - given : 0]),
  );
}

/**
 * The cache with one token a row put at its place. Reads and writes each element at the same place, so that a donated cache is
 * written where it lies.
 *
 * @param cache - [B, ..., S, D]
 * @param token - [B, ..., 1, D]
 * @param positions - i32 [B]
 */
export function putInCache(cache: Tensor, token: Tensor, positions: Tensor): Tensor {
  const places = iota([cache.shape.at(-2)!, 1], 0, { device: cache.device });
  const here = equal(places, overRows(positions, cache.ndim));
  return where(here, token, cache);
}

/** positions [B] with axes of one behind. */
export const overRows = (positions: Tensor, ndim: number): Tensor =>
  reshape(positions, [positions.shape[0]!, ...new Array<number>(ndim - 1).fill(1)]);

/** Throws ShapeError unless x is [B, 1, D], and positions and cache belong to it. */
export function checkDecode(x: Tensor, positions: Tensor, cache: AttentionCache): void {
  const held = "keys" in cache ? cache.keys : cache.latents;
  const [batch, tokens] = x.shape;
  if (x.ndim !== 3 || tokens !== 1)
    throw new ShapeError(`decode: x must be one token a row, [B, 1, D], got shape ${formatShape(x.shape)}`);
  if (positions.ndim !== 1 || positions.shape[0] !== batch || positions.dtype !== "i32") {
    throw new ShapeError(
      `decode: positions must be i32 [${batch}], one for each row, got ${positions.dtype} ${formatShape(positions.shape)}`,
    );
  }
  if (held.shape[0] !== batch)
    throw new ShapeError(`decode: the cache holds ${held.shape[0]} rows, got ${batch} tokens; make one row for each`);
}
