// attention/selfAttention.ts: the attention of a transformer layer: projections, rotary positions, softmax attention.
import {
  concat,
  expandDims,
  foldIn,
  reshape,
  sliceAxis,
  split,
  squeeze,
  stopGradient,
  swapAxes,
  type Tensor,
  ValueError,
  zeros,
} from "@mc/tensor";
import { checkPositive } from "../check.ts";
import { blocksOf, joinRoles, type Layer } from "../layer.ts";
import { type LinearParams, linear } from "../linear.ts";
import { type NormParams, rmsNorm } from "../norm.ts";
import { type RopeOptions, rope } from "../rope.ts";
import { alibiSlopes } from "./alibi.ts";
import { attention, maxLogitOf } from "./attention.ts";
import { type AttentionCache, cacheLengthOf, checkDecode, fillCache, type KeyValueCache, putInCache } from "./cache.ts";
import { attendToCache } from "./decode.ts";
import type { AttentionHead, AttentionLayout, RowRange } from "./layout.ts";

/** Parameters of `selfAttention`. */
export type SelfAttentionParams = {
  /** Weight [(H + 2 Hkv) * Dh, D]: the rows of all query heads, then key heads, then value heads. */
  qkv: LinearParams;
  /** Weight [D, H * Dh]. */
  output: LinearParams;
  /** Gain [Dh], with `qkNorm`. */
  queryNorm?: NormParams;
  /** Gain [Dh], with `qkNorm`. */
  keyNorm?: NormParams;
  /** A logit a head, f32 [H], with `sinks`. */
  sinks?: Tensor;
};

/** Options of `selfAttention`. */
export interface SelfAttentionOptions {
  /** Width of input and output, D. */
  readonly features: number;
  /** H. */
  readonly numHeads: number;
  /** Hkv, a divisor of H; default H. Fewer is grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245). */
  readonly numKeyValueHeads?: number;
  /** Dh; default D / H. */
  readonly headDim?: number;
  /** Biases of q, k, v and of the output projection; default none. */
  readonly bias?: { readonly qkv: boolean; readonly output: boolean };
  /** RMSNorm of each head's queries and keys before the rotation (Qwen 3); default false. Its logits cannot be clipped. */
  readonly qkNorm?: boolean;
  /** Of the QK-norm; default 1e-6. */
  readonly normEps?: number;
  /** Rotary positions; absent: none. */
  readonly rope?: Pick<RopeOptions, "theta" | "pairing" | "scaling" | "maxPositions">;
  /** A token sees itself and the `window - 1` tokens before it; default null: all before it. */
  readonly window?: number | null;
  /** Logits s become `softCap * tanh(s / softCap)`; default null: they stay. */
  readonly softCap?: number | null;
  /** Logits fall linearly with the distance, in tokens, by `alibiSlopes` (Press et al. 2022, arXiv:2108.12409); default false. */
  readonly alibi?: boolean;
  /** A learned logit a head that takes its share of the softmax and adds no value; zero at first; default false. */
  readonly sinks?: boolean;
  /** What Muon orthogonalises: "matrix", each of q, k and v whole (default), or "head", the rows of each of their heads. */
  readonly muonBlocks?: "matrix" | "head";
  /** Standard deviation of the initial q, k and v weights; default `1 / sqrt(D)`. */
  readonly std?: number;
  /** The same for the output projection; default `1 / sqrt(H * Dh)`. */
  readonly outputStd?: number;
}

/** What the tokens of a batch are. */
export interface TokenInfo {
  /** Position of each token, i32 [B, T]; default 0..T-1. */
  readonly positions?: Tensor | undefined;
  /** Document of each token, i32 [B, T]; default one document a row. See `attention`. */
  readonly documents?: Tensor | undefined;
}

/** What `selfAttention` gives. */
export interface SelfAttentionResult {
  /** [B, T, D]. */
  readonly output: Tensor;
  /** Largest scaled, mask-visible dot product of each head, before soft cap and ALiBi, f32 [H]; not differentiable. */
  readonly maxLogit: Tensor;
  /** The same of each row, f32 [B, H, T]; not differentiable. `maxLogitsOf` takes those of several layers. */
  readonly rowMax: Tensor;
}

/** What attention with a cache gives. */
export interface CachedAttentionResult<Cache> {
  /** [B, T, D]; of `decode` [B, 1, D]. */
  readonly output: Tensor;
  /** With the new tokens in it. */
  readonly cache: Cache;
}

