// linear.ts: y = x W^T + b.
import { add, foldIn, matmul, mT, normal, reshape, type Tensor, zeros } from "@mc/tensor";
import { checkFeatures, checkPositive } from "./check.ts";
import type { Block, Layer, RoleSpec } from "./layer.ts";

/** Parameters of `linear`. */
export type LinearParams = {
  /** [outFeatures, inFeatures]. */
  weight: Tensor;
  /** [outFeatures]; absent without bias. */
  bias?: Tensor;
};

/** Options of `linear`. */
export interface LinearOptions {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Default true. */
  readonly bias?: boolean;
  /** Standard deviation of the normal initial weights; default `1 / sqrt(inFeatures)`. Biases start at zero. */
  readonly std?: number;
  /** What the weight is for; default "matrix". */
  readonly role?: RoleSpec["role"];
  /** Logical matrices stacked in the rows of the weight; default: the whole weight is one. */
  readonly blocks?: readonly Block[];
}

/**
 * A linear map of the last axis: `y = x W^T + b`, x [..., inFeatures], y [..., outFeatures].
 *
 * @throws ValueError for sizes that are not positive integers; at `apply`, ShapeError if the last axis does not fit
 * @example
 * const layer = linear({ inFeatures: 3, outFeatures: 2 });
 * layer.apply(layer.init(key(1)), ones([5, 3])); // shape [5, 2]
 */
export function linear(options: LinearOptions): Layer<LinearParams, [x: Tensor], Tensor> {
  const { inFeatures, outFeatures, bias = true, std = 1 / Math.sqrt(inFeatures), role = "matrix", blocks } = options;
  checkPositive("linear", "inFeatures", inFeatures);
  checkPositive("linear", "outFeatures", outFeatures);
  return {
    init: (key) => ({
      weight: normal(foldIn(key, 0), [outFeatures, inFeatures], { std }),
      ...(bias && { bias: zeros([outFeatures], { device: key.device }) }),
    }),
    apply: (params, x) => {
      checkFeatures("linear", x, inFeatures);
      return linearMap(x, params.weight, params.bias);
    },
    roles: { weight: { role, ...(blocks && { blocks }) }, ...(bias && { bias: { role: "bias" } }) },
  };
}

/** `x W^T + b` for x [..., in], W [out, in], b [out]. Leading axes become rows, so that the gradient of W is one product. */
export function linearMap(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const y = matmul(reshape(x, [-1, x.shape.at(-1)!]), mT(weight));
  return reshape(bias ? add(y, bias) : y, [...x.shape.slice(0, -1), weight.shape[0]!]);
}
