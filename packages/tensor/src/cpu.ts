// cpu.ts (`@mc/tensor/cpu`): WebAssembly kernels over Float32Arrays, for the CPU kernels of fused ops in other packages.

export { type GemmArray, gemmReference } from "./device/cpu/gemmReference.ts";
export * from "./device/cpu/wasm/index.ts";
