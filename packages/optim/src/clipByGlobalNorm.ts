// clipByGlobalNorm.ts: the length of all gradients together, and a bound on it.
import { div, maximum, mul, sqrt, square, stack, sum, type Tensor, treeLeaves, treeMap, ValueError } from "@mc/tensor";
import type { Transform } from "./types.ts";

/**
 * The 2-norm of all elements of a tree, f32 scalar. A tensor that stands at several paths counts once.
 *
 * @throws ValueError for a tree without tensors
 * @example await globalNorm({ a: tensor([3]), b: tensor([4]) }).item(); // 5
 */
export function globalNorm(tree: object): Tensor {
  const leaves = [...new Set(treeLeaves<Tensor>(tree))];
  if (leaves.length === 0) throw new ValueError("globalNorm: needs at least one tensor, got none");
  return sqrt(sum(stack(leaves.map((x) => sum(square(x))))));
}

/**
 * Scales all updates by maxNorm / max(norm, maxNorm), norm being their global 2-norm: a longer step becomes one of length
 * maxNorm, a shorter one stays as it is. A norm that is not finite makes every update zero or NaN.
 *
 * Muon's direction does not depend on the length of a gradient, so in front of Muon the clip only weighs momentum.
 *
 * @throws ValueError if maxNorm is not positive
 * @example transformGradients(clipByGlobalNorm(1), adamw({ learningRate: 1e-3 }))
 */
export function clipByGlobalNorm(maxNorm: number): Transform {
  if (!(maxNorm > 0 && Number.isFinite(maxNorm)))
    throw new ValueError(`clipByGlobalNorm: maxNorm must be a positive finite number, got ${maxNorm}`);
  return {
    name: "clipByGlobalNorm",
    init: () => ({}),
    update(updates, state) {
      const factor = div(maxNorm, maximum(globalNorm(updates), maxNorm));
      return { updates: treeMap((u: Tensor) => mul(u, factor), updates), state };
    },
  };
}
