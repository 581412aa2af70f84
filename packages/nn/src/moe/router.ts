// moe/router.ts: which experts a token visits, and with what weights.
import {
  add,
  any,
  broadcastTo,
  clamp,
  div,
  equal,
  expandDims,
  foldIn,
  iota,
  log,
  max,
  mean,
  mul,
  neg,
  normal,
  reshape,
  ShapeError,
  sigmoid,
  softmax,
  stopGradient,
  sum,
  type Tensor,
  takeAlongAxis,
  topK,
  ValueError,
  where,
  zeros,
} from "@mc/tensor";
import { checkFeatures, checkPositive, formatShape } from "../check.ts";
import type { Layer } from "../layer.ts";
import { linearMap } from "../linear.ts";
import { type BalanceOptions, balanceLoss } from "./balanceLosses.ts";

/** Parameters of `router`. */
export type RouterParams = {
  /** [E, D]. */
  weight: Tensor;
  /** [E]; takes part in the choice of experts only; role "buffer", moved by `balanceExperts`. */
  bias?: Tensor;
};

/** Options of `router`. */
export interface RouterOptions extends BalanceOptions {
  /** D. */
  readonly features: number;
  /** E. */
  readonly numExperts: number;
  /** k: experts that a token visits. */
  readonly numExpertsPerToken: number;
  /** How logits become scores: "sigmoid" of each (DeepSeek-V3, default) or "softmax" over all experts (Mixtral, Qwen). */
  readonly scoring?: "sigmoid" | "softmax";
  /** Whether there is a bias that takes part in the choice only; default with "sigmoid". */
  readonly selectionBias?: boolean;
  /** Whether the weights of a token are made to sum to one before `scale`; default true. */
  readonly normalize?: boolean;
  /** Factor of the weights; default 1. See `gateScale`. */
  readonly scale?: number;
  /** Group-limited routing: experts e * numGroups / E stand together; default 1. */
  readonly numGroups?: number;
  /** Groups from which a token chooses; default all. */
  readonly groupsPerToken?: number;
  /** Standard deviation of the initial weights; default `1 / sqrt(D)`. The bias starts at zero. */
  readonly std?: number;
}

/** What `router` gives for N tokens. */
export interface RouterResult {
  /** i32 [N, k], the best first. */
  readonly experts: Tensor;
  /** f32 [N, k]. */
  readonly weights: Tensor;
  /** f32 scalar: the configured balance losses times their coefficients; the constant 0 if there are none. */
  readonly loss: Tensor;
  /** f32 scalar, nats: mean entropy of the tokens' normalised scores. Not differentiable. */
  readonly entropy: Tensor;
}

/**
 * The router of a mixture of experts. Scores are sigmoids or the softmax of `x W^T`. The k experts with the largest score plus
 * bias are chosen; the weights are their scores without it, divided by their sum and multiplied by `scale`.
 *
 * With `numGroups` > 1 the groups with the largest sum of their two best biased scores (without bias: the best score) are kept
 * and the others masked at -infinity (DeepSeek-V3, arXiv:2412.19437, and its `inference/model.py`).
 *
 * @throws ValueError for options that do not fit together; at `apply`, ShapeError if x is not [..., T, D]
 * @example
 * const layer = router({ features: 8, numExperts: 4, numExpertsPerToken: 2 });
 * layer.apply(layer.init(key(1)), ones([2, 5, 8])).experts; // shape [10, 2]
 */
