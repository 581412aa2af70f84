// @mc/tensor: lazy immutable tensors, the compiler from graph to kernels, and the devices that run them.

export { checkpoint } from "./checkpoint.ts";
export type { CpuFusedKernel, CpuOperand } from "./device/cpu/fused.ts";
export { setDefaultDevice } from "./device/current.ts";
export type { Device, DeviceMemory, DeviceStats, MatmulPrecision, Traits } from "./device/device.ts";
export { matmulVariants } from "./device/webgpu/emitMatmul.ts";
export type { WebGpuFusedKernel, WgslOperand } from "./device/webgpu/fused.ts";
export type { TensorPlan, TensorTile } from "./device/webgpu/matmul/tensorCore.ts";
export { type TensorKind, tensorKinds } from "./device/webgpu/matmul/tensorTiles.ts";
export type { TileName } from "./device/webgpu/matmul/tiles.ts";
export type { ElementWiseVariant, MatmulVariant, ReduceVariant, Variants } from "./device/webgpu/program.ts";
export type { DType, Precision, StoredType, TypedArray } from "./dtype.ts";
export {
  DeviceError,
  type DeviceErrorCode,
  DTypeError,
  McError,
  SafetensorsError,
  ShapeError,
  ValueError,
} from "./errors.ts";
export { defineFused, type FusedOp, type FusedVjpContext, type TensorSpec } from "./fused.ts";
export { concat, split, stack } from "./ops/concat.ts";
export {
  arange,
  type CreateOptions,
  causalMask,
  eye,
  full,
  iota,
  oneHot,
  ones,
  onesLike,
  type TensorData,
  type TensorOptions,
  tensor,
  zeros,
  zerosLike,
} from "./ops/create.ts";
export {
  abs,
  add,
  bitwiseAnd,
  bitwiseOr,
  bitwiseXor,
  type ClampOptions,
  cast,
  ceil,
  clamp,
  cos,
  div,
  elementwise,
  equal,
  erf,
  exp,
  floor,
  type GeluOptions,
  gelu,
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
  type TensorLike,
  tanh,
  where,
} from "./ops/elementwise.ts";
export { scatterAdd, type TopK, take, takeAlongAxis, topK } from "./ops/indexing.ts";
export { type MatmulOptions, matmul } from "./ops/matmul.ts";
export {
  bernoulli,
  categorical,
  foldIn,
  key,
  type NormalOptions,
  normal,
  randomBits,
  splitKey,
  type UniformOptions,
  uniform,
} from "./ops/random.ts";
export {
  type ArgmaxOptions,
  all,
  any,
  argmax,
  logSoftmax,
  logsumexp,
  max,
  mean,
  min,
  type ReduceOptions,
  type SoftmaxOptions,
  softmax,
  sum,
} from "./ops/reduce.ts";
export {
  broadcastTo,
  expandDims,
  flip,
  mT,
  pad,
  reshape,
  slice,
  sliceAxis,
  squeeze,
  swapAxes,
  transpose,
} from "./ops/view.ts";
export { type CompileOptions, compile } from "./run/compile.ts";
export { type ConnectOptions, connect } from "./run/connect.ts";
export { type Explanation, explain, type KernelExplanation } from "./run/explain.ts";
export {
  type KernelGroup,
  type KernelProfile,
  type Measured,
  type Profile,
  type ProfileOptions,
  profile,
} from "./run/profile.ts";
export { realise, realiseEagerly } from "./run/realise.ts";
export { measureRoofline, type Roofline } from "./run/roofline.ts";
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
export { type Expr, type Operand, type ScalarOp, scalar } from "./scalar.ts";
export type { Shape } from "./shape.ts";
export { type NestedArray, Tensor } from "./tensor.ts";
