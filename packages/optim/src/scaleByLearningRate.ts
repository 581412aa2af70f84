// scaleByLearningRate.ts: the last link of a chain.
import { mul, neg, type Tensor, treeMap } from "@mc/tensor";
import { checkLearningRate, type LearningRate, learningRateAt } from "./learningRate.ts";
import type { Context, State, Transform } from "./types.ts";

/**
 * -learningRate * u: from a direction to what is added to the parameters. A schedule is evaluated at the update's number;
 * `extras.learningRate` of an update takes the place of what was configured.
 *
 * @throws ValueError if learningRate is a negative number, ShapeError (at the update) if it is not a scalar
 * @example chain(scaleByAdam(), scaleByLearningRate(warmupCosine({ peak: 1e-3, warmupSteps: 100, totalSteps: 1000 })))
 */
export function scaleByLearningRate(learningRate: LearningRate): Transform {
  checkLearningRate("scaleByLearningRate", learningRate);
  const scalars = (context: Context): { factor?: Tensor } => {
    const rate = learningRateAt("scaleByLearningRate", learningRate, context);
    return typeof rate === "number" ? {} : { factor: neg(rate) };
  };
  return {
    name: "scaleByLearningRate",
    scalars: (context) => scalars(context) as State,
    init: () => ({}),
    update(updates, state, _params, context) {
      const { factor = -(learningRate as number) } = (context.scalars ?? scalars(context)) as { factor?: Tensor };
      return { updates: treeMap((u: Tensor) => mul(u, factor), updates), state };
    },
  };
}
