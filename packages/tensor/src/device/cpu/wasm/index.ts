// index.ts: the kernels of the CPU device that run as WebAssembly SIMD.

export type { GemmOperand, GemmOutput, GemmShape } from "../gemmReference.ts";
export {
  type AttentionBackward,
  type AttentionForward,
  type AttentionInputs,
  type AttentionOperand,
  attentionBackward,
  attentionForward,
} from "./attention.ts";
export { exp } from "./exp.ts";
export { gemm } from "./gemm.ts";
export { type GemmJob, gemmJobs } from "./gemmJobs.ts";
export { initWasm } from "./instance.ts";
export { type RowsOperand, swiglu, swigluBackward } from "./swiglu.ts";
