// index.ts: the kernels of the CPU device that run as WebAssembly SIMD.

export type { GemmOperand, GemmOutput, GemmShape } from "../gemmReference.ts";
export { gemm } from "./gemm.ts";
export { initWasm } from "./instance.ts";
