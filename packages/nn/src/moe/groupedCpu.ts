// moe/groupedCpu.ts: the grouped products on the CPU: one matrix product a group, all staged together.
import type { CpuFusedKernel, CpuOperand, Precision } from "@mc/tensor";
import { type GemmJob, gemmJobs, gemmReference } from "@mc/tensor/cpu";
import type { MatmulSizes, OuterSizes } from "./groupedSizes.ts";

/** x [M, K], w [E, N, K], offsets -> y [M, N]: y_r = w_e x_r. */
export function groupedMatmulCpu({ groups, columns, inner }: MatmulSizes, precision: Precision): CpuFusedKernel {
  return {
    run: ([x, w, offsets], [y]) => {
      const jobs = jobsOfGroups(offsets!, groups, (e, start, end) => ({
        m: end - start,
        n: columns,
        k: inner,
        a: x!.offset + start * x!.strides[0]!,
        aRow: x!.strides[0]!,
        aCol: x!.strides[1]!,
        b: w!.offset + e * w!.strides[0]!,
        bRow: w!.strides[2]!,
        bCol: w!.strides[1]!,
        c: y!.offset + start * columns,
      }));
      runJobs(x!, w!, y!, jobs, precision);
    },
  };
}

/** a [M, P], b [M, Q], offsets -> y [E, P, Q]: y_e = sum of a_r b_r^T. */
export function groupedOuterCpu({ groups, left, right }: OuterSizes, precision: Precision): CpuFusedKernel {
  return {
    run: ([a, b, offsets], [y]) => {
      const jobs = jobsOfGroups(offsets!, groups, (e, start, end) => ({
        m: left,
        n: right,
        k: end - start,
        a: a!.offset + start * a!.strides[0]!,
        aRow: a!.strides[1]!,
        aCol: a!.strides[0]!,
        b: b!.offset + start * b!.strides[0]!,
        bRow: b!.strides[0]!,
        bCol: b!.strides[1]!,
        c: y!.offset + e * left * right,
      }));
      runJobs(a!, b!, y!, jobs, precision);
    },
  };
}

function jobsOfGroups(
  { data, offset, strides }: CpuOperand,
  groups: number,
  jobOf: (group: number, start: number, end: number) => GemmJob,
): GemmJob[] {
  const bound = (e: number): number => data[offset + e * strides[0]!]!;
  return Array.from({ length: groups }, (_, e) => jobOf(e, bound(e), bound(e + 1)));
}

function runJobs(a: CpuOperand, b: CpuOperand, c: CpuOperand, jobs: readonly GemmJob[], precision: Precision): void {
  if (precision === "f32") {
    gemmJobs(a.data as Float32Array, b.data as Float32Array, c.data as Float32Array, jobs);
    return;
  }
  for (const job of jobs) {
    gemmReference(
      { data: a.data as Float64Array, offset: job.a, batchStrides: [], rowStride: job.aRow, colStride: job.aCol },
      { data: b.data as Float64Array, offset: job.b, batchStrides: [], rowStride: job.bRow, colStride: job.bCol },
      { data: c.data as Float64Array, offset: job.c, batchStrides: [], rowStride: job.n },
      { batch: [], m: job.m, n: job.n, k: job.k },
    );
  }
}
