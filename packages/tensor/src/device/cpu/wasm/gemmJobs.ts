// gemmJobs.ts: many small products over the same arrays, staged together: what a product costs besides its arithmetic is
// paid once.

import { gemm } from "./gemm.ts";
import { wasmKernels, wasmRegions } from "./instance.ts";

/** One product C[m, n] = A[m, k] B[k, n]. Positions and strides are in elements; C is dense, its rows lie side by side. */
export interface GemmJob {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Where A begins in its array. Value [i, p] lies at `a + i * aRow + p * aCol`. */
  readonly a: number;
  readonly aRow: number;
  readonly aCol: number;
  /** The same for value [p, j] of B. */
  readonly b: number;
  readonly bRow: number;
  readonly bCol: number;
  /** Where C begins in its array. */
  readonly c: number;
}

/** Elements `start` to `end` of an array, and how many of them are wanted (again for each job that wants them). */
interface Span {
  readonly start: number;
  readonly end: number;
  readonly elements: number;
}

/**
 * Computes all products, in f32, with the bits that `gemm` gives each of them. The results must lie side by side in C, in the
 * order of the jobs.
 *
 * @param stageLimit as for `gemm`: elements that are copied to the module's memory at one time; longer lists are cut
 * @example
 * // two scalar products of neighbouring pairs
 * const c = new Float32Array(2);
 * const job = (i: number) => ({ m: 1, n: 1, k: 2, a: 2 * i, aRow: 2, aCol: 1, b: 2 * i, bRow: 1, bCol: 1, c: i });
 * gemmJobs(Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7, 8), c, [job(0), job(1)]); // c = [17, 53]
 */
export function gemmJobs(
  a: Float32Array,
  b: Float32Array,
  c: Float32Array,
  jobs: readonly GemmJob[],
  stageLimit = 4 * 1024 * 1024,
): void {
  const present = jobs.filter(({ m, n }) => m > 0 && n > 0);
  if (present.length > 0) run(a, b, c, present, stageLimit);
}

function run(a: Float32Array, b: Float32Array, c: Float32Array, jobs: readonly GemmJob[], stageLimit: number): void {
  const spanA = spanOf(jobs, (j) => ({ start: j.a, sizes: [j.m, j.k], strides: [j.aRow, j.aCol] }));
  const spanB = spanOf(jobs, (j) => ({ start: j.b, sizes: [j.k, j.n], strides: [j.bRow, j.bCol] }));
  const spanC = spanOf(jobs, (j) => ({ start: j.c, sizes: [j.m, j.n], strides: [j.n, 1] }));
  const isDense = [spanA, spanB].every(({ start, end, elements }) => end - start <= 2 * elements);
  if (isDense && [spanA, spanB, spanC].reduce((sum, { start, end }) => sum + end - start, 0) <= stageLimit) {
    runStaged(a, b, c, jobs, spanA, spanB, spanC);
  } else if (isDense && jobs.length > 1) {
    const half = jobs.length >> 1;
    run(a, b, c, jobs.slice(0, half), stageLimit);
    run(a, b, c, jobs.slice(half), stageLimit);
  } else {
    for (const job of jobs) {
      gemm(
        { data: a, offset: job.a, batchStrides: [], rowStride: job.aRow, colStride: job.aCol },
        { data: b, offset: job.b, batchStrides: [], rowStride: job.bRow, colStride: job.bCol },
        { data: c, offset: job.c, batchStrides: [], rowStride: job.n },
        { batch: [], m: job.m, n: job.n, k: job.k },
        stageLimit,
      );
    }
  }
}

interface Matrix {
  readonly start: number;
  readonly sizes: readonly [number, number];
  readonly strides: readonly [number, number];
}

function spanOf(jobs: readonly GemmJob[], matrixOf: (job: GemmJob) => Matrix): Span {
  let start = Number.POSITIVE_INFINITY;
  let end = 0;
  let elements = 0;
  for (const job of jobs) {
    const { start: at, sizes, strides } = matrixOf(job);
    if (sizes[0] === 0 || sizes[1] === 0) continue;
    const reach = [(sizes[0] - 1) * strides[0], (sizes[1] - 1) * strides[1]] as const;
    start = Math.min(start, at + Math.min(0, reach[0]) + Math.min(0, reach[1]));
    end = Math.max(end, at + Math.max(0, reach[0]) + Math.max(0, reach[1]) + 1);
    elements += sizes[0] * sizes[1];
  }
  return { start: Math.min(start, end), end, elements };
}

function runStaged(
  a: Float32Array,
  b: Float32Array,
  c: Float32Array,
  jobs: readonly GemmJob[],
  spanA: Span,
  spanB: Span,
  spanC: Span,
): void {
  const kernels = wasmKernels();
  const sizes = [spanA, spanB, spanC].map(({ start, end }) => end - start);
  const { memory, starts } = wasmRegions(kernels.gemmScratchBytes() / 4, ...sizes);
  const [scratch, atA, atB, atC] = starts as [number, number, number, number];
  memory.set(a.subarray(spanA.start, spanA.end), atA / 4);
  memory.set(b.subarray(spanB.start, spanB.end), atB / 4);
  for (const { m, n, k, a: fromA, aRow, aCol, b: fromB, bRow, bCol, c: to } of jobs) {
    kernels.gemm(
      atA + 4 * (fromA - spanA.start),
      aRow,
      aCol,
      atB + 4 * (fromB - spanB.start),
      bRow,
      bCol,
      atC + 4 * (to - spanC.start),
      n,
      m,
      n,
      k,
      0,
      scratch,
    );
  }
  c.set(memory.subarray(atC / 4, atC / 4 + sizes[2]!), spanC.start);
}
