// @mc/tensor: lazy immutable tensors, the compiler from graph to kernels, and the devices that run them.
export { setDefaultDevice } from "./device/current.ts";
export type { Device, DeviceMemory, DeviceStats } from "./device/device.ts";
export type { CpuFusedKernel, CpuOperand } from "./device/cpu/fused.ts";
export type { WebGpuFusedKernel, WgslOperand } from "./device/webgpu/fused.ts";
export type { DType, Precision, TypedArray } from "./dtype.ts";
export { DeviceError, type DeviceErrorCode, DTypeError, McError, SafetensorsError, ShapeError, ValueError } from "./errors.ts";
export { defineFused, type FusedOp, type FusedVjpContext, type TensorSpec } from "./fused.ts";
export { concat, split, stack } from "./ops/concat.ts";
export {
  arange,
  causalMask,
  type CreateOptions,
  eye,
  full,
  iota,
  oneHot,
  ones,
  onesLike,
  tensor,
  type TensorData,
  type TensorOptions,
  zeros,
  zerosLike,
} from "./ops/create.ts";
export {
  abs,
  add,
  bitwiseAnd,
  bitwiseOr,
  bitwiseXor,
  cast,
  ceil,
  clamp,
  type ClampOptions,
  cos,
  div,
  elementwise,
  equal,
  erf,
  exp,
  floor,
  gelu,
  type GeluOptions,
  greater,
  greaterEqual,
  isFinite,
  isNaN,
  less,
  lessEqual,
  log,
  logicalAnd,
  logicalNot,
  logicalOr,
  maximum,
  minimum,
  mod,
  mul,
  neg,
  notEqual,
  pow,
  reciprocal,
  relu,
  rsqrt,
  shiftLeft,
  shiftRight,
  sigmoid,
  sign,
  silu,
  sin,
  softplus,
  sqrt,
  square,
  stopGradient,
  sub,
  tanh,
  type TensorLike,
  where,
} from "./ops/elementwise.ts";
export { scatterAdd, take, takeAlongAxis, type TopK, topK } from "./ops/indexing.ts";
export { matmul } from "./ops/matmul.ts";
export { bernoulli, categorical, foldIn, key, normal, type NormalOptions, randomBits, splitKey, uniform, type UniformOptions } from "./ops/random.ts";
export {
  all,
  any,
  argmax,
  type ArgmaxOptions,
  logSoftmax,
  logsumexp,
  max,
  mean,
  min,
  type ReduceOptions,
  softmax,
  type SoftmaxOptions,
  sum,
} from "./ops/reduce.ts";
export { broadcastTo, expandDims, flip, mT, pad, reshape, slice, sliceAxis, squeeze, swapAxes, transpose } from "./ops/view.ts";
export { compile, type CompileOptions } from "./run/compile.ts";
export { connect, type ConnectOptions } from "./run/connect.ts";
export { explain, type Explanation, type KernelExplanation } from "./run/explain.ts";
export { realise, realiseEagerly } from "./run/realise.ts";
export { type MapTree, type Tree, treeFromPaths, treeLeaves, treeMap, treeMapWithPath, treePaths } from "./run/tree.ts";
export {
  loadSafetensors,
  readSafetensors,
  type SafetensorsDType,
  type SafetensorsEntry,
  type SafetensorsFile,
  type SafetensorsInput,
  saveSafetensors,
  writeSafetensors,
} from "./safetensors.ts";
export { type Expr, scalar, type ScalarOp } from "./scalar.ts";
export type { Shape } from "./shape.ts";
export { type NestedArray, Tensor } from "./tensor.ts";