export function router(options: RouterOptions): Layer<RouterParams, [x: Tensor], RouterResult> {
  const { features, numExperts, numExpertsPerToken, scoring = "sigmoid", normalize = true, scale = 1 } = options;
  const { selectionBias = scoring === "sigmoid", numGroups = 1, std = 1 / Math.sqrt(features) } = options;
  const groupsPerToken = options.groupsPerToken ?? numGroups;
  checkRouter({ features, numExperts, numExpertsPerToken, numGroups, groupsPerToken });
  return {
    init: (key) => ({
      weight: normal(foldIn(key, 0), [numExperts, features], { std }),
      ...(selectionBias && { bias: zeros([numExperts], { device: key.device }) }),
    }),
    apply: (params, x) => {
      checkFeatures("router", x, features);
      if (x.ndim < 2) throw new ShapeError(`router: x must be [..., T, D], got shape ${formatShape(x.shape)}`);
      const logits = linearMap(reshape(x, [-1, features]), params.weight);
      const scores = scoring === "sigmoid" ? sigmoid(logits) : softmax(logits);
      const shares = scoring === "sigmoid" ? div(scores, add(sum(scores, { axis: 1, keepDims: true }), tiny)) : scores;
      const fixed = stopGradient(scores);
      const choice = params.bias ? add(fixed, stopGradient(params.bias)) : fixed;
      const open = numGroups > groupsPerToken ? maskGroups(choice, numGroups, groupsPerToken, !!params.bias) : choice;
      const experts = topK(open, numExpertsPerToken).indices;
      // sigmoids of the chosen logits only: what flows back touches k entries of a row, not E
      const chosen =
        scoring === "sigmoid" ? sigmoid(takeAlongAxis(logits, experts, 1)) : takeAlongAxis(scores, experts, 1);
      const normalized = normalize ? div(chosen, add(sum(chosen, { axis: 1, keepDims: true }), tiny)) : chosen;
      return {
        experts,
        weights: scale === 1 ? normalized : mul(normalized, scale),
        loss: balanceLoss({ logits, scores, shares, experts, sequence: x.shape.at(-2)! }, options),
        entropy: entropyOf(stopGradient(shares)),
      };
    },
    roles: { weight: { role: "router" }, ...(selectionBias && { bias: { role: "buffer" as const } }) },
  };
}

/** Keeps sums of scores away from zero, as Hugging Face does. */
const tiny = 1e-20;

/** -infinity where an expert's group is not among the token's best; scores [N, E]. */
function maskGroups(scores: Tensor, groups: number, kept: number, biased: boolean): Tensor {
  const [tokens, numExperts] = scores.shape as [number, number];
  const size = numExperts / groups;
  const grouped = reshape(scores, [tokens, groups, size]);
  const ofGroup = biased && size > 1 ? sum(topK(grouped, 2).values, { axis: 2 }) : max(grouped, { axis: 2 });
  const best = topK(ofGroup, kept).indices; // [N, kept]
  const table = [tokens, kept, groups];
  const open = any(equal(expandDims(best, 2), iota(table, 2, { device: scores.device })), { axis: 1 });
  const mask = broadcastTo(expandDims(open, 2), grouped.shape);
  return reshape(where(mask, grouped, Number.NEGATIVE_INFINITY), scores.shape);
}

/** Mean over rows of -sum p log p; 0 log 0 = 0. */
function entropyOf(p: Tensor): Tensor {
  return neg(mean(sum(mul(p, log(clamp(p, { min: 1e-37 }))), { axis: 1 })));
}

function checkRouter(sizes: {
  readonly features: number;
  readonly numExperts: number;
  readonly numExpertsPerToken: number;
  readonly numGroups: number;
  readonly groupsPerToken: number;
}): void {
  for (const [name, value] of Object.entries(sizes)) checkPositive("router", name, value);
  const { numExperts, numExpertsPerToken, numGroups, groupsPerToken } = sizes;
  if (numExperts % numGroups !== 0)
    throw new ValueError(`router: numGroups must divide numExperts, got ${numGroups} groups of ${numExperts} experts`);
  if (groupsPerToken > numGroups)
    throw new ValueError(`router: groupsPerToken must be at most numGroups, got ${groupsPerToken} of ${numGroups}`);
  const open = groupsPerToken * (numExperts / numGroups);
  if (numExpertsPerToken > open)
    throw new ValueError(
      `router: numExpertsPerToken must be at most the ${open} experts that a token may choose from, got ${numExpertsPerToken}`,
    );
}
