// optimizer.ts: from a transform of gradients to an optimizer of parameters.
import { add, cast, DTypeError, realiseEagerly, Tensor, treeMap, treePaths, ValueError, zeros } from "@mc/tensor";
import { chain } from "./chain.ts";
import { type Flat, zip } from "./paths.ts";
import { Plan } from "./plan.ts";
import type { Constraint, Context, Extras, Optimizer, OptimizerState, Params, State, Transform } from "./types.ts";

/**
 * The optimizer that adds a transform's updates to the parameters, counts the updates, and then applies a constraint.
 *
 * State: `step`, and that of the transform beside it.
 *
 * @param name for errors and plans
 * @param transform gradients in, additions to the parameters out
 * @param constraint what happens to the new parameters before they are returned
 * @example
 * const signSgd = optimizer("signSgd", chain({
 *   name: "sign",
 *   init: () => ({}),
 *   update: (updates, state) => ({ updates: treeMap((u: Tensor) => sign(u), updates), state }),
 * }, scaleByLearningRate(1e-3)));
 * signSgd.plan({ w: ones([2]) }).rows.length; // 1
 */
export function optimizer<Info extends object = object>(
  name: string,
  transform: Transform,
  constraint?: Constraint<Info>,
): Optimizer<Info> {
  return {
    name,
    transform,
    ...(constraint && { constraint }),
    init(params) {
      const leaves = uniqueLeaves(name, params).flat;
      const [first] = Object.values(leaves) as [Tensor];
      const state = transform.init(leaves);
      return realiseEagerly({ ...state, step: zeros([], { dtype: "i32", device: first.device }) });
    },
    update<P extends object>(grads: P, state: State, params: P, extras: Extras = {}) {
      const { flat, pathOf } = uniqueLeaves(name, params);
      const step = add(stepOf(name, state), 1);
      const context: Context = { ...extras, step: cast(step, "f32") };
      const gradients = zip(name, flat, { gradient: grads as Params }, (_, { gradient }) => gradient);
      const next = transform.update(gradients, state, flat, context);
      const added = zip(name, flat, { update: next.updates }, (p, { update }) => add(p, update));
      const { params: constrained, ...info } = constraint ? constraint(added, context) : { params: added };
      const leaves = new Map(treePaths(constrained));
      return realiseEagerly({
        params: treeMap((leaf: Tensor) => leaves.get(pathOf.get(leaf) as string) as Tensor, params),
        state: { ...next.state, step },
        ...info,
      }) as unknown as { params: P; state: OptimizerState } & Info;
    },
    plan(params) {
      const leaves = uniqueLeaves(name, params).flat;
      const described = transform.describe?.(leaves);
      const rows = Object.entries(leaves).map(([parameter, leaf]) => {
        const { role = "", optimizer = name, blocks = [] } = described?.get(parameter) ?? {};
        return { parameter, role, optimizer, shape: leaf.shape, blocks };
      });
      return new Plan(rows);
    },
  };
}

/**
 * An optimizer whose gradients pass through a transform first. State: that of both, as in a `chain`.
 *
 * @example
 * const optimizer = transformGradients(clipByGlobalNorm(1), sgd({ learningRate: 1 }));
 * const params = { w: tensor([0, 0]) };
 * const next = optimizer.update({ w: tensor([3, 4]) }, optimizer.init(params), params);
 * await next.params.w.toArray(); // [-0.6, -0.8]
 */
export function transformGradients<Info extends object>(transform: Transform, inner: Optimizer<Info>): Optimizer<Info> {
  return optimizer(inner.name, chain(transform, inner.transform), inner.constraint);
}

/** Each tensor once, under the first of its paths. */
function uniqueLeaves(name: string, params: object): { flat: Flat; pathOf: ReadonlyMap<Tensor, string> } {
  const pathOf = new Map<Tensor, string>();
  for (const [path, leaf] of treePaths<unknown>(params)) {
    if (!(leaf instanceof Tensor))
      throw new ValueError(`${name}: parameters must be tensors, got ${leaf} at "${path}"`);
    if (leaf.dtype !== "f32") throw new DTypeError(`${name}: parameters must be f32, got ${leaf.dtype} at "${path}"`);
    if (!pathOf.has(leaf)) pathOf.set(leaf, path);
  }
  if (pathOf.size === 0) throw new ValueError(`${name}: needs at least one parameter, got none`);
  return { flat: Object.fromEntries([...pathOf].map(([leaf, path]) => [path, leaf])), pathOf };
}

function stepOf(name: string, state: State): Tensor {
  const step = new Map(treePaths<Tensor>(state)).get("step");
  if (!step) throw new ValueError(`${name}: the state has no "step"; make it with init(params)`);
  return step;
}
