// device/webgpu/matmul/expected.ts: about how long a product takes on a large GPU, by shape alone: what tiles are chosen by.
//
// Multiprocessors take workgroups in turns. One that has fewer of them at a time than hide each other's waiting is slower, and
// the last turn leaves some with nothing to do:
//
//   turns = ceil(workgroups / processors)
//   time = turns * processors * flops of a tile / (rate * min(1, turns / enough))
//
// plus passes over memory, before (packing) and after (adding slices of k). Measured on an H200, where `rate` and `enough` come from,
// it is within a tenth for squares of 1024, 2048 and 4096, and tells which of two tiles is faster for the layers of GPT-2.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";

/** Multiprocessors of an H200. A constant, because plans must not depend on the adapter. */
const processors = 132;
/** Bytes that a pass over memory moves in a microsecond. */
const bytes = 3.5e6;
/** Microseconds that a pass before takes at least, and one after, which waits for the last workgroup. */
const passBefore = 6;
const passAfter = 15;

/** How fast tiles of one kind are. */
export interface Speed {
  /** TFLOP/s of a large square. */
  readonly rate: number;
  /** Workgroups of a multiprocessor from which on it is that fast. */
  readonly enough: number;
}

/** Tiles of a product that are computed: of a symmetric one those that reach the diagonal or lie above it. */
function tilesOf({ m, n, symmetric }: MatmulKernel, rows: number, columns: number): number {
  const [down, across] = [Math.ceil(m / rows), Math.ceil(n / columns)];
  if (!symmetric) return down * across;
  let count = 0;
  for (let column = 0; column < across; column++) count += Math.min(down, Math.ceil(((column + 1) * columns) / rows));
  return count;
}

/** Microseconds that a product in tiles of `rows` x `columns` takes, k cut into `slices`. */
export function expectedTime(
  kernel: MatmulKernel,
  { rows, columns }: { readonly rows: number; readonly columns: number },
  { rate, enough }: Speed,
  slices: number,
): number {
  const { batch, m, n, k } = kernel;
  const entries = sizeOf(batch);
  const turns = Math.ceil((tilesOf(kernel, rows, columns) * entries * slices) / processors);
  const flops = turns * processors * 2 * rows * columns * Math.ceil(k / slices);
  const time = flops / (rate * 1e6 * Math.min(1, turns / enough));
  // partial products are written and read
  return slices === 1 ? time : time + passAfter + (slices * entries * m * n * 8) / bytes;
}

/** Microseconds of a pass before that rounds so many elements: 4 bytes in, 2 out. */
export const packTime = (elements: number): number => (elements === 0 ? 0 : passBefore + (elements * 6) / bytes);

/** Most slices, the shortest of them, and the share of the time without that they may take to be worth a second pass. */
const mostSlices = 128;
const shortestSlice = 128;
const worth = 0.8;

/** A way to compute products: tiles, their speed, and microseconds that a pass before takes. */
export interface Candidate {
  readonly tile: { readonly rows: number; readonly columns: number };
  readonly speed: Speed;
  readonly before?: number;
}

/** The candidate that takes the least time, slices of k for it, and that time in microseconds. */
export function quickest<T extends Candidate>(
  kernel: MatmulKernel,
  candidates: readonly T[],
): { way: T; slices: number; time: number } {
  const timed = (slices: number) =>
    candidates.map((way) => ({
      way,
      slices,
      time: expectedTime(kernel, way.tile, way.speed, slices) + (way.before ?? 0),
    }));
  const least = (choices: ReturnType<typeof timed>) => choices.reduce((a, b) => (b.time < a.time ? b : a));
  const whole = least(timed(1));
  const most = Math.min(mostSlices, Math.floor(kernel.k / shortestSlice));
  const sliced = least([whole, ...Array.from({ length: Math.max(0, most - 1) }, (_, i) => timed(i + 2)).flat()]);
  return sliced.time < worth * whole.time ? sliced : whole;
}
