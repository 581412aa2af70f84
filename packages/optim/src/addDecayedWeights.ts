// addDecayedWeights.ts: weight decay.
import { add, mul } from "@mc/tensor";
import { checkNotNegative } from "./checks.ts";
import { zip } from "./paths.ts";
import type { Transform } from "./types.ts";

/**
 * u + weightDecay * W. After a direction like Adam's it is decoupled decay (AdamW), before it an L2 penalty.
 *
 * @throws ValueError if weightDecay is negative
 * @example chain(scaleByAdam(), addDecayedWeights(0.1), scaleByLearningRate(1e-3))
 */
export function addDecayedWeights(weightDecay: number): Transform {
  checkNotNegative("addDecayedWeights", "weightDecay", weightDecay);
  return {
    name: "addDecayedWeights",
    init: () => ({}),
    update(updates, state, params) {
      if (weightDecay === 0) return { updates, state };
      return {
        updates: zip("addDecayedWeights", updates, { parameter: params }, (u, { parameter: W }) =>
          add(u, mul(W, weightDecay)),
        ),
        state,
      };
    },
  };
}
