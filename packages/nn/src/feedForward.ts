// feedForward.ts: the two kinds of MLP in a transformer layer.
import { foldIn, gelu, type Tensor } from "@mc/tensor";
import { blocksOf, joinRoles, type Layer } from "./layer.ts";
import { type LinearParams, linear } from "./linear.ts";
import { swiglu } from "./swiglu.ts";

/** Parameters of `swigluMlp`. */
export type SwigluParams = {
  /** Weight [2F, D]: the rows of the gate, then those of the linear branch. */
  gateUp: LinearParams;
  /** Weight [D, F]. */
  down: LinearParams;
};

/** Parameters of `geluMlp`. */
export type GeluParams = {
  /** Weight [F, D]. */
  up: LinearParams;
  /** Weight [D, F]. */
  down: LinearParams;
};

/** Sizes and initial weights of an MLP. */
export interface MlpOptions {
  /** Width of input and output, D. */
  readonly features: number;
  /** Width inside, F. */
  readonly intermediateSize: number;
  /** Default false. */
  readonly bias?: boolean;
  /** Standard deviation of the initial weights; default `1 / sqrt(D)`. */
  readonly std?: number;
  /** The same for the projection back to D; default `1 / sqrt(F)`. */
  readonly outputStd?: number;
}

/**
 * `down(silu(gate(x)) * up(x))` (Shazeer 2020, arXiv:2002.05202). Gate and up are one weight and one product; for Muon they
 * are two blocks.
 *
 * @example
 * const mlp = swigluMlp({ features: 8, intermediateSize: 16 });
 * mlp.apply(mlp.init(key(1)), ones([2, 8])); // shape [2, 8]
 */
export function swigluMlp({
  features,
  intermediateSize,
  bias = false,
  std,
  outputStd,
}: MlpOptions): Layer<SwigluParams, [x: Tensor], Tensor> {
  const blocks = blocksOf([intermediateSize, intermediateSize]);
  const gateUp = linear({ inFeatures: features, outFeatures: 2 * intermediateSize, bias, blocks, ...(std && { std }) });
  const down = linear({
    inFeatures: intermediateSize,
    outFeatures: features,
    bias,
    ...(outputStd && { std: outputStd }),
  });
  return {
    init: (key) => ({ gateUp: gateUp.init(foldIn(key, 0)), down: down.init(foldIn(key, 1)) }),
    apply: (params, x) => down.apply(params.down, swiglu(gateUp.apply(params.gateUp, x))),
    roles: joinRoles({ gateUp: gateUp.roles, down: down.roles }),
  };
}

/** Options of `geluMlp`. */
export interface GeluMlpOptions extends MlpOptions {
  /** "none" (exact, the default) or "tanh" (GPT-2's `gelu_new`). */
  readonly approximate?: "none" | "tanh";
}

/**
 * `down(gelu(up(x)))`.
 *
 * @example
 * const mlp = geluMlp({ features: 8, intermediateSize: 32, approximate: "tanh" });
 * mlp.apply(mlp.init(key(1)), ones([2, 8])); // shape [2, 8]
 */
export function geluMlp({
  features,
  intermediateSize,
  bias = false,
  std,
  outputStd,
  approximate = "none",
}: GeluMlpOptions): Layer<GeluParams, [x: Tensor], Tensor> {
  const up = linear({ inFeatures: features, outFeatures: intermediateSize, bias, ...(std && { std }) });
  const down = linear({
    inFeatures: intermediateSize,
    outFeatures: features,
    bias,
    ...(outputStd && { std: outputStd }),
  });
  return {
    init: (key) => ({ up: up.init(foldIn(key, 0)), down: down.init(foldIn(key, 1)) }),
    apply: (params, x) => down.apply(params.down, gelu(up.apply(params.up, x), { approximate })),
    roles: joinRoles({ up: up.roles, down: down.roles }),
  };
}
