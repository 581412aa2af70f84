// gemm.ts: batched matrix product of strided Float32Arrays, computed by the WebAssembly kernel of assembly/gemm.as.

import type { GemmOperand, GemmOutput, GemmShape } from "../gemmReference.ts";
import { wasmKernels, wasmRegions } from "./instance.ts";
import { copyIn, copyStrided, planStage, type StagePlan } from "./stage.ts";

/** The kernel's block of k. Cutting k elsewhere would change the order of the additions. */
const blockK = 256;

/**
 * C[.., m, n] = A[.., m, k] B[.., k, n], or += with `accumulate`, in f32.
 *
 * Operands are views: any row and column stride (so all four transpose modes), any batch strides, 0 to broadcast.
 * Each element is summed in one fixed order, that of `gemmReference`: its bits depend neither on the shape around it
 * nor on how the work was cut, and equal those of the reference. With the default limit the module keeps at most 17 MiB
 * of memory for this.
 *
 * @param a left operand: value [.., i, p] at `offset + batch . batchStrides + i * rowStride + p * colStride`
 * @param b right operand, [.., k, n]
 * @param c output with unit column stride; must not share memory with `a` or `b`
 * @param shape batch shape, m, n, k, and whether to add to what `c` holds (default: replace it)
 * @param stageLimit elements of the operands and the output, together, that are copied to the module's memory at one
 *   time; larger products are cut in halves. Default 4 Mi, which is 16 MiB
 * @example
 * const c = new Float32Array(4);
 * gemm(
 *   { data: Float32Array.of(1, 2, 3, 4), offset: 0, batchStrides: [], rowStride: 2, colStride: 1 },
 *   { data: Float32Array.of(5, 6, 7, 8), offset: 0, batchStrides: [], rowStride: 1, colStride: 2 }, // transposed
 *   { data: c, offset: 0, batchStrides: [], rowStride: 2 },
 *   { batch: [], m: 2, n: 2, k: 2 },
 * ); // c = [17, 23, 39, 53]
 */
export function gemm(
  a: GemmOperand,
  b: GemmOperand,
  c: GemmOutput,
  { batch, m, n, k, accumulate = false }: GemmShape,
  stageLimit = 4 * 1024 * 1024,
): void {
  if (m === 0 || n === 0 || batch.includes(0)) return;
  const problem = { a, b, c, batch, m, n, k, accumulate, stageLimit };
  run(batch.length > 0 ? foldBatch(problem) : problem);
}

interface Problem extends Required<GemmShape> {
  readonly a: GemmOperand;
  readonly b: GemmOperand;
  readonly c: GemmOutput;
  readonly stageLimit: number;
}

/** Drops batch axes of size 1, and makes rows of inner ones that B does not have and that extend the rows of A and C. */
function foldBatch(problem: Problem): Problem {
  const { a, b, c, batch } = problem;
  const axes = batch.map((_, axis) => axis).filter((axis) => batch[axis] !== 1);
  let m = problem.m;
  while (axes.length > 0) {
    const axis = axes[axes.length - 1];
    const extendsRows = a.batchStrides[axis] === m * a.rowStride && c.batchStrides[axis] === m * c.rowStride;
    if (b.batchStrides[axis] !== 0 || !extendsRows) break;
    m *= batch[axis];
    axes.pop();
  }
  const pick = (values: readonly number[]) => axes.map((axis) => values[axis]);
  return {
    ...problem,
    a: { ...a, batchStrides: pick(a.batchStrides) },
    b: { ...b, batchStrides: pick(b.batchStrides) },
    c: { ...c, batchStrides: pick(c.batchStrides) },
    batch: pick(batch),
    m,
  };
}

