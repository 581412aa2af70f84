// moe/groupedCpu.ts: the grouped products on the CPU: one matrix product a group that has rows.
import type { CpuFusedKernel, CpuOperand, Precision } from "@mc/tensor";
import { type GemmOperand, gemm, gemmReference } from "@mc/tensor/cpu";
import type { MatmulSizes, OuterSizes } from "./groupedSizes.ts";

/** x [M, K], w [E, N, K], offsets -> y [M, N]: y_r = w_e x_r. */
export function groupedMatmulCpu({ groups, columns, inner }: MatmulSizes, precision: Precision): CpuFusedKernel {
  const product = productIn(precision);
  return {
    run: ([x, w, offsets], [y]) => {
      forGroups(offsets!, groups, (e, start, end) => {
        product(
          matrix(x!, start * x!.strides[0]!, x!.strides[0]!, x!.strides[1]!),
          matrix(w!, e * w!.strides[0]!, w!.strides[2]!, w!.strides[1]!),
          { data: y!.data as Float32Array, offset: y!.offset + start * columns, batchStrides: [], rowStride: columns },
          { batch: [], m: end - start, n: columns, k: inner },
        );
      });
    },
  };
}

/** a [M, P], b [M, Q], offsets -> y [E, P, Q]: y_e = sum of a_r b_r^T. */
export function groupedOuterCpu({ groups, left, right }: OuterSizes, precision: Precision): CpuFusedKernel {
  const product = productIn(precision);
  return {
    run: ([a, b, offsets], [y]) => {
      forGroups(offsets!, groups, (e, start, end) => {
        const offset = y!.offset + e * left * right;
        if (start === end) y!.data.fill(0, offset, offset + left * right);
        product(
          matrix(a!, start * a!.strides[0]!, a!.strides[1]!, a!.strides[0]!),
          matrix(b!, start * b!.strides[0]!, b!.strides[0]!, b!.strides[1]!),
          { data: y!.data as Float32Array, offset, batchStrides: [], rowStride: right },
          { batch: [], m: start === end ? 0 : left, n: right, k: end - start },
        );
      });
    },
  };
}

const productIn = (precision: Precision): typeof gemm =>
  precision === "f64" ? (gemmReference as unknown as typeof gemm) : gemm;

function matrix({ data, offset }: CpuOperand, from: number, rowStride: number, colStride: number): GemmOperand {
  return { data: data as Float32Array, offset: offset + from, batchStrides: [], rowStride, colStride };
}

function forGroups(
  { data, offset, strides }: CpuOperand,
  groups: number,
  visit: (group: number, start: number, end: number) => void,
): void {
  for (let e = 0; e < groups; e++) visit(e, data[offset + e * strides[0]!]!, data[offset + (e + 1) * strides[0]!]!);
}
