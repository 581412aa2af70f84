// device/cpu/matmul.ts: the matmul kernel on the CPU: WebAssembly SIMD for f32, plain JavaScript for f64.
import type { MatmulKernel, MatrixOperand } from "../../compiler/kernel.ts";
import type { Precision, TypedArray } from "../../dtype.ts";
import { invariant } from "../../errors.ts";
import { sizeOf, stridesOf } from "../../shape.ts";
import type { CpuRun } from "./device.ts";
import { type GemmArray, type GemmOperand, type GemmOutput, type GemmShape, gemmReference } from "./gemmReference.ts";
import { gemm } from "./wasm/index.ts";

type Product = (a: GemmOperand, b: GemmOperand, c: GemmOutput, shape: GemmShape) => void;

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
  const product: Product = precision === "f64" ? (gemmReference as unknown as Product) : gemm;
  const multiply = kernel.symmetric ? symmetricProduct(product) : product;
  return (buffers) =>
    multiply(
      operand(kernel.a, buffers),
      operand(kernel.b, buffers),
      { data: buffers[store.target] as Float32Array, offset: store.index.constant, batchStrides, rowStride: n },
      { batch, m, n, k },
    );
}

/** Rows that a symmetric product computes at a time. */
const panel = 128;

/** Rows i .. i + panel from column i on, panel by panel; then what lies below the diagonal is copied from above it. */
const symmetricProduct =
  (product: Product): Product =>
  (a, b, c, shape) => {
    const { batch, n } = shape;
    for (let i = 0; i < n; i += panel) {
      product(
        { ...a, offset: a.offset + i * a.rowStride },
        { ...b, offset: b.offset + i * b.colStride },
        { ...c, offset: c.offset + i * c.rowStride + i },
        { ...shape, m: Math.min(panel, n - i), n: n - i },
      );
    }
    for (let z = 0; z < sizeOf(batch); z++) mirror(c.data, c.offset + z * n * n, n);
  };

/** c[j, i] = c[i, j] for i < j, in squares that stay in the cache. */
function mirror(c: GemmArray, offset: number, n: number): void {
  const square = 32;
  for (let rows = 0; rows < n; rows += square) {
    for (let columns = rows; columns < n; columns += square) {
      for (let i = rows; i < Math.min(rows + square, n); i++) {
        for (let j = Math.max(columns, i + 1); j < Math.min(columns + square, n); j++)
          c[offset + j * n + i] = c[offset + i * n + j]!;
      }
    }
  }
}
