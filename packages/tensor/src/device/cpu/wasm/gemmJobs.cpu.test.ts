import { expect, test } from "vitest";
import { gemmReference } from "../gemmReference.ts";
import { type GemmJob, gemmJobs } from "./index.ts";

/** Numbers in [-1, 1) that are the same in every run. */
function noise(size: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** Products of m rows each, one after the other, with weights [n, k]; strides as a list, A's rows `pitch` apart. */
function jobsOf(rows: readonly number[], n: number, k: number, pitch = k): GemmJob[] {
  let start = 0;
  return rows.map((m, e) => {
    start += m;
    const first = start - m;
    return { m, n, k, a: first * pitch, aRow: pitch, aCol: 1, b: e * n * k, bRow: 1, bCol: k, c: first * n };
  });
}

test.each<[string, GemmJob[], number | undefined]>([
  ["several products", jobsOf([3, 1, 9, 64], 7, 5), undefined],
  ["products without rows", jobsOf([0, 3, 0, 0, 6, 0], 4, 3), undefined],
  ["products that do not fit the stage", jobsOf([3, 1, 9, 64, 5], 7, 5), 200],
  ["products of which one alone does not fit", jobsOf([30, 40], 7, 5), 60],
  ["rows that lie far apart", jobsOf([4, 5], 3, 2, 40), undefined],
  ["an empty inner dimension: zeros", jobsOf([2, 2], 3, 0), undefined],
  ["no products", [], undefined],
  ["rows in reverse order", jobsOf([4], 3, 2).map((job) => ({ ...job, a: 6, aRow: -2 })), undefined],
  [
    "outer products, the inner dimension differing",
    [5, 0, 7].map((k, i) => ({
      m: 4,
      n: 3,
      k,
      a: [0, 20, 20][i]!,
      aRow: 1,
      aCol: 4,
      b: [0, 15, 15][i]!,
      bRow: 3,
      bCol: 1,
      c: 12 * i,
    })),
    undefined,
  ],
])("gemmJobs(a, b, c, jobs) gives the bits of single products: %s", (_, jobs, stageLimit) => {
  const [a, b] = [noise(4000, 1), noise(4000, 2)];
  const expected = noise(2000, 3);
  const actual = expected.slice();
  for (const job of jobs)
    gemmReference(
      { data: a, offset: job.a, batchStrides: [], rowStride: job.aRow, colStride: job.aCol },
      { data: b, offset: job.b, batchStrides: [], rowStride: job.bRow, colStride: job.bCol },
      { data: expected, offset: job.c, batchStrides: [], rowStride: job.n },
      { batch: [], m: job.m, n: job.n, k: job.k },
    );
  gemmJobs(a, b, actual, jobs, stageLimit);
  expect(actual.findIndex((value, i) => !Object.is(value, expected[i]))).toBe(-1);
});
