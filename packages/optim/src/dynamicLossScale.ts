// dynamicLossScale.ts: the largest loss scale that gradients bear, found while training.
import {
  add,
  all,
  clamp,
  equal,
  full,
  isFinite,
  logicalNot,
  mul,
  realiseEagerly,
  stack,
  type Tensor,
  treeLeaves,
  treeMap,
  treeMapWithPath,
  treePaths,
  ValueError,
  where,
  zeros,
} from "@mc/tensor";
import type { Optimizer, OptimizerState, State, Transform } from "./types.ts";

/** Options of `dynamicLossScale`. */
export interface DynamicLossScaleOptions {
  /** The first scale, a power of two from 1 to 2^24. Default 2^16. */
  readonly initial?: number;
  /** Updates in a row with finite gradients after which the scale doubles; default 2000. */
  readonly growthInterval?: number;
}

/** What `dynamicLossScale` adds to an update's result. */
export interface LossScaleInfo {
  readonly lossScale: {
    /** f32 scalar: the scale of the next step. */
    readonly scale: Tensor;
    /** bool scalar: a gradient was infinite or not a number, so that nothing was updated. */
    readonly skipped: Tensor;
  };
}

const largest = 2 ** 24;

/**
 * An optimizer that keeps a loss scale for gradients computed in f16. The scale doubles after `growthInterval` updates with
 * finite gradients; where a gradient is infinite or NaN, it is halved, and parameters and state stay as they were. It stays
 * a power of two between 1 and 2^24. Everything is tensors: nothing is read back.
 *
 * `update` takes gradients that are divided by the scale already, as `valueAndGrad` with `lossScale: lossScaleOf(state)` gives
 * them. State: that of the optimizer, and `lossScale.scale` (f32 scalar) and `lossScale.finiteSteps` (i32 scalar).
 * It is the outermost wrapper: `transformGradients` goes inside.
 *
 * @throws ValueError if an option is out of range
 * @example
 * const optimizer = dynamicLossScale(sgd({ learningRate: 1 }));
 * const params = { w: tensor([1]) };
 * const state = optimizer.init(params);
 * await lossScaleOf(state).item(); // 65536: pass it to valueAndGrad(loss, { lossScale: lossScaleOf(state) })
 * const next = optimizer.update({ w: tensor([Infinity]) }, state, params);
 * await next.params.w.toArray(); // [1], and the next scale is 32768
 * @see torch.amp.GradScaler; Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740, section 3.2
 */
export function dynamicLossScale<Info extends object>(
  inner: Optimizer<Info>,
  { initial = 2 ** 16, growthInterval = 2000 }: DynamicLossScaleOptions = {},
): Optimizer<Info & LossScaleInfo> {
  if (!(initial >= 1 && initial <= largest && Number.isInteger(Math.log2(initial))))
    throw new ValueError(`dynamicLossScale: initial must be a power of two from 1 to 2^24, got ${initial}`);
  if (!(Number.isInteger(growthInterval) && growthInterval > 0))
    throw new ValueError(`dynamicLossScale: growthInterval must be a positive whole number, got ${growthInterval}`);
  return {
    name: inner.name,
    transform: outermost,
    plan: (params) => inner.plan(params),
    init(params) {
      const state = inner.init(params);
      const { device } = state.step;
      return realiseEagerly({
        ...state,
        lossScale: { scale: full([], initial, { device }), finiteSteps: zeros([], { dtype: "i32", device }) },
      });
    },
    update<P extends object>(grads: P, state: State, params: P, extras = {}) {
      const scale = lossScaleOf(state);
      const finiteSteps = new Map(treePaths<Tensor>(state)).get("lossScale.finiteSteps")!;
      const finite = all(stack(treeLeaves<Tensor>(grads).map((g) => all(isFinite(g)))));
      const { params: newParams, state: newState, ...info } = inner.update(grads, state, params, extras);
      const old = new Map(treePaths<Tensor>(state));
      const kept = treeMapWithPath(
        (path: string, leaf: Tensor) => where(finite, leaf, old.get(path)!),
        newState as object,
      ) as unknown as OptimizerState;
      const counted = add(finiteSteps, 1);
      const grows = equal(counted, growthInterval);
      const factor = where(finite, where(grows, full([], 2, { device: scale.device }), 1), 0.5);
      const next = clamp(mul(scale, factor), { min: 1, max: largest });
      return realiseEagerly({
        params: treeMap((p: Tensor, before: Tensor) => where(finite, p, before), newParams as object, params as object),
        state: {
          ...kept,
          lossScale: { scale: next, finiteSteps: where(finite, where(grows, mul(counted, 0), counted), 0) },
        },
        ...info,
        lossScale: { scale: next, skipped: logicalNot(finite) },
      }) as unknown as { params: P; state: OptimizerState } & Info & LossScaleInfo;
    },
  };
}

const refuse = (): never => {
  throw new ValueError("dynamicLossScale: must be the outermost wrapper; put transformGradients inside of it");
};

/** A skipped update leaves all state as it was, so this cannot be one link of a chain. */
const outermost: Transform = { name: "dynamicLossScale", init: refuse, update: refuse };

/**
 * The loss scale in the state of a `dynamicLossScale`, f32 scalar.
 *
 * @throws ValueError if the state holds none
 * @example lossScaleOf(dynamicLossScale(sgd({ learningRate: 1 })).init({ w: tensor([1]) })) // 65536
 */
export function lossScaleOf(state: State): Tensor {
  const scale = new Map(treePaths<Tensor>(state)).get("lossScale.scale");
  if (!scale) throw new ValueError('lossScaleOf: the state has no "lossScale.scale"; make it with dynamicLossScale');
  return scale;
}
