// attention/latentAttention.ts: multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1), in the form for training
// and, for decoding, in the form that never makes a head's keys and values.
import {
  add,
  broadcastTo,
  concat,
  expandDims,
  foldIn,
  matmul,
  mT,
  mul,
  reshape,
  split,
  squeeze,
  swapAxes,
  type Tensor,
  ValueError,
} from "@mc/tensor";
import { checkPositive } from "../check.ts";
import { blocksOf, joinRoles } from "../layer.ts";
import { type LinearParams, linear } from "../linear.ts";
import { type NormParams, rmsNorm } from "../norm.ts";
import { type RopeOptions, rope } from "../rope.ts";
import { yarnMscale } from "../ropeScaling.ts";
import { attention, maxLogitOf } from "./attention.ts";
import { cacheLengthOf, checkDecode, fillCache, type LatentCache, putInCache } from "./cache.ts";
import { cacheWeights } from "./decode.ts";
import type { AttentionHead } from "./layout.ts";
import type { AttentionLayer } from "./selfAttention.ts";

/** Parameters of `latentAttention`. */
export type LatentAttentionParams = {
  /** Weight [rq, D]; absent without query compression. */
  queryDown?: LinearParams;
  /** Gain [rq]; absent without query compression. */
  queryNorm?: NormParams;
  /** Weight [H * (dn + dr), rq or D]: of each head the rows of q^C, then those of q^R. */
  query: LinearParams;
  /** Weight [rkv + dr, D]: the rows of the latent c, then those of the rotated key k^R that all heads share. */
  keyValueDown: LinearParams;
  /** Gain [rkv]. */
  keyValueNorm: NormParams;
  /** Weight [H * (dn + dv), rkv]: of each head the rows of k^C, then those of v. */
  keyValue: LinearParams;
  /** Weight [D, H * dv]. */
  output: LinearParams;
};

/** Options of `latentAttention`. */
export interface LatentAttentionOptions {
  /** Width of input and output, D. */
  readonly features: number;
  /** H. */
  readonly numHeads: number;
  /** rq, width of the compressed query; default null: queries come straight from x. */
  readonly queryRank?: number | null;
  /** rkv, width of the compressed keys and values. */
  readonly keyValueRank: number;
  /** dn, features of a head's q^C and k^C. */
  readonly nopeHeadDim: number;
  /** dr, features of a head's q^R and of the shared k^R. */
  readonly ropeHeadDim: number;
  /** dv, features of a head's value. */
  readonly valueHeadDim: number;
  /** Biases of the down-projections and the output projection; default false. */
  readonly bias?: boolean;
  /** Of the norms of the latents; default 1e-6. */
  readonly normEps?: number;
  /** Rotation of q^R and k^R; absent: none (NoPE). Pairs are interleaved by default, as in DeepSeek's weights. */
  readonly rope?: Pick<RopeOptions, "theta" | "pairing" | "scaling" | "maxPositions">;
  /** What Muon orthogonalises of the projections to heads: "matrix" (default) or "head". */
  readonly muonBlocks?: "matrix" | "head";
  /** Standard deviation of the initial weights; default `1 / sqrt(columns)`. */
  readonly std?: number;
  /** The same for the output projection; default `1 / sqrt(H * dv)`. */
  readonly outputStd?: number;
}

/**
 * Causal multi-head latent attention of x [B, T, D]:
 *
 *   cq = norm(Wqa x);  [q^C; q^R] = Wqb cq;   [c; k^R] = Wkva x;  [k^C; v] = Wkvb norm(c)
 *   o = softmax(s (q^C . k^C + rope(q^R) . rope(k^R))) v;  y = Wo o
 *
 * s = (dn + dr)^-1/2, times m(mscaleAllDim)^2 under YaRN. k^R is one vector a token, shared by all heads. With Wkvb = [Wk; Wv] of
 * a head, `decode` needs only norm(c) and k^R of each token:
 *
 *   q^C . (Wk norm(c)) = (Wk^T q^C) . norm(c);   sum_j p_j Wv norm(c_j) = Wv sum_j p_j norm(c_j)
 *
 * @throws ValueError for sizes out of range
 * @example
 * const layer = latentAttention({ features: 16, numHeads: 2, keyValueRank: 8, nopeHeadDim: 8, ropeHeadDim: 4, valueHeadDim: 8, rope: {} });
 * const { output, maxLogit } = layer.apply(layer.init(key(1)), ones([1, 5, 16])); // shapes [1, 5, 16] and [2]
 */
