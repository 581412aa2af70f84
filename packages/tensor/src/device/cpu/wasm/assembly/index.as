// Everything the module exports.
export { attentionBackward, attentionBlockRows, attentionForward, copyMatrix } from "./attention";
export { exp } from "./exp";
export { gemm, gemmScratchBytes } from "./gemm";
export { swiglu, swigluBackward } from "./swiglu";

/** First byte that the caller may use. */
export function heapBase(): usize {
  return __heap_base;
}
