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
  const { stride, chunk } = layoutOf(size, rows);
  const { memory, starts } = wasmRegions(2 * stride * chunk, stride * chunk);
  const [atFrom, atTo] = starts as [number, number];
  for (let r = 0; r < rows; r += chunk) {
    const count = Math.min(chunk, rows - r);
    copyRows(rowsFrom(from, r), 2 * count, size, { memory, at: atFrom / 4, stride }, "in");
    wasmKernels().swiglu(atFrom, atTo, count, size, stride);
    copyRows(rowsFrom(to, r), count, size, { memory, at: atTo / 4, stride }, "out");
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
  const { stride, chunk } = layoutOf(size, rows);
  const { memory, starts } = wasmRegions(2 * stride * chunk, stride * chunk, 2 * stride * chunk);
  const [atFrom, atDy, atTo] = starts as [number, number, number];
  for (let r = 0; r < rows; r += chunk) {
    const count = Math.min(chunk, rows - r);
    copyRows(rowsFrom(from, r), 2 * count, size, { memory, at: atFrom / 4, stride }, "in");
    copyRows(rowsFrom(dy, r), count, size, { memory, at: atDy / 4, stride }, "in");
    wasmKernels().swigluBackward(atFrom, atDy, atTo, count, size, stride);
    copyRows(rowsFrom(to, r), 2 * count, size, { memory, at: atTo / 4, stride }, "out");
  }
}

/** Rows in the module's memory are padded to whole vectors; so many of them are there at once. */
const layoutOf = (size: number, rows: number) => ({
  stride: 4 * Math.ceil(size / 4),
  chunk: Math.max(1, Math.min(rows, Math.floor(chunkFloats / size))),
});

/** Where row `first` begins. A row of gates and linear values is copied as two rows of half its width. */
const rowsFrom = ({ data, offset, width }: RowsOperand, first: number) => ({ data, start: offset + first * width });

interface Staged {
  readonly memory: Float32Array;
  /** In elements. */
  readonly at: number;
  readonly stride: number;
}

/** Copies dense rows into padded ones, or back; in one piece where there is no padding. */
function copyRows(
  { data, start }: { readonly data: Float32Array; readonly start: number },
  count: number,
  size: number,
  { memory, at, stride }: Staged,
  direction: "in" | "out",
): void {
  const pieces = size === stride ? 1 : count;
  const length = (count / pieces) * size;
  for (let r = 0; r < pieces; r++) {
    const [outside, inside] = [start + r * size, at + r * stride];
    if (direction === "in") memory.set(data.subarray(outside, outside + length), inside);
    else data.set(memory.subarray(inside, inside + length), outside);
  }
}
