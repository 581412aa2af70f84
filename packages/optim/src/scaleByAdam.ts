// scaleByAdam.ts: the direction of Adam.
import { add, div, exp, greater, maximum, mul, neg, reciprocal, sqrt, sub, type Tensor, where } from "@mc/tensor";
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
 * 1 - b^t for a scalar t. With x = t*ln(b): -x * (1 + x/2 * (1 + x/3 * (1 + ...))) while x > -1/8, else 1 - e^x. The plain
 * formula cancels for b near 1, and WGSL's pow(0.999, 1) alone costs 1e-4 of the result.
 */
export function oneMinusPower(b: number, t: Tensor): Tensor {
  if (b === 0) return add(mul(t, 0), 1);
  const x = mul(t, Math.log(b));
  let series: Tensor | number = 1;
  // (1/8)^10 / 11! < 1e-16: enough for float64
  for (let n = 10; n >= 2; n--) series = add(mul(div(x, n), series), 1);
  return where(greater(x, -0.125), neg(mul(x, series)), sub(1, exp(x)));
}
