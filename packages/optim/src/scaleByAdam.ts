// scaleByAdam.ts: the direction of Adam.
import { add, div, exp, greater, maximum, mul, reciprocal, sqrt, sub, type Tensor, where } from "@mc/tensor";
import { checkFraction, checkNotNegative } from "./checks.ts";
import { part, zerosOf, zip } from "./paths.ts";
import type { Transform } from "./types.ts";

/** Options of `scaleByAdam`. */
export interface ScaleByAdamOptions {
  /** Decay of the average of gradients, in [0, 1); default 0.9. */
  readonly b1?: number;
  /** Decay of the average of squared gradients, in [0, 1); default 0.999. */
  readonly b2?: number;
  /** Added to the root of the second moment, after bias correction; default 1e-8. */
  readonly eps?: number;
  /** Divide by the largest second moment so far (AMSGrad). Default false. */
  readonly amsgrad?: boolean;
}

/**
 * Adam's direction: m = b1*m + (1 - b1)*g; v = b2*v + (1 - b2)*g^2; u = m / (1 - b1^t) / (sqrt(v) / sqrt(1 - b2^t) + eps),
 * with the running maximum of v in place of v for AMSGrad. State: `m`, `v` and, for AMSGrad, `vMax`.
 *
 * @throws ValueError if b1 or b2 is outside [0, 1) or eps is negative
 * @example chain(scaleByAdam({ b2: 0.95 }), scaleByLearningRate(1e-3))
 * @see Kingma and Ba, arXiv 1412.6980; Reddi et al., arXiv 1904.09237
 */
export function scaleByAdam({ b1 = 0.9, b2 = 0.999, eps = 1e-8, amsgrad = false }: ScaleByAdamOptions = {}): Transform {
  checkFraction("scaleByAdam", "b1", b1);
  checkFraction("scaleByAdam", "b2", b2);
  checkNotNegative("scaleByAdam", "eps", eps);
  return {
    name: "scaleByAdam",
    init: (params) => ({ m: zerosOf(params), v: zerosOf(params), ...(amsgrad && { vMax: zerosOf(params) }) }),
    update(updates, state, _params, { step }) {
      const m = zip("scaleByAdam", updates, { m: part(state, "m") }, (g, { m }) => add(mul(m, b1), mul(g, 1 - b1)));
      const v = zip("scaleByAdam", updates, { v: part(state, "v") }, (g, { v }) =>
        add(mul(v, b2), mul(mul(g, g), 1 - b2)),
      );
      const vMax = amsgrad
        ? zip("scaleByAdam", v, { vMax: part(state, "vMax") }, (v, { vMax }) => maximum(vMax, v))
        : v;
      const c1 = reciprocal(oneMinusPower(b1, step));
      const c2 = reciprocal(sqrt(oneMinusPower(b2, step)));
      const direction = zip("scaleByAdam", m, { v: vMax }, (m, { v }) => div(mul(m, c1), add(mul(sqrt(v), c2), eps)));
      return { updates: direction, state: { m, v, ...(amsgrad && { vMax }) } };
    },
  };
}

/**
 * 1 - b^t for a scalar t, in few operations, because every thread of an update repeats them. With x = t*ln(b):
 *
 *   e^x = (E + x*O) / (E - x*O),  E = 30240 + 3360 x^2 + 30 x^4,  O = 15120 + 420 x^2 + x^4   (Pade of order 5, 5)
 *   1 - e^x = -2 x*O / (E - x*O) while x > -1/8, exact to 1e-19 of itself there; else 1 - e^x as it stands
 *
 * The plain formula cancels for b near 1, and WGSL's pow(0.999, 1) alone costs 1e-4 of the result.
 */
export function oneMinusPower(b: number, t: Tensor): Tensor {
  if (b === 0) return add(mul(t, 0), 1);
  const x = mul(t, Math.log(b));
  const square = mul(x, x);
  const even = add(mul(square, add(mul(square, 30), 3360)), 30240);
  const odd = mul(x, add(mul(square, add(square, 420)), 15120));
  return where(greater(x, -0.125), div(mul(odd, -2), sub(even, odd)), sub(1, exp(x)));
}
