// huggingFace/kimiK2Mini.ts: Kimi K2 in miniature.
import type { TransformerConfig } from "../config.ts";
import { gateScale } from "../moe/gateScale.ts";
import { type DeepseekSizes, kimiK2 } from "./models.ts";

/**
 * Kimi K2 in miniature: the same architecture (latent attention with compressed queries, a dense layer, then experts with a shared
 * one, a sigmoid router with a selection bias), at sizes that keep K2's proportions to the width of the residual stream, D, and to
 * each other. Each can be set instead. Rounded means to a multiple of 8, but not below 8.
 *
 * | size | K2 (D = 7168) | here |
 * |---|---|---|
 * | `numHeads` | 64 | D / 16, at least 2 and at most 64: K2's 112 features of the stream a head would leave small models one head |
 * | `nopeHeadDim` | 128 | 8/7 D shared out among the heads, rounded |
 * | `ropeHeadDim`, `valueHeadDim` | 64, 128 | half of `nopeHeadDim`, and the same |
 * | `queryRank` | 1536 | 3/14 D, rounded |
 * | `keyValueRank` | 512 | D / 14, rounded |
 * | `denseIntermediateSize` | 18432 | 18/7 D, rounded |
 * | `numExpertsPerToken`, `numSharedExperts` | 8, 1 | 2, 1 |
 * | `intermediateSize` | 2048 | `denseIntermediateSize` shared out among the experts that a token visits, rounded: layers with experts cost as much as dense ones |
 * | `numExperts` | 384 | 8 for each that a token visits. K2's 48 would make most of a small model experts that see few tokens, and Muon's step costs by the expert |
 * | `numDenseLayers` | 1 | 1 |
 * | `scale` | 2.827 | `gateScale(numExperts, numExpertsPerToken)` |
 * | `theta`, `maxPositions` | 50000, 4096 | the same, before K2's context was extended: no YaRN |
 *
 * With `numExpertsPerToken: 8` and `numExperts: 384` a width of 7168 gives K2 itself.
 *
 * @example
 * const model = transformer(kimiK2Mini({ hiddenSize: 64, numLayers: 3, vocabSize: 256 }));
 * model.config.feedForward.intermediateSize; // 56
 */
export function kimiK2Mini(
  sizes: DeepseekSizes & { readonly hiddenSize: number; readonly numLayers: number },
): TransformerConfig {
  const { hiddenSize: width } = sizes;
  const numHeads = sizes.numHeads ?? Math.min(Math.max(Math.round(width / 16), 2), 64);
  const nopeHeadDim = sizes.nopeHeadDim ?? rounded((8 / 7) * (width / numHeads));
  const denseIntermediateSize = sizes.denseIntermediateSize ?? rounded((18 / 7) * width);
  const numSharedExperts = sizes.numSharedExperts ?? 1;
  const numExpertsPerToken = sizes.numExpertsPerToken ?? 2;
  const numExperts = sizes.numExperts ?? 8 * numExpertsPerToken;
  return kimiK2({
    vocabSize: 256,
    queryRank: rounded((3 / 14) * width),
    keyValueRank: rounded(width / 14),
    ropeHeadDim: rounded(nopeHeadDim / 2),
    valueHeadDim: nopeHeadDim,
    intermediateSize: rounded(denseIntermediateSize / (numExpertsPerToken + numSharedExperts)),
    scale: gateScale(numExperts, numExpertsPerToken),
    maxPositions: 4096,
    scaling: null,
    ...sizes,
    numHeads,
    nopeHeadDim,
    denseIntermediateSize,
    numSharedExperts,
    numExpertsPerToken,
    numExperts,
  });
}

const rounded = (x: number): number => Math.max(8 * Math.round(x / 8), 8);
