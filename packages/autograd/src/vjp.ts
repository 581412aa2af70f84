// vjp.ts: vector-Jacobian products of functions of tensors.
import { Tensor, ValueError } from "@mc/tensor";
import { withVariables, zeroGradient } from "@mc/tensor/graph";
import { walkBack } from "./walk.ts";

/** A function's value and the way back from it. */
export interface Vjp<V> {
  /** What the function returned. */
  readonly value: V;
  /** For a cotangent of each output, the cotangent of each primal: `x_bar_i = sum_j y_bar_j * dy_j/dx_i`. */
  readonly pullback: (...cotangents: Tensor[]) => Tensor[];
}

/**
 * Evaluates `f` at `primals` and gives the pullback. The walk back happens when the pullback is called; the values between are
 * kept by the graph, so call it before realising the outputs.
 *
 * @param f - returns one tensor or a list of tensors
 * @throws ValueError if f returns anything else, or the number of cotangents is wrong
 * @example
 * const { value, pullback } = vjp((x) => mul(x, x), tensor([1, 2]));
 * await pullback(ones([2]))[0].toArray(); // [2, 4]
 * @see Griewank & Walther, "Evaluating Derivatives", chapter 3 (reverse mode)
 */
export function vjp<V extends Tensor | readonly Tensor[]>(
  f: (...primals: Tensor[]) => V,
  ...primals: Tensor[]
): Vjp<V> {
  const run = (cotangents: readonly Tensor[] | undefined): { value: V; bars: Tensor[] } =>
    withVariables(primals, (variables) => {
      const value = f(...variables);
      const outputs: readonly Tensor[] = value instanceof Tensor ? [value] : value;
      if (!Array.isArray(outputs) || outputs.some((t) => !(t instanceof Tensor)))
        throw new ValueError("vjp: the function must return a tensor or a list of tensors");
      if (!cotangents) return { value, bars: [] };
      if (cotangents.length !== outputs.length)
        throw new ValueError(`vjp: the pullback needs ${outputs.length} cotangents, got ${cotangents.length}`);
      const bars = walkBack(outputs, variables, cotangents).map((bar, i) => bar ?? zeroGradient(variables[i]!));
      return { value, bars };
    });
  // the function is recorded again for the way back: equal work is done once by the compiler
  return { value: run(undefined).value, pullback: (...cotangents) => run(cotangents).bars };
}
