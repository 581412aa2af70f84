// types.ts: the two nouns of the package, and what they pass around.
import type { Tensor, Tree } from "@mc/tensor";
import type { BlockPlan, Plan } from "./plan.ts";

/** Parameters, or anything shaped like them: a tree of f32 tensors. */
export type Params = Tree<Tensor>;

/** State of a transform or an optimizer: a tree of tensors, saved like parameters. */
export interface State {
  readonly [name: string]: Tree<Tensor>;
}

/** State of an optimizer. */
export interface OptimizerState extends State {
  /** i32 scalar: how many updates there have been. */
  readonly step: Tensor;
}

/** What a training step can tell the optimizer besides gradients. Transforms ignore what they do not use. */
export interface Extras {
  /** Per layer f32 [numHeads]: largest attention logits of this step's forward. `muonClip` needs it. */
  readonly maxLogits?: readonly Tensor[];
  /** f32 scalar that takes the place of the configured learning rate for this update. */
  readonly learningRate?: Tensor;
  /** For transforms of one's own. */
  readonly [name: string]: unknown;
}

/** What a transform sees during an update. */
export interface Context extends Extras {
  /** f32 scalar: the number of this update, 1 for the first. */
  readonly step: Tensor;
}

/** What `plan` shows about one parameter. */
export interface Description {
  readonly role?: string;
  readonly optimizer?: string;
  readonly blocks?: readonly BlockPlan[];
}

/**
 * The building block: a pair of pure functions that turn gradients into updates. Updates have the tree of the parameters.
 * State is read by path: restored from a checkpoint it needs the right names, not the same nesting.
 */
export interface Transform {
  /** Names the transform's state within a `chain`, and the transform in errors. */
  readonly name: string;
  /** The state before the first update; `{}` if there is none. */
  init(params: Params): State;
  /** One step: new updates and new state. `params` are the values before the update. */
  update(
    updates: Params,
    state: State,
    params: Params,
    context: Context,
  ): { readonly updates: Params; readonly state: State };
  /** Describes parameters by path, for `plan`; leave it out if there is nothing to say. */
  describe?(params: Params): ReadonlyMap<string, Description>;
}

/** What becomes of the new parameters before the update returns them, and what it reports beside them. */
export type Constraint<Info extends object> = (params: Params, context: Context) => { readonly params: Params } & Info;

/** A transform applied to the parameters, followed by constraints on them. */
export interface Optimizer<Info extends object = object> {
  readonly name: string;
  readonly transform: Transform;
  readonly constraint?: Constraint<Info>;
  /**
   * The state before the first update.
   *
   * @param params tree of f32 tensors
   * @throws DTypeError for a parameter that is not f32, ValueError for a parameter without a role where roles are used
   */
  init(params: object): OptimizerState;
  /**
   * One step: parameters and state after it. Donate both to a compiled step and they are updated in place; outside of one, the
   * results start computing at once, so that loops do not grow.
   *
   * A tensor that stands at several paths (tied weights) is updated once; its gradient is read at the first of them.
   *
   * @param grads gradients, with the tree of `params`
   * @throws ValueError if a gradient or a piece of state is missing, ShapeError if it has another shape than its parameter
   */
  update<P extends object>(
    grads: P,
    state: State,
    params: P,
    extras?: Extras,
  ): { params: P; state: OptimizerState } & Info;
  /** Which parameter goes where, in how many blocks, with which scale: data that prints as a table. */
  plan(params: object): Plan;
}
