// device/cpu/matmul.ts: the matmul kernel on the CPU: WebAssembly SIMD for f32, plain JavaScript for f64.
import type { MatmulKernel, MatrixOperand } from "../../compiler/kernel.ts";
import type { Precision, TypedArray } from "../../dtype.ts";
import { invariant } from "../../errors.ts";
import { stridesOf } from "../../shape.ts";
import type { CpuRun } from "./device.ts";
import { gemmReference } from "./gemmReference.ts";
import { gemm } from "./wasm/index.ts";

export function matmulKernel(kernel: MatmulKernel, precision: Precision): CpuRun {
  const { batch, m, n, k, stores } = kernel;
  const store = stores[0];
  invariant(stores.length === 1 && store?.value.kind === "result", "the CPU's matmul has no epilogue");
  const batchStrides = stridesOf([...batch, m, n]).slice(0, -2);
  const operand = (o: MatrixOperand, buffers: readonly TypedArray[]) => ({
    data: buffers[o.binding] as Float32Array,
    offset: o.offset,
    batchStrides: o.batchStrides,
    rowStride: o.rowStride,
    colStride: o.columnStride,
  });
  const product = precision === "f64" ? (gemmReference as unknown as typeof gemm) : gemm;
  return (buffers) =>
    product(
      operand(kernel.a, buffers),
      operand(kernel.b, buffers),
      { data: buffers[store.target] as Float32Array, offset: store.index.constant, batchStrides, rowStride: n },
      { batch, m, n, k },
    );
}
