// moe/balanceExperts.ts: balance without a loss: the selection bias of an expert follows its load.
import { add, cast, mean, mul, ShapeError, sign, sub, sum, type Tensor, ValueError } from "@mc/tensor";
import { formatShape } from "../check.ts";

/** Options of `balanceExperts`. */
export interface BalanceExpertsOptions {
  /** Step of a bias: a number, or an f32 scalar that may change from step to step. DeepSeek-V3 uses 0.001, and 0 at the end. */
  readonly rate: number | Tensor;
  /** Take the mean of the steps off each, so that the biases' mean stays (Moonlight, arXiv:2502.16982); default false. */
  readonly centred?: boolean;
}

/**
 * Moves the selection biases of a transformer's mixtures of experts after a step: `b_e += rate * sign(mean load - load_e)`
 * (Wang et al. 2024, arXiv:2408.15664). With `centred`, minus the mean of the signs. All else stays as it is.
 *
 * @param params - a transformer's parameters; its mixtures are those layers whose `feedForward` has a `router`
 * @param loads - i32 [E] for each mixture, in the order of the layers: `routing[i].load`, or their sums over the batches of a step
 * @throws ValueError if there are not as many loads as mixtures, ShapeError if one does not fit
 * @example
 * const params = { layers: [{ feedForward: { router: { bias: zeros([2]) } } }] };
 * balanceExperts(params, [tensor([3, 1], { dtype: "i32" })], { rate: 0.001 }); // the bias becomes [-0.001, 0.001]
 */
export function balanceExperts<P extends { readonly layers: readonly { readonly feedForward: object }[] }>(
  params: P,
  loads: readonly Tensor[],
  { rate, centred = false }: BalanceExpertsOptions,
): P {
  const routerOf = ({ feedForward }: { readonly feedForward: object }): { bias?: Tensor } | undefined =>
    "router" in feedForward ? (feedForward.router as { bias?: Tensor }) : undefined;
  const mixtures = params.layers.filter((layer) => routerOf(layer) !== undefined).length;
  if (mixtures !== loads.length)
    throw new ValueError(
      `balanceExperts: needs one load for each of ${mixtures} mixtures of experts, got ${loads.length}`,
    );
  let next = 0;
  const layers = params.layers.map((layer) => {
    const router = routerOf(layer);
    if (!router) return layer;
    const load = loads[next++]!;
    const { bias } = router;
    if (!bias) return layer;
    if (formatShape(load.shape) !== formatShape(bias.shape))
      throw new ShapeError(
        `balanceExperts: load ${next - 1} must be ${formatShape(bias.shape)}, got ${formatShape(load.shape)}`,
      );
    // sign(mean load - load_e), in whole numbers
    const lack = sign(cast(sub(sum(load), mul(load, load.size)), "f32"));
    const step = centred ? sub(lack, mean(lack)) : lack;
    return { ...layer, feedForward: { ...layer.feedForward, router: { ...router, bias: add(bias, mul(step, rate)) } } };
  });
  return { ...params, layers };
}
