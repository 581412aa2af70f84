// gemmReference.ts: what a matrix product on the CPU device means, in plain JavaScript; the product of the f64 device.

/** Element type of a product: f32 rounds every operation to single precision, f64 none. */
export type GemmArray = Float32Array | Float64Array;

/** A matrix, or a batch of them: value [.., i, j] is `data[offset + batch . batchStrides + i * rowStride + j * colStride]`. */
export interface GemmOperand<T extends GemmArray = Float32Array> {
  readonly data: T;
  /** Position of value [0, .., 0, 0], in elements, like the strides. */
  readonly offset: number;
  /** One stride per batch axis; 0 broadcasts. */
  readonly batchStrides: readonly number[];
  readonly rowStride: number;
  readonly colStride: number;
}

/** Where a product goes: like an operand, with neighbouring columns side by side. */
export interface GemmOutput<T extends GemmArray = Float32Array> {
  readonly data: T;
  readonly offset: number;
  readonly batchStrides: readonly number[];
  readonly rowStride: number;
}

/** Sizes of a product [.., m, k] x [.., k, n]. */
export interface GemmShape {
  /** Batch shape; [] for a single product. */
  readonly batch: readonly number[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Add to what the output holds. Default: replace it. */
  readonly accumulate?: boolean;
}

/** The order of additions is part of the meaning: k is cut into blocks of this many values. */
const blockK = 256;

/**
 * C[.., m, n] = A[.., m, k] B[.., k, n], or += with `accumulate`, in the precision of the arrays.
 *
 * Each block of 256 values of k is summed in ascending order from zero, then the block sums are added in ascending
 * order; in f32 every product and sum is rounded. The WebAssembly `gemm` gives the same bits.
 *
 * @param a left operand, [.., m, k]
 * @param b right operand, [.., k, n]
 * @param c output, [.., m, n]; must not share memory with `a` or `b`
 * @example
 * const c = new Float64Array(1);
 * const row = { data: Float64Array.of(1, 2), offset: 0, batchStrides: [], rowStride: 2, colStride: 1 };
 * const column = { data: Float64Array.of(3, 4), offset: 0, batchStrides: [], rowStride: 1, colStride: 1 };
 * gemmReference(row, column, { data: c, offset: 0, batchStrides: [], rowStride: 1 }, { batch: [], m: 1, n: 1, k: 2 }); // c = [11]
 */
export function gemmReference<T extends GemmArray>(
  a: GemmOperand<T>,
  b: GemmOperand<T>,
  c: GemmOutput<T>,
  shape: GemmShape,
): void {
  const { batch, ...matrix } = shape;
  if (batch.length === 0) {
    multiply(a, b, c, matrix);
    return;
  }
  const [count, ...rest] = batch as [number, ...number[]];
  for (let i = 0; i < count; i++) {
    gemmReference(entry(a, i), entry(b, i), entry(c, i), {
      ...matrix,
      batch: rest,
    });
  }
}

function entry<
  V extends {
    readonly offset: number;
    readonly batchStrides: readonly number[];
  },
>(view: V, i: number): V {
  return {
    ...view,
    offset: view.offset + i * view.batchStrides[0],
    batchStrides: view.batchStrides.slice(1),
  };
}

function multiply<T extends GemmArray>(
  a: GemmOperand<T>,
  b: GemmOperand<T>,
  c: GemmOutput<T>,
  { m, n, k, accumulate = false }: Omit<GemmShape, "batch">,
): void {
  if (k === 0 && !accumulate) {
    for (let i = 0; i < m; i++) c.data.fill(0, c.offset + i * c.rowStride, c.offset + i * c.rowStride + n);
  }
  const single = c.data instanceof Float32Array;
  const allocate = (size: number) => (single ? new Float32Array(size) : new Float64Array(size));
  const sums = allocate(n);
  const rows = allocate(Math.min(blockK, k) * n); // the block of B, dense
  const column = allocate(Math.min(blockK, k)); // the block of one row of A
  for (let start = 0; start < k; start += blockK) {
    const depth = Math.min(blockK, k - start);
    for (let p = 0; p < depth; p++) {
      const from = b.offset + (start + p) * b.rowStride;
      for (let j = 0; j < n; j++) rows[p * n + j] = b.data[from + j * b.colStride];
    }
    const replace = start === 0 && !accumulate;
    for (let i = 0; i < m; i++) {
      const from = a.offset + i * a.rowStride + start * a.colStride;
      for (let p = 0; p < depth; p++) column[p] = a.data[from + p * a.colStride];
      sums.fill(0);
      if (single) addRows32(sums as Float32Array, column as Float32Array, rows as Float32Array, depth);
      else addRows64(sums as Float64Array, column as Float64Array, rows as Float64Array, depth);
      const to = c.offset + i * c.rowStride;
      if (replace) c.data.set(sums, to);
      else for (let j = 0; j < n; j++) c.data[to + j] += sums[j];
    }
  }
}

// sums[j] += column[p] * rows[p, j] for p = 0, 1, .., four at a time, in that order

function addRows64(sums: Float64Array, column: Float64Array, rows: Float64Array, depth: number): void {
  const n = sums.length;
  let p = 0;
  for (; p + 4 <= depth; p += 4) {
    const [x0, x1, x2, x3] = [column[p], column[p + 1], column[p + 2], column[p + 3]];
    const [r0, r1, r2, r3] = [p * n, (p + 1) * n, (p + 2) * n, (p + 3) * n];
    for (let j = 0; j < n; j++) {
      sums[j] = sums[j] + x0 * rows[r0 + j] + x1 * rows[r1 + j] + x2 * rows[r2 + j] + x3 * rows[r3 + j];
    }
  }
  for (; p < depth; p++) {
    for (let j = 0; j < n; j++) sums[j] += column[p] * rows[p * n + j];
  }
}

function addRows32(sums: Float32Array, column: Float32Array, rows: Float32Array, depth: number): void {
  const round = Math.fround;
  const n = sums.length;
  let p = 0;
  for (; p + 4 <= depth; p += 4) {
    const [x0, x1, x2, x3] = [column[p], column[p + 1], column[p + 2], column[p + 3]];
    const [r0, r1, r2, r3] = [p * n, (p + 1) * n, (p + 2) * n, (p + 3) * n];
    for (let j = 0; j < n; j++) {
      let sum = round(sums[j] + round(x0 * rows[r0 + j]));
      sum = round(sum + round(x1 * rows[r1 + j]));
      sum = round(sum + round(x2 * rows[r2 + j]));
      sums[j] = sum + round(x3 * rows[r3 + j]);
    }
  }
  for (; p < depth; p++) {
    for (let j = 0; j < n; j++) sums[j] = sums[j] + round(column[p] * rows[p * n + j]);
  }
}
