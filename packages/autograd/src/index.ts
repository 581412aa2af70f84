// @mc/autograd: gradients of functions of tensors. Gradients are tensors of the same lazy graph, so they have gradients.
export { checkpoint, stopGradient } from "@mc/tensor";
export { type CheckGradsOptions, checkGrads, type GradCheck } from "./checkGrads.ts";
export { customGradient, type GradientRule } from "./custom.ts";
export { type GradOptions, grad, type ValueAndGrad, valueAndGrad, type WithAux } from "./grad.ts";
export { type Vjp, vjp } from "./vjp.ts";