/** A layer of attention, which also knows the rows of each head, and how to go on from tokens it has seen. */
export interface AttentionLayer<Params, Cache extends AttentionCache = AttentionCache>
  extends Layer<Params, [x: Tensor, info?: TokenInfo], SelfAttentionResult> {
  /** Description for QK-Clip, for parameters kept at `path` and maxima at index `layer`. */
  layout(path: string, layer: number): AttentionLayout;
  /**
   * `apply` to the first tokens x [B, T, D] of each row, and a cache of `cacheLength` places with them in it. Rows may end in
   * padding: `decode` writes over it, and tokens see what is before them only.
   *
   * @throws ValueError if the tokens do not fit into the cache
   */
  prefill(params: Params, x: Tensor, cacheLength: number): CachedAttentionResult<Cache>;
  /**
   * One more token a row, x [B, 1, D], at place `positions[b]` (i32 [B]): what `apply` gives for that token after those in the
   * cache at the places before. A position outside of the cache gives NaN. Not for training.
   *
   * @throws ShapeError if x, positions and cache do not belong together
   */
  decode(params: Params, x: Tensor, positions: Tensor, cache: Cache): CachedAttentionResult<Cache>;
}

/**
 * Causal self-attention of x [B, T, D]. q, k and v are one weight and one product; scale is `1 / sqrt(Dh)`.
 *
 * @throws ValueError if the heads do not fit the width, or `window` or `softCap` is out of its range
 * @example
 * const layer = selfAttention({ features: 8, numHeads: 2, rope: {} });
 * const { output, maxLogit } = layer.apply(layer.init(key(1)), ones([1, 5, 8])); // shapes [1, 5, 8] and [2]
 */
export function selfAttention(options: SelfAttentionOptions): AttentionLayer<SelfAttentionParams, KeyValueCache> {
  const {
    features,
    numHeads,
    numKeyValueHeads = numHeads,
    bias = { qkv: false, output: false },
    qkNorm = false,
    window = null,
    softCap = null,
    alibi = false,
    sinks = false,
    std,
    outputStd,
  } = options;
  const headDim = checkHeads(features, numHeads, numKeyValueHeads, options.headDim, options.rope !== undefined);
  const variants = checkVariants(window, softCap, alibi ? alibiSlopes(numHeads) : undefined);
  const rows = [numHeads, numKeyValueHeads, numKeyValueHeads].map((heads) => heads * headDim);
  const allHeads = numHeads + 2 * numKeyValueHeads;
  const blocks = blocksOf(options.muonBlocks === "head" ? new Array<number>(allHeads).fill(headDim) : rows);
  const qkv = linear({
    inFeatures: features,
    outFeatures: allHeads * headDim,
    bias: bias.qkv,
    blocks,
    ...(std && { std }),
  });
  const output = linear({
    inFeatures: numHeads * headDim,
    outFeatures: features,
    bias: bias.output,
    ...(outputStd && { std: outputStd }),
  });
  const headNorm = rmsNorm({ features: headDim, ...(options.normEps && { eps: options.normEps }) });
  const shiftInvariant = !options.rope && !qkNorm && softCap === null && !sinks;

  /** q [B, H, T, Dh], k and v [B, Hkv, T, Dh] of x [B, T, D]: normed and rotated. */
  const project = (params: SelfAttentionParams, x: Tensor, place: Pick<RopeOptions, "positions" | "maxPositions">) => {
    const [batch, tokens] = x.shape as [number, number, number];
    const turn = (heads: Tensor): Tensor =>
      options.rope ? rope(heads, { ...options.rope, sequenceAxis: 1, ...place }) : heads;
    const heads = reshape(qkv.apply(shiftInvariant ? withoutKeyBiasGradient(params.qkv, rows) : params.qkv, x), [
      batch,
      tokens,
      allHeads,
      headDim,
    ]);
    const queriesOf = (all: Tensor): Tensor => sliceAxis(all, 2, 0, numHeads);
    const keysOf = (all: Tensor): Tensor => sliceAxis(all, 2, numHeads, numHeads + numKeyValueHeads);
    let q: Tensor;
    let k: Tensor;
    if (params.queryNorm && params.keyNorm) {
      q = turn(headNorm.apply(params.queryNorm, queriesOf(heads)));
      k = turn(headNorm.apply(params.keyNorm, keysOf(heads)));
    } else {
      const turned = turn(sliceAxis(heads, 2, 0, numHeads + numKeyValueHeads)); // both in one kernel
      q = queriesOf(turned);
      k = keysOf(turned);
    }
    const v = sliceAxis(heads, 2, numHeads + numKeyValueHeads);
    return { q: swapAxes(q, 1, 2), k: swapAxes(k, 1, 2), v: swapAxes(v, 1, 2) };
  };
  const optionsOf = ({ sinks }: SelfAttentionParams) => ({ ...variants, ...(sinks && { sinks }) });
  /** [B, H, T, Dh] to [B, T, D]. */
  const join = (params: SelfAttentionParams, heads: Tensor): Tensor =>
    output.apply(params.output, reshape(swapAxes(heads, 1, 2), [heads.shape[0]!, heads.shape[2]!, numHeads * headDim]));

  return {
    init: (key) => ({
      qkv: qkv.init(foldIn(key, 0)),
      output: output.init(foldIn(key, 1)),
      ...(qkNorm && { queryNorm: headNorm.init(key), keyNorm: headNorm.init(key) }),
      ...(sinks && { sinks: zeros([numHeads], { device: key.device }) }),
    }),
    apply: (params, x, { positions, documents } = {}) => {
      const { q, k, v } = project(params, x, positions ? { positions } : {});
      const result = attention(q, k, v, { ...optionsOf(params), ...(documents && { documents }) });
      return { output: join(params, result.output), maxLogit: maxLogitOf(result.rowMax), rowMax: result.rowMax };
    },
    prefill: (params, x, cacheLength) => {
      const { q, k, v } = project(params, x, {});
      return {
        output: join(params, attention(q, k, v, optionsOf(params)).output),
        cache: { keys: fillCache(k, 2, cacheLength), values: fillCache(v, 2, cacheLength) },
      };
    },
    decode: (params, x, positions, cache) => {
      checkDecode(x, positions, cache);
      const place = { positions: expandDims(positions, 1), maxPositions: cacheLengthOf(cache) };
      const { q, k, v } = project(params, x, place);
      const next = { keys: putInCache(cache.keys, k, positions), values: putInCache(cache.values, v, positions) };
      const scale = headDim ** -0.5;
      const heads = attendToCache(squeeze(q, 2), next, positions, { ...optionsOf(params), scale });
      return { output: join(params, expandDims(heads, 2)), cache: next };
    },
    roles: {
      ...joinRoles({
        qkv: qkv.roles,
        output: output.roles,
        ...(qkNorm && { queryNorm: headNorm.roles, keyNorm: headNorm.roles }),
      }),
      ...(sinks && { sinks: { role: "bias" } }),
    },
    layout: (path, layer) => {
      const range = (start: number): RowRange[] =>
        ["weight", ...(bias.qkv ? ["bias"] : [])].map((name) => ({
          path: `${path}.qkv.${name}`,
          start: start * headDim,
          rows: headDim,
        }));
      const group = numHeads / numKeyValueHeads;
      const heads = Array.from(
        { length: numHeads },
        (_, h): AttentionHead => ({ query: range(h), key: range(numHeads + Math.floor(h / group)) }),
      );
      return { layer, kind: group === 1 ? "mha" : "gqa", numHeads, numKeyValueHeads, qkNorm, heads };
    },
  };
}