/** Runs the product if it fits the stage, or cannot be cut, else its two halves. */
function run(problem: Problem): void {
  const { a, b, c, batch, m, n, k, stageLimit } = problem;
  const planA = planStage([...batch, m, k], [...a.batchStrides, a.rowStride, a.colStride]);
  const planB = planStage([...batch, k, n], [...b.batchStrides, b.rowStride, b.colStride]);
  const sizeC = batch.reduce((product, size) => product * size, m * n);
  const fits = planA.size + planB.size + sizeC <= stageLimit;
  if (fits || (batch.length === 0 && m === 1 && n === 1 && k <= blockK)) {
    runStaged(problem, planA, planB, sizeC);
  } else if (batch.length > 0) {
    const half = Math.floor(batch[0] / 2);
    runBatches(problem, 0, half);
    runBatches(problem, half, batch[0]);
  } else if (k > blockK && k > m && k > n) {
    const half = Math.ceil(k / 2 / blockK) * blockK;
    run({ ...problem, k: half });
    run({
      ...problem,
      a: shift(a, half * a.colStride),
      b: shift(b, half * b.rowStride),
      k: k - half,
      accumulate: true,
    });
  } else if (m >= n) {
    const half = Math.ceil(m / 2);
    run({ ...problem, m: half });
    run({ ...problem, a: shift(a, half * a.rowStride), c: shift(c, half * c.rowStride), m: m - half });
  } else {
    const half = Math.ceil(n / 2);
    run({ ...problem, n: half });
    run({ ...problem, b: shift(b, half * b.colStride), c: shift(c, half), n: n - half });
  }
}

/** Entries `start` to `end` of the first batch axis, which has more than one. */
function runBatches(problem: Problem, start: number, end: number): void {
  const { a, b, c, batch } = problem;
  run(
    foldBatch({
      ...problem,
      a: shift(a, start * a.batchStrides[0]),
      b: shift(b, start * b.batchStrides[0]),
      c: shift(c, start * c.batchStrides[0]),
      batch: [end - start, ...batch.slice(1)],
    }),
  );
}

function shift<T extends GemmOperand | GemmOutput>(view: T, by: number): T {
  return { ...view, offset: view.offset + by };
}

function runStaged(problem: Problem, planA: StagePlan, planB: StagePlan, sizeC: number): void {
  const { a, b, c, batch, m, n, k, accumulate } = problem;
  const rank = batch.length;
  const kernels = wasmKernels();
  const { memory, starts } = wasmRegions(kernels.gemmScratchBytes() / 4, planA.size, planB.size, sizeC);
  const [scratch, atA, atB, atC] = starts;

  const shapeC = [...batch, m, n];
  const outside = {
    data: c.data,
    offset: c.offset,
    strides: [...c.batchStrides, c.rowStride, 1],
  };
  const inside = {
    data: memory,
    offset: atC / 4,
    strides: denseStrides(shapeC),
  };
  const layoutA = {
    data: a.data,
    offset: a.offset,
    strides: [...a.batchStrides, a.rowStride, a.colStride],
  };
  const layoutB = {
    data: b.data,
    offset: b.offset,
    strides: [...b.batchStrides, b.rowStride, b.colStride],
  };
  if (k > 0) {
    copyIn([...batch, m, k], layoutA, planA, memory, atA / 4);
    copyIn([...batch, k, n], layoutB, planB, memory, atB / 4);
  }
  if (accumulate) copyStrided(shapeC, outside, inside);

  const index = new Array<number>(rank).fill(0);
  do {
    let fromA = planA.origin;
    let fromB = planB.origin;
    let to = 0;
    for (let axis = 0; axis < rank; axis++) {
      fromA += index[axis] * planA.strides[axis];
      fromB += index[axis] * planB.strides[axis];
      to += index[axis] * inside.strides[axis];
    }
    kernels.gemm(
      atA + 4 * fromA,
      planA.strides[rank],
      planA.strides[rank + 1],
      atB + 4 * fromB,
      planB.strides[rank],
      planB.strides[rank + 1],
      atC + 4 * to,
      n,
      m,
      n,
      k,
      accumulate ? 1 : 0,
      scratch,
    );
  } while (advance(index, batch));
  copyStrided(shapeC, inside, outside);
}

/** Next multi-index within `shape`, in row-major order; false after the last. */
function advance(index: number[], shape: readonly number[]): boolean {
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (++index[axis] < shape[axis]) return true;
    index[axis] = 0;
  }
  return false;
}

function denseStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}
