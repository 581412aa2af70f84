// exp.ts: e^x of an f32 array, computed by the WebAssembly kernel of assembly/exp.as.

import { wasmKernels, wasmRegions } from "./instance.ts";

const chunk = 16 * 1024; // 64 KiB: stays in the cache between the copies and the kernel

/**
 * to[i] = e^from[i], within 1 ulp, for arrays of the same size (the same array is fine).
 *
 * exp(NaN) = NaN, exp(-Infinity) = 0, exp(Infinity) = Infinity; denormal results are rounded, not flushed. The bits are
 * the same on every machine, unlike those of Math.exp.
 *
 * @example
 * const y = new Float32Array(2);
 * exp(Float32Array.of(0, -Infinity), y); // [1, 0]
 */
export function exp(from: Float32Array, to: Float32Array): void {
  const kernels = wasmKernels();
  const { memory, starts } = wasmRegions(chunk);
  const [at] = starts;
  for (let start = 0; start < from.length; start += chunk) {
    const size = Math.min(chunk, from.length - start);
    memory.set(from.subarray(start, start + size), at / 4);
    kernels.exp(at, at, size);
    to.set(memory.subarray(at / 4, at / 4 + size), start);
  }
}
