// sgd.ts: stochastic gradient descent.
import { ValueError } from "@mc/tensor";
import { addDecayedWeights } from "./addDecayedWeights.ts";
import { chain } from "./chain.ts";
import type { LearningRate } from "./learningRate.ts";
import { optimizer } from "./optimizer.ts";
import { scaleByLearningRate } from "./scaleByLearningRate.ts";
import { trace } from "./trace.ts";
import type { Optimizer } from "./types.ts";

/** Options of `sgd`. */
export interface SgdOptions {
  readonly learningRate: LearningRate;
  /** Decay of the accumulated gradients, in [0, 1); default 0, no momentum. */
  readonly momentum?: number;
  /** Look ahead by the momentum; needs one. Default false. */
  readonly nesterov?: boolean;
  /** L2 penalty, added to the gradient; default 0. */
  readonly weightDecay?: number;
}

/**
 * SGD as PyTorch has it: g += weightDecay*p; M = momentum*M + g; p -= learningRate * M, or learningRate * (g + momentum*M)
 * with Nesterov.
 *
 * @throws ValueError if an option is out of range, or for nesterov without momentum
 * @example
 * const optimizer = sgd({ learningRate: 0.1, momentum: 0.9 });
 * const params = { w: tensor([1]) };
 * const next = optimizer.update({ w: tensor([2]) }, optimizer.init(params), params);
 * await next.params.w.toArray(); // [0.8]
 */
export function sgd({ learningRate, momentum = 0, nesterov = false, weightDecay = 0 }: SgdOptions): Optimizer {
  if (nesterov && momentum === 0) throw new ValueError("sgd: nesterov needs a momentum above 0, got 0");
  const links = [
    addDecayedWeights(weightDecay),
    ...(momentum === 0 ? [] : [trace({ momentum, nesterov })]),
    scaleByLearningRate(learningRate),
  ];
  return optimizer("sgd", chain(...links));
}