export function latentAttention(options: LatentAttentionOptions): AttentionLayer<LatentAttentionParams, LatentCache> {
  const { features, numHeads, queryRank = null, keyValueRank, nopeHeadDim, ropeHeadDim, valueHeadDim } = options;
  const { bias = false, normEps = 1e-6, muonBlocks = "matrix", std, outputStd } = options;
  checkSizes({ features, numHeads, keyValueRank, nopeHeadDim, ropeHeadDim, valueHeadDim, queryRank });
  const scale = softmaxScale(nopeHeadDim + ropeHeadDim, options.rope?.scaling);
  const headSizes = { query: [nopeHeadDim, ropeHeadDim], keyValue: [nopeHeadDim, valueHeadDim] } as const;
  const projection = (inFeatures: number, outFeatures: number, hasBias: boolean, blocks?: readonly number[]) =>
    linear({
      inFeatures,
      outFeatures,
      bias: hasBias,
      ...(blocks && { blocks: blocksOf(blocks) }),
      ...(std && { std }),
    });
  /** To heads; `parts` are the matrices that a head stacks, when each is a matrix of its own for Muon. */
  const toHeads = (inFeatures: number, parts: readonly number[]) =>
    projection(
      inFeatures,
      numHeads * total(parts),
      false,
      muonBlocks === "head" ? Array.from({ length: numHeads }, () => parts).flat() : undefined,
    );
  const queryDown = queryRank === null ? undefined : projection(features, queryRank, bias);
  const queryNorm = queryRank === null ? undefined : rmsNorm({ features: queryRank, eps: normEps });
  const query = toHeads(queryRank ?? features, [total(headSizes.query)]);
  const keyValueDown = projection(features, keyValueRank + ropeHeadDim, bias);
  const keyValueNorm = rmsNorm({ features: keyValueRank, eps: normEps });
  const keyValue = toHeads(keyValueRank, headSizes.keyValue);
  const output = linear({
    inFeatures: numHeads * valueHeadDim,
    outFeatures: features,
    bias,
    ...(outputStd && { std: outputStd }),
  });

  const turn = (heads: Tensor, place: Place): Tensor =>
    options.rope ? rope(heads, { pairing: "interleaved", ...options.rope, sequenceAxis: 1, ...place }) : heads;
  /** [B, T, H * (sum of sizes)] as parts [B, T, H, size]. */
  const byHead = (y: Tensor, sizes: readonly number[]): Tensor[] =>
    split(reshape(y, [y.shape[0]!, y.shape[1]!, -1, total(sizes)]), [...sizes], -1);
  /** q^C [B, T, H, dn] and the rotated q^R [B, T, H, dr]. */
  const queries = (params: LatentAttentionParams, x: Tensor, place: Place): [Tensor, Tensor] => {
    const compressed =
      params.queryDown && params.queryNorm
        ? queryNorm!.apply(params.queryNorm, queryDown!.apply(params.queryDown, x))
        : x;
    const [content, rotary] = byHead(query.apply(params.query, compressed), headSizes.query) as [Tensor, Tensor];
    return [content, turn(rotary, place)];
  };
  /** The normed c [B, T, rkv] and the rotated k^R [B, T, dr]: all that a cache needs to hold. */
  const latentsOf = (params: LatentAttentionParams, x: Tensor, place: Place): LatentCache => {
    const down = keyValueDown.apply(params.keyValueDown, x);
    const [latents, rotary] = split(down, [keyValueRank, ropeHeadDim], -1) as [Tensor, Tensor];
    return {
      latents: keyValueNorm.apply(params.keyValueNorm, latents),
      rotaryKeys: squeeze(turn(expandDims(rotary, 2), place), 2),
    };
  };
  /** Attention of whole sequences, in the form for training: keys and values of each head. */
  const attend = (params: LatentAttentionParams, x: Tensor, place: Place, visible: { documents?: Tensor }) => {
    const [batch, tokens] = x.shape as [number, number, number];
    const [qContent, qRotary] = queries(params, x, place);
    const { latents, rotaryKeys } = latentsOf(params, x, place);
    const [kContent, v] = byHead(keyValue.apply(params.keyValue, latents), headSizes.keyValue) as [Tensor, Tensor];
    const q = concat([qContent, qRotary], -1);
    const k = concat([kContent, broadcastTo(expandDims(rotaryKeys, 2), [batch, tokens, numHeads, ropeHeadDim])], -1);
    const operands = [q, k, v].map((y) => swapAxes(y, 1, 2)) as [Tensor, Tensor, Tensor];
    const result = attention(...operands, { scale, ...visible });
    const joined = reshape(swapAxes(result.output, 1, 2), [batch, tokens, numHeads * valueHeadDim]);
    return { output: output.apply(params.output, joined), rowMax: result.rowMax, latents, rotaryKeys };
  };

  return {
    init: (key) => ({
      ...(queryDown && queryNorm && { queryDown: queryDown.init(foldIn(key, 0)), queryNorm: queryNorm.init(key) }),
      query: query.init(foldIn(key, 1)),
      keyValueDown: keyValueDown.init(foldIn(key, 2)),
      keyValueNorm: keyValueNorm.init(key),
      keyValue: keyValue.init(foldIn(key, 3)),
      output: output.init(foldIn(key, 4)),
    }),
    apply: (params, x, { positions, documents } = {}) => {
      const { output, rowMax } = attend(params, x, positions ? { positions } : {}, documents ? { documents } : {});
      return { output, maxLogit: maxLogitOf(rowMax), rowMax };
    },
    prefill: (params, x, cacheLength) => {
      const { output, latents, rotaryKeys } = attend(params, x, {}, {});
      return {
        output,
        cache: { latents: fillCache(latents, 1, cacheLength), rotaryKeys: fillCache(rotaryKeys, 1, cacheLength) },
      };
    },
    decode: (params, x, positions, cache) => {
      checkDecode(x, positions, cache);
      const batch = x.shape[0]!;
      const place = { positions: expandDims(positions, 1), maxPositions: cacheLengthOf(cache) };
      const [qContent, qRotary] = queries(params, x, place);
      const token = latentsOf(params, x, place);
      const latents = putInCache(cache.latents, token.latents, positions);
      const rotaryKeys = putInCache(cache.rotaryKeys, token.rotaryKeys, positions);
      // [H, dn + dv, rkv]
      const [toKeys, toValues] = split(
        reshape(params.keyValue.weight, [numHeads, total(headSizes.keyValue), keyValueRank]),
        [...headSizes.keyValue],
        1,
      ) as [Tensor, Tensor];
      const absorbed = swapAxes(
        matmul(swapAxes(reshape(qContent, [batch, numHeads, nopeHeadDim]), 0, 1), toKeys),
        0,
        1,
      );
      const scores = add(
        matmul(absorbed, mT(latents)),
        matmul(reshape(qRotary, [batch, numHeads, ropeHeadDim]), mT(rotaryKeys)),
      );
      const weights = cacheWeights(expandDims(mul(scores, scale), 1), positions, {});
      const mixed = matmul(squeeze(weights, 1), latents); // [B, H, rkv]
      const values = swapAxes(matmul(swapAxes(mixed, 0, 1), mT(toValues)), 0, 1);
      return {
        output: output.apply(params.output, reshape(values, [batch, 1, numHeads * valueHeadDim])),
        cache: { latents, rotaryKeys },
      };
    },
    roles: joinRoles({
      ...(queryDown && queryNorm && { queryDown: queryDown.roles, queryNorm: queryNorm.roles }),
      query: query.roles,
      keyValueDown: keyValueDown.roles,
      keyValueNorm: keyValueNorm.roles,
      keyValue: keyValue.roles,
      output: output.roles,
    }),
    layout: (path, layer) => ({
      layer,
      kind: "mla",
      numHeads,
      numKeyValueHeads: numHeads,
      qkNorm: false,
      heads: Array.from({ length: numHeads }, (_, h): AttentionHead => {
        const q = h * total(headSizes.query);
        const range = (name: string, start: number, rows: number) => [{ path: `${path}.${name}.weight`, start, rows }];
        return {
          query: range("query", q, nopeHeadDim),
          queryRotary: range("query", q + nopeHeadDim, ropeHeadDim),
          key: range("keyValue", h * total(headSizes.keyValue), nopeHeadDim),
        };
      }),
    }),
  };
}

/** Where tokens stand, for the rotation; nothing: 0, 1, 2, ... in each row. */
type Place = Pick<RopeOptions, "positions" | "maxPositions">;

const total = (sizes: readonly number[]): number => sizes.reduce((sum, n) => sum + n, 0);

/** (dn + dr)^-1/2; where YaRN has `mscaleAllDim`, times the square of its m. */
function softmaxScale(size: number, scaling: RopeOptions["scaling"]): number {
  const m = scaling?.kind === "yarn" && scaling.mscaleAllDim ? yarnMscale(scaling.factor, scaling.mscaleAllDim) : 1;
  return m ** 2 / Math.sqrt(size);
}

function checkSizes({ queryRank, ...sizes }: Record<string, number | null>): void {
  for (const [name, value] of Object.entries(sizes)) checkPositive("latentAttention", name, value!);
  if (queryRank !== null) checkPositive("latentAttention", "queryRank", queryRank!);
  if (sizes.ropeHeadDim! % 2 !== 0) {
    throw new ValueError(
      `latentAttention: rotary positions turn pairs of features, so ropeHeadDim must be even, got ${sizes.ropeHeadDim}`,
    );
  }
}
