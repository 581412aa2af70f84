// grad.ts: gradients of scalar functions over trees of parameters.
import { DTypeError, div, mul, ones, ShapeError, Tensor, treeLeaves, treeMap, ValueError } from "@mc/tensor";
import { withVariables, zeroGradient } from "@mc/tensor/graph";
import { walkBack } from "./walk.ts";

/** What a differentiated function returns with `hasAux`: the loss, and anything else worth having. */
export interface WithAux<A> {
  readonly value: Tensor;
  readonly aux: A;
}

/** Options of `grad` and `valueAndGrad`. */
export interface GradOptions<HasAux extends boolean = boolean> {
  /** The function returns `{ value, aux }` instead of the scalar; default false. */
  readonly hasAux?: HasAux;
  /** Which argument to differentiate by; default 0. */
  readonly argument?: number;
  /**
   * What the loss is multiplied by on the way back, and the gradients divided by at the end, both in f32. It lifts gradients
   * over 6e-8, where f16 ends, when products run in f16. A power of two changes nothing else; with anything but a power of
   * two, gradients are rounded twice more. A number, or an f32 scalar such as `dynamicLossScale` of `@mc/optim` keeps. Default 1.
   */
  readonly lossScale?: number | Tensor;
}

/** Result of `valueAndGrad`. */
export interface ValueAndGrad<P, A> {
  /** The scalar, f32 []. */
  readonly value: Tensor;
  /** The tree of the chosen argument, with d value / d leaf at each f32 leaf (zeros at other tensors). */
  readonly grads: P;
  readonly aux: A;
}

/**
 * A function that gives the value and the gradient of `f` by a tree of parameters.
 *
 * @param f - returns an f32 scalar, or `{ value, aux }` with `hasAux`
 * @throws ValueError if f returns no tensor or the loss scale is no positive number, ShapeError or DTypeError if the value or the
 *   scale is no f32 scalar
 * @example
 * const { value, grads } = valueAndGrad((w: { a: Tensor }) => sum(mul(w.a, w.a)))({ a: tensor([1, 2]) });
 * await grads.a.toArray(); // [2, 4]
 */
export function valueAndGrad<Args extends readonly unknown[], A>(
  f: (...args: Args) => WithAux<A>,
  options: GradOptions<true> & { readonly hasAux: true },
): (...args: Args) => ValueAndGrad<Args[0], A>;
export function valueAndGrad<Args extends readonly unknown[]>(
  f: (...args: Args) => Tensor,
  options?: GradOptions<false>,
): (...args: Args) => ValueAndGrad<Args[0], undefined>;
export function valueAndGrad<Args extends readonly unknown[], A>(
  f: (...args: Args) => Tensor | WithAux<A>,
  { hasAux = false, argument = 0, lossScale = 1 }: GradOptions = {},
): (...args: Args) => ValueAndGrad<Args[0], A | undefined> {
  checkScale(lossScale);
  return (...args) => {
    const tree = args[argument];
    const leaves = [...new Set(treeLeaves<unknown>(tree).filter((x) => x instanceof Tensor))];
    if (leaves.length === 0)
      throw new ValueError(`valueAndGrad: argument ${argument} holds no tensors to differentiate by`);
    return withVariables(leaves, (variables) => {
      const variableOf = new Map(leaves.map((leaf, i) => [leaf, variables[i]!]));
      const substituted = args.map((arg, i) =>
        i === argument
          ? treeMap<unknown, unknown, unknown>((x) => (x instanceof Tensor ? variableOf.get(x)! : x), arg)
          : arg,
      );
      const result = f(...(substituted as unknown as Args));
      const value = hasAux ? (result as WithAux<A>).value : (result as Tensor);
      const aux = hasAux ? (result as WithAux<A>).aux : undefined;
      checkScalar(value, hasAux);
      const one = ones(value.shape, { device: value.device });
      const scaled = walkBack([value], variables, [lossScale === 1 ? one : mul(one, lossScale)]);
      const bars = lossScale === 1 ? scaled : scaled.map((bar) => bar && unscaled(bar, lossScale));
      const grads = treeMap<unknown, unknown, unknown>((x) => {
        if (!(x instanceof Tensor)) return x;
        const i = leaves.indexOf(x);
        return bars[i] ?? zeroGradient(x);
      }, tree) as Args[0];
      return { value, grads, aux };
    });
  };
}

const unscaled = (bar: Tensor, scale: number | Tensor): Tensor =>
  typeof scale === "number" ? mul(bar, 1 / scale) : div(bar, scale);

function checkScale(scale: number | Tensor): void {
  if (typeof scale === "number") {
    if (!(scale > 0 && Number.isFinite(scale)))
      throw new ValueError(`grad: lossScale must be a positive number, got ${scale}`);
  } else if (scale.ndim !== 0 || scale.dtype !== "f32") {
    throw new ShapeError(`grad: lossScale must be an f32 scalar, got ${scale.dtype} [${scale.shape.join(", ")}]`);
  }
}

function checkScalar(value: unknown, hasAux: boolean): void {
  if (!(value instanceof Tensor)) {
    const hint = hasAux
      ? "{ value, aux } with a tensor as value"
      : "a tensor; return { value, aux } and pass { hasAux: true } to return more";
    throw new ValueError(`grad: the function must return ${hint}`);
  }
  if (value.size !== 1)
    throw new ShapeError(
      `grad: the function must return a scalar, got shape [${value.shape.join(", ")}]; take its sum or mean`,
    );
  if (value.dtype !== "f32") throw new DTypeError(`grad: the function must return an f32 scalar, got ${value.dtype}`);
}

/**
 * A function that gives the gradient of `f` by its first argument (or `argument`), a tensor or a tree of tensors.
 *
 * @throws as `valueAndGrad`
 * @example await grad((x: Tensor) => sum(mul(x, x)))(tensor([1, 2])).toArray(); // [2, 4]
 */
export function grad<Args extends readonly unknown[], A>(
  f: (...args: Args) => WithAux<A>,
  options: GradOptions<true> & { readonly hasAux: true },
): (...args: Args) => Args[0];
export function grad<Args extends readonly unknown[]>(
  f: (...args: Args) => Tensor,
  options?: GradOptions<false>,
): (...args: Args) => Args[0];
export function grad<Args extends readonly unknown[], A>(
  f: (...args: Args) => Tensor | WithAux<A>,
  options: GradOptions = {},
): (...args: Args) => Args[0] {
  const both = valueAndGrad(
    f as (...args: Args) => WithAux<A>,
    options as GradOptions<true> & { readonly hasAux: true },
  );
  return (...args) => both(...args).grads;
}
