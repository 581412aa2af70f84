// device/webgpu/index.ts: what the rest of the package uses of the WebGPU device.
export { connectWebGpu, type WebGpuOptions } from "./connect.ts";
export { WebGpuDevice } from "./device.ts";
export { noSuchPrecision, preferences } from "./matmulPrecision.ts";
export type { ElementWiseVariant, MatmulVariant, ReduceVariant, Variants } from "./program.ts";
