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
  exp(from: number, to: number, size: number): void;
  swiglu(from: number, to: number, rows: number, size: number, stride: number): void;
  swigluBackward(from: number, dy: number, to: number, rows: number, size: number, stride: number): void;
  attentionBlockRows(): number;
  copyMatrix(
    from: number,
    fromRow: number,
    fromColumn: number,
    to: number,
    toRow: number,
    toColumn: number,
    rows: number,
    columns: number,
  ): void;
  attentionForward(
    q: number,
    kT: number,
    v: number,
    o: number,
    rowMax: number,
    rowShift: number,
    rowSum: number,
    ranges: number,
    queryIds: number,
    keyIds: number,
    queries: number,
    keys: number,
    size: number,
    valueSize: number,
    scale: number,
    causal: number,
    window: number,
    softCap: number,
    slope: number,
    scores: number,
  ): void;
  attentionBackward(
    q: number,
    k: number,
    kT: number,
    vT: number,
    logSumExp: number,
    delta: number,
    dO: number,
    dq: number,
    dk: number,
    dv: number,
    ranges: number,
    queryIds: number,
    keyIds: number,
    queries: number,
    keys: number,
    size: number,
    valueSize: number,
    scale: number,
    causal: number,
    window: number,
    softCap: number,
    slope: number,
    scores: number,
    gradients: number,
    slopes: number,
  ): void;
}

let kernels: WasmKernels | undefined;
let floats = new Float32Array(0); // the memory, as last seen

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

/** Room in the module's memory. */
export interface WasmRegions {
  /** The whole memory. Growing it detaches older views: keep none. */
  readonly memory: Float32Array<ArrayBuffer>;
  /** Where each region starts, in bytes, as the kernels take it; in elements of `memory`, a quarter of that. */
  readonly starts: readonly number[];
}

/**
 * Lays out regions of the given sizes, in floats, one after the other at cache lines, over those of the last call.
 * The memory only grows: it stays as large as the largest call so far.
 */
export function wasmRegions(...sizes: readonly number[]): WasmRegions {
  const { memory, heapBase } = wasmKernels();
  let end = Math.ceil(heapBase() / 64) * 64;
  const starts = sizes.map((size) => {
    const start = end;
    end += Math.ceil(size / 16) * 64;
    return start;
  });
  const missing = end - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / 65536));
  if (floats.buffer !== memory.buffer) floats = new Float32Array(memory.buffer);
  return { memory: floats, starts };
}
