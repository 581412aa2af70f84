// attention/latentAttention.ts: multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1), in the form for training.
import { broadcastTo, concat, foldIn, reshape, split, swapAxes, type Tensor, ValueError } from "@mc/tensor";
import { checkPositive } from "../check.ts";
import { blocksOf, joinRoles } from "../layer.ts";
import { type LinearParams, linear } from "../linear.ts";
import { type NormParams, rmsNorm } from "../norm.ts";
import { type RopeOptions, rope } from "../rope.ts";
import { yarnMscale } from "../ropeScaling.ts";
import { attention, maxLogitOf } from "./attention.ts";
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
 * s = (dn + dr)^-1/2, times m(mscaleAllDim)^2 under YaRN. k^R is one vector a token, shared by all heads.
 *
 * @throws ValueError for sizes out of range
 * @example
 * const layer = latentAttention({ features: 16, numHeads: 2, keyValueRank: 8, nopeHeadDim: 8, ropeHeadDim: 4, valueHeadDim: 8, rope: {} });
 * const { output, maxLogit } = layer.apply(layer.init(key(1)), ones([1, 5, 16])); // shapes [1, 5, 16] and [2]
 */
export function latentAttention(options: LatentAttentionOptions): AttentionLayer<LatentAttentionParams> {
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
      const [batch, tokens] = x.shape as [number, number, number];
      const turn = (heads: Tensor): Tensor =>
        options.rope
          ? rope(heads, { pairing: "interleaved", ...options.rope, sequenceAxis: 1, ...(positions && { positions }) })
          : heads;
      const heads = (y: Tensor, sizes: readonly number[]): Tensor[] =>
        split(reshape(y, [batch, tokens, -1, total(sizes)]), [...sizes], -1);
      const compressed =
        params.queryDown && params.queryNorm
          ? queryNorm!.apply(params.queryNorm, queryDown!.apply(params.queryDown, x))
          : x;
      const [qContent, qRotary] = heads(query.apply(params.query, compressed), headSizes.query) as [Tensor, Tensor];
      const down = keyValueDown.apply(params.keyValueDown, x);
      const [latent, kRotary] = split(down, [keyValueRank, ropeHeadDim], -1) as [Tensor, Tensor];
      const normed = keyValueNorm.apply(params.keyValueNorm, latent);
      const [kContent, v] = heads(keyValue.apply(params.keyValue, normed), headSizes.keyValue) as [Tensor, Tensor];
      const shared = turn(reshape(kRotary, [batch, tokens, 1, ropeHeadDim]));
      const q = concat([qContent, turn(qRotary)], -1);
      const k = concat([kContent, broadcastTo(shared, [batch, tokens, numHeads, ropeHeadDim])], -1);
      const byHead = [q, k, v].map((y) => swapAxes(y, 1, 2)) as [Tensor, Tensor, Tensor];
      const result = attention(...byHead, { scale, ...(documents && { documents }) });
      const joined = reshape(swapAxes(result.output, 1, 2), [batch, tokens, numHeads * valueHeadDim]);
      return { output: output.apply(params.output, joined), maxLogit: maxLogitOf(result.rowMax) };
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