/**
 * A bias of the keys shifts all logits of a row alike, and softmax does not see a shift: its gradient is exactly zero. Summed up
 * from rounded parts it would be noise, which Adam divides by itself and turns into whole steps. Rotation and norms after the bias
 * end this, and so do a soft cap and sinks, which see the shift.
 */
function withoutKeyBiasGradient(params: LinearParams, rows: readonly number[]): LinearParams {
  if (!params.bias) return params;
  const [query, key, value] = split(params.bias, rows) as [Tensor, Tensor, Tensor];
  return { ...params, bias: concat([query, stopGradient(key), value]) };
}

/** The options that `attention` and decoding share. */
function checkVariants(window: number | null, softCap: number | null, slopes: readonly number[] | undefined) {
  if (window !== null) checkPositive("attention", "window", window);
  if (softCap !== null && !(softCap > 0 && softCap < Number.POSITIVE_INFINITY))
    throw new ValueError(`attention: softCap must be a positive number, got ${softCap}`);
  return { ...(window !== null && { window }), ...(softCap !== null && { softCap }), ...(slopes && { slopes }) };
}

function checkHeads(
  features: number,
  numHeads: number,
  numKeyValueHeads: number,
  headDim: number | undefined,
  rotary: boolean,
): number {
  checkPositive("attention", "features", features);
  checkPositive("attention", "numHeads", numHeads);
  checkPositive("attention", "numKeyValueHeads", numKeyValueHeads);
  if (headDim === undefined && features % numHeads !== 0) {
    throw new ValueError(
      `attention: numHeads must divide the width, got ${numHeads} heads for width ${features}; choose another number or give headDim`,
    );
  }
  if (numHeads % numKeyValueHeads !== 0) {
    throw new ValueError(
      `attention: numKeyValueHeads must divide numHeads, got ${numKeyValueHeads} for ${numHeads} heads`,
    );
  }
  const size = headDim ?? features / numHeads;
  checkPositive("attention", "headDim", size);
  if (rotary && size % 2 !== 0) {
    throw new ValueError(
      `attention: rotary positions turn pairs of features, so headDim must be even, got ${size}; change the width, numHeads or headDim`,
    );
  }
  return size;
}
