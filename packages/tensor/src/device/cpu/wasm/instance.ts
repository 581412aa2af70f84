// instance.ts: the one instance of the WebAssembly module, and its memory.

import { wasmBase64 } from "./binary.ts";

/** What the module exports. Pointers are in bytes, strides in elements. */
interface WasmKernels {
  readonly memory: WebAssembly.Memory;
  heapBase(): number;
  gemmScratchBytes(): number;
  gemm(
    a: number,
    aRow: number,
    aCol: number,
    b: number,
    bRow: number,
    bCol: number,
    c: number,
    cRow: number,
    m: number,
    n: number,
    k: number,
    accumulate: number,
    scratch: number,
  ): void;
}

let kernels: WasmKernels | undefined;
let floats = new Float32Array(0);

function moduleBytes(): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(wasmBase64), (character) => character.charCodeAt(0));
}

/**
 * Compiles and instantiates the kernels without blocking the thread. Calling it again does nothing.
 * A device calls it when it connects; the kernels instantiate synchronously when nobody has.
 *
 * @throws WebAssembly.CompileError on an engine without fixed-width SIMD
 * @example
 * await initWasm();
 */
export async function initWasm(): Promise<void> {
  if (kernels) return;
  const { instance } = await WebAssembly.instantiate(moduleBytes());
  kernels ??= instance.exports as unknown as WasmKernels;
}

/** The kernels, instantiated now if `initWasm` has not been awaited. */
export function wasmKernels(): WasmKernels {
  // Some browsers refuse to compile more than 4 KiB on the main thread synchronously; initWasm is for them.
  kernels ??= new WebAssembly.Instance(new WebAssembly.Module(moduleBytes())).exports as unknown as WasmKernels;
  return kernels;
}

/**
 * The memory of the module as floats, at least `bytes` long. The memory only grows, and growing detaches older views:
 * ask again before every use and keep none.
 */
export function wasmFloats(bytes: number): Float32Array {
  const { memory } = wasmKernels();
  const missing = bytes - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / 65536));
  if (floats.buffer !== memory.buffer) floats = new Float32Array(memory.buffer);
  return floats;
}
