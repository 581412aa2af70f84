// @mc/autograd: gradients of functions of tensors. Gradients are tensors of the same lazy graph, so they have gradients.
export { stopGradient } from "@mc/tensor";
export { checkGrads, type CheckGradsOptions, type GradCheck } from "./checkGrads.ts";
export { customGradient, type GradientRule } from "./custom.ts";
export { grad, type GradOptions, type ValueAndGrad, valueAndGrad, type WithAux } from "./grad.ts";
export { vjp, type Vjp } from "./vjp.ts";
