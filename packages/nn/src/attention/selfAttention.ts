// attention/selfAttention.ts: the attention of a transformer layer: projections, rotary positions, softmax attention.
import { concat, foldIn, reshape, sliceAxis, split, stopGradient, swapAxes, type Tensor, ValueError } from "@mc/tensor";
import { checkPositive } from "../check.ts";
import { blocksOf, joinRoles, type Layer } from "../layer.ts";
import { type LinearParams, linear } from "../linear.ts";
import { type NormParams, rmsNorm } from "../norm.ts";
import { type RopeOptions, rope } from "../rope.ts";
import { attention, maxLogitOf } from "./attention.ts";
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
  /** Largest scaled, mask-visible softmax input of each head, f32 [H]; not differentiable. */
  readonly maxLogit: Tensor;
}

/** A layer of attention, which also knows the rows of each head. */
export interface AttentionLayer<Params> extends Layer<Params, [x: Tensor, info?: TokenInfo], SelfAttentionResult> {
  /** Description for QK-Clip, for parameters kept at `path` and maxima at index `layer`. */
  layout(path: string, layer: number): AttentionLayout;
}

/**
 * Causal self-attention of x [B, T, D]. q, k and v are one weight and one product; scale is `1 / sqrt(Dh)`.
 *
 * @throws ValueError if the heads do not fit the width
 * @example
 * const layer = selfAttention({ features: 8, numHeads: 2, rope: {} });
 * const { output, maxLogit } = layer.apply(layer.init(key(1)), ones([1, 5, 8])); // shapes [1, 5, 8] and [2]
 */
export function selfAttention(options: SelfAttentionOptions): AttentionLayer<SelfAttentionParams> {
  const {
    features,
    numHeads,
    numKeyValueHeads = numHeads,
    bias = { qkv: false, output: false },
    qkNorm = false,
    std,
    outputStd,
  } = options;
  const headDim = checkHeads(features, numHeads, numKeyValueHeads, options.headDim, options.rope !== undefined);
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
  return {
    init: (key) => ({
      qkv: qkv.init(foldIn(key, 0)),
      output: output.init(foldIn(key, 1)),
      ...(qkNorm && { queryNorm: headNorm.init(key), keyNorm: headNorm.init(key) }),
    }),
    apply: (params, x, { positions, documents } = {}) => {
      const [batch, tokens] = x.shape as [number, number, number];
      const turn = (heads: Tensor): Tensor =>
        options.rope ? rope(heads, { ...options.rope, sequenceAxis: 1, ...(positions && { positions }) }) : heads;
      const heads = reshape(
        qkv.apply(options.rope || qkNorm ? params.qkv : withoutKeyBiasGradient(params.qkv, rows), x),
        [batch, tokens, allHeads, headDim],
      );
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
      const byHead = [q, k, v].map((x) => swapAxes(x, 1, 2)) as [Tensor, Tensor, Tensor];
      const result = attention(...byHead, documents ? { documents } : {});
      const joined = reshape(swapAxes(result.output, 1, 2), [batch, tokens, numHeads * headDim]);
      return { output: output.apply(params.output, joined), maxLogit: maxLogitOf(result.rowMax) };
    },
    roles: joinRoles({
      qkv: qkv.roles,
      output: output.roles,
      ...(qkNorm && { queryNorm: headNorm.roles, keyNorm: headNorm.roles }),
    }),
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
 * end this.
 */
function withoutKeyBiasGradient(params: LinearParams, rows: readonly number[]): LinearParams {
  if (!params.bias) return params;
  const [query, key, value] = split(params.bias, rows) as [Tensor, Tensor, Tensor];
  return { ...params, bias: concat([query, stopGradient(key), value]) };
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
