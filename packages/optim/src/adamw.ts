// adamw.ts: Adam with decoupled weight decay.
import { addDecayedWeights } from "./addDecayedWeights.ts";
import { chain } from "./chain.ts";
import type { LearningRate } from "./learningRate.ts";
import { optimizer } from "./optimizer.ts";
import { partition } from "./partition.ts";
import { type Roles, trainedRoles } from "./roles.ts";
import { type ScaleByAdamOptions, scaleByAdam } from "./scaleByAdam.ts";
import { scaleByLearningRate } from "./scaleByLearningRate.ts";
import type { Optimizer, Transform } from "./types.ts";

/** Options of `adamwTransform`: those of `scaleByAdam` and two more. */
export interface AdamwOptions extends ScaleByAdamOptions {
  readonly learningRate: LearningRate;
  /** Default 0.01. */
  readonly weightDecay?: number;
}

/** Options of `adamw`. */
export interface AdamwOptimizerOptions extends AdamwOptions {
  /** Role of every parameter, usually `model.roles`: needed where a model has buffers, which stay as they are. */
  readonly roles?: Roles;
}

/**
 * AdamW as PyTorch has it, AMSGrad included: p -= learningRate * (u + weightDecay*p), u being the direction of `scaleByAdam`.
 *
 * @throws ValueError if an option is out of range
 * @example
 * const optimizer = adamw({ learningRate: 0.1, b2: 0.95, weightDecay: 0 });
 * let params = { w: tensor([1, 1]) };
 * let state = optimizer.init(params);
 * ({ params, state } = optimizer.update({ w: tensor([3, -0.2]) }, state, params));
 * await params.w.toArray(); // [0.9, 1.1]
 * @see Loshchilov and Hutter, arXiv 1711.05101
 */
export function adamw({ roles, ...options }: AdamwOptimizerOptions): Optimizer {
  const transform = adamwTransform(options);
  return optimizer("adamw", roles ? partition(roles, { adamw: { roles: trainedRoles, transform } }) : transform);
}

/** `adamw` as a transform, for `partition`. */
export function adamwTransform({ learningRate, weightDecay = 0.01, ...adam }: AdamwOptions): Transform {
  return chain(scaleByAdam(adam), addDecayedWeights(weightDecay), scaleByLearningRate(learningRate));
}
