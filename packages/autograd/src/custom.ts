// custom.ts: functions that bring their own gradient.
import { defineFused, type Tensor } from "@mc/tensor";

/** A gradient rule: from the inputs, the output and its cotangent to a cotangent of each input (undefined for none). */
export type GradientRule = (
  inputs: readonly Tensor[],
  output: Tensor,
  cotangent: Tensor,
) => readonly (Tensor | undefined)[];

/**
 * `f` with `rule` in place of its own gradient. The rule is tensor code, so second derivatives are those of the rule.
 *
 * @example
 * // rounds forwards, lets the gradient through backwards
 * const roundStraightThrough = customGradient((x) => floor(add(x, 0.5)), (_, __, g) => [g]);
 */
export function customGradient(
  f: (...inputs: Tensor[]) => Tensor,
  rule: GradientRule,
): (...inputs: Tensor[]) => Tensor {
  const op = defineFused<null>({
    name: f.name || "customGradient",
    // defineFused hands over the call's own tensors, so the function itself can be asked for its shape
    outputs: (inputs) => [f(...(inputs as readonly Tensor[]))],
    reference: (inputs) => [f(...inputs)],
    vjp: ({ inputs, outputs, cotangents }) => (cotangents[0] ? rule(inputs, outputs[0]!, cotangents[0]) : []),
  });
  return (...inputs) => op(inputs, null)[0]!;
}
