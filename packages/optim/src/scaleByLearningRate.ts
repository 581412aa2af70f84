// scaleByLearningRate.ts: the last link of a chain.
import { mul, neg, type Tensor, treeMap } from "@mc/tensor";
import { checkLearningRate, type LearningRate, learningRateAt } from "./learningRate.ts";
import type { Transform } from "./types.ts";

/**
 * -learningRate * u: from a direction to what is added to the parameters. A schedule is evaluated at the update's number;
 * `extras.learningRate` of an update takes the place of what was configured.
 *
 * @throws ValueError if learningRate is a negative number, ShapeError (at the update) if it is not a scalar
 * @example chain(scaleByAdam(), scaleByLearningRate(warmupCosine({ peak: 1e-3, warmupSteps: 100, totalSteps: 1000 })))
 */
export function scaleByLearningRate(learningRate: LearningRate): Transform {
  checkLearningRate("scaleByLearningRate", learningRate);
  return {
    name: "scaleByLearningRate",
    init: () => ({}),
    update(updates, state, _params, context) {
      const rate = learningRateAt("scaleByLearningRate", learningRate, context);
      const factor = typeof rate === "number" ? -rate : neg(rate);
      return { updates: treeMap((u: Tensor) => mul(u, factor), updates), state };
    },
  };
}
