// swiglu.ts: the gated activation of SwiGLU and its gradient over Float32Arrays, by the WebAssembly kernels of assembly/swiglu.as.

import { wasmKernels, wasmRegions } from "./instance.ts";

/** Rows of numbers that lie one after the other: value (r, i) is `data[offset + r * width + i]`. */
export interface RowsOperand {
  readonly data: Float32Array;
  readonly offset: number;
  readonly width: number;
}

const chunkFloats = 8 * 1024; // some tens of KiB: stays in the cache between the copies and the kernel

/**
 * to[r, i] = u g / (1 + e^-g) with g = from[r, i] and u = from[r, F + i], where F = to.width and from.width = 2 F. Within 2 ulp;
 * the same bits on every machine.
 *
 * @example
 * const to = { data: new Float32Array(1), offset: 0, width: 1 };
 * swiglu({ data: Float32Array.of(0, 5), offset: 0, width: 2 }, to, 1); // to.data: [0]
 */
export function swiglu(from: RowsOperand, to: RowsOperand, rows: number): void {
  const size = to.width;
  const chunk = rowsAtOnce(size, rows);
  const stride = size % 4 === 0 ? size : size + 4 - (size % 4);
  const { memory, starts } = wasmRegions(2 * stride * chunk, stride * chunk);
  const [atFrom, atTo] = starts as [number, number];
  for (let r = 0; r < rows; r += chunk) {
    const count = Math.min(chunk, rows - r);
    loadHalves(from, r, memory, atFrom, count, size, stride);
    wasmKernels().swiglu(atFrom, atTo, count, size, stride);
    store(to, r, memory, atTo, count, size, stride);
  }
}

/**
 * The gradient of `swiglu`: to[r, i] = dy u s (1 + g (1 - s)) and to[r, F + i] = dy g s, s = 1 / (1 + e^-g).
 *
 * @example
 * const to = { data: new Float32Array(2), offset: 0, width: 2 };
 * const dy = { data: Float32Array.of(1), offset: 0, width: 1 };
 * swigluBackward({ data: Float32Array.of(0, 5), offset: 0, width: 2 }, dy, to, 1); // to.data: [2.5, 0]
 */
export function swigluBackward(from: RowsOperand, dy: RowsOperand, to: RowsOperand, rows: number): void {
  const size = dy.width;
  const chunk = rowsAtOnce(size, rows);
  const stride = size % 4 === 0 ? size : size + 4 - (size % 4);
  const { memory, starts } = wasmRegions(2 * stride * chunk, stride * chunk, 2 * stride * chunk);
  const [atFrom, atDy, atTo] = starts as [number, number, number];
  for (let r = 0; r < rows; r += chunk) {
    const count = Math.min(chunk, rows - r);
    loadHalves(from, r, memory, atFrom, count, size, stride);
    load(dy, r, memory, atDy, count, size, stride);
    wasmKernels().swigluBackward(atFrom, atDy, atTo, count, size, stride);
    // gates and linear values are rows of half the width
    store({ ...to, width: size }, 2 * r, memory, atTo, 2 * count, size, stride);
  }
}

const rowsAtOnce = (size: number, rows: number): number => Math.max(1, Math.min(rows, Math.floor(chunkFloats / size)));

/** Rows from `first` on into the module's memory; without padding in one piece. */
function load(
  from: RowsOperand,
  first: number,
  memory: Float32Array,
  at: number,
  count: number,
  size: number,
  stride: number,
) {
  const start = from.offset + first * from.width;
  if (size === stride) memory.set(from.data.subarray(start, start + count * size), at / 4);
  else
    for (let r = 0; r < count; r++)
      memory.set(from.data.subarray(start + r * size, start + (r + 1) * size), at / 4 + r * stride);
}

function loadHalves(
  from: RowsOperand,
  first: number,
  memory: Float32Array,
  at: number,
  count: number,
  size: number,
  stride: number,
): void {
  load({ ...from, width: size }, 2 * first, memory, at, 2 * count, size, stride);
}

/** `load` backwards. */
function store(
  to: RowsOperand,
  first: number,
  memory: Float32Array,
  at: number,
  count: number,
  size: number,
  stride: number,
) {
  const start = to.offset + first * to.width;
  if (size === stride) to.data.set(memory.subarray(at / 4, at / 4 + count * size), start);
  else
    for (let r = 0; r < count; r++)
      to.data.set(memory.subarray(at / 4 + r * stride, at / 4 + r * stride + size), start + r * size);
}
