// norm.ts: RMSNorm and LayerNorm over the last axis.
import { add, mean, mul, ones, rsqrt, square, sub, type Tensor, zeros } from "@mc/tensor";
import { checkFeatures, checkPositive } from "./check.ts";
import type { Layer } from "./layer.ts";

/** Parameters of a norm. */
export type NormParams = {
  /** Gain, [features]. */
  weight: Tensor;
  /** [features]; LayerNorm with bias only. */
  bias?: Tensor;
};

/** Options of `rmsNorm`. */
export interface RmsNormOptions {
  /** Size of the last axis. */
  readonly features: number;
  /** Added to the mean square; default 1e-6. */
  readonly eps?: number;
}

/**
 * `y = x / sqrt(mean(x^2) + eps) * weight` over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467).
 *
 * @example
 * const norm = rmsNorm({ features: 4 });
 * norm.apply(norm.init(key(1)), tensor([[2, 2, 2, 2]])); // [[1, 1, 1, 1]]
 */
export function rmsNorm({ features, eps = 1e-6 }: RmsNormOptions): Layer<NormParams, [x: Tensor], Tensor> {
  checkPositive("rmsNorm", "features", features);
  return {
    init: (key) => ({ weight: ones([features], { device: key.device }) }),
    apply: ({ weight }, x) => {
      checkFeatures("rmsNorm", x, features);
      const scale = rsqrt(add(mean(square(x), { axis: -1, keepDims: true }), eps));
      return mul(mul(x, scale), weight);
    },
    roles: { weight: { role: "norm" } },
  };
}

/** Options of `layerNorm`. */
export interface LayerNormOptions {
  /** Size of the last axis. */
  readonly features: number;
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
  /** Default true. */
  readonly bias?: boolean;
}

/**
 * `y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias` over the last axis, var without Bessel's correction
 * (Ba et al. 2016, arXiv:1607.06450).
 *
 * @example
 * const norm = layerNorm({ features: 2 });
 * norm.apply(norm.init(key(1)), tensor([[1, 3]])); // [[-1, 1]]
 */
export function layerNorm({
  features,
  eps = 1e-5,
  bias = true,
}: LayerNormOptions): Layer<NormParams, [x: Tensor], Tensor> {
  checkPositive("layerNorm", "features", features);
  return {
    init: ({ device }) => ({
      weight: ones([features], { device }),
      ...(bias && { bias: zeros([features], { device }) }),
    }),
    apply: (params, x) => {
      checkFeatures("layerNorm", x, features);
      const centred = sub(x, mean(x, { axis: -1, keepDims: true }));
      const scale = rsqrt(add(mean(square(centred), { axis: -1, keepDims: true }), eps));
      const y = mul(mul(centred, scale), params.weight);
      return params.bias ? add(y, params.bias) : y;
    },
    roles: { weight: { role: "norm" }, ...(bias && { bias: { role: "bias" } }) },
  };
}
