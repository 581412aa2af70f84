// device/webgpu/matmul/patch.ts: a workgroup's rectangle of the product, and each thread's share of it, which it sums in
// registers: what the kernels with and without workgroup memory have in common.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { grid, workgroupNumber } from "../program.ts";

/** A workgroup computes `rows` x `columns` elements, a thread `threadRows` x `threadColumns` of them. */
export interface Patch {
  /** Powers of two, at least 32. */
  readonly rows: number;
  readonly columns: number;
  /** Multiples of four; the thread's elements lie in blocks of 4 x 4, as far apart as neighbouring threads have theirs between. */
  readonly threadRows: number;
  readonly threadColumns: number;
}

/** Patches of a product. */
const patchesOf = ({ batch, m, n }: MatmulKernel, { rows, columns }: Patch): number =>
  Math.ceil(m / rows) * Math.ceil(n / columns) * sizeOf(batch);

/** Threads of a workgroup. */
export const threadsOf = ({ rows, columns, threadRows, threadColumns }: Patch): number =>
  (rows / threadRows) * (columns / threadColumns);

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Rows of patches that neighbouring workgroups walk together, so that they share what they read in the cache. */
const band = 8;

/** Workgroups for `parts` times all patches, and statements that define `entry` (part and batch entry), `row0` and `column0`. */
export function walk(kernel: MatmulKernel, patch: Patch, parts: number) {
  const { label, m, n, symmetric } = kernel;
  const { rows, columns } = patch;
  const [down, across] = [Math.ceil(m / rows), Math.ceil(n / columns)];
  const { workgroups, width } = grid(label, patchesOf(kernel, patch) * parts);
  const lines = [
    `let group = ${workgroupNumber("workgroup", width, workgroups[1])};`,
    `let entry = group / ${down * across}u;`,
    `let inEntry = group % ${down * across}u;`,
    // bands of rows, column by column within a band
    `let bandRow = inEntry / ${band * across}u * ${band}u;`,
    `let bandRows = min(${band}u, ${down}u - bandRow);`,
    `let inBand = inEntry % ${band * across}u;`,
    `let row0 = (bandRow + inBand % bandRows) * ${rows}u;`,
    `let column0 = inBand / bandRows * ${columns}u;`,
    // of a symmetric product, what lies below the diagonal is a mirror image
    ...(symmetric ? [`if (row0 >= column0 + ${columns}u) { return; }`] : []),
  ];
  return { workgroups, lines };
}

/** Statements that define this thread's place (tx, ty): 32 neighbours cover 8 x 4 places, so that they read few different vec4s. */
export function placeLines({ columns, threadColumns }: Patch): string[] {
  const nx = columns / threadColumns;
  return nx <= 8
    ? [`let tx = local % ${nx}u;`, `let ty = local / ${nx}u;`]
    : [`let tx = local % 8u + local / 32u % ${nx / 8}u * 8u;`, `let ty = local % 32u / 8u + local / ${4 * nx}u * 4u;`];
}

/** Quads of rows, or columns, from one of a thread's blocks to the next. */
export const strideOf = ({ rows, columns, threadRows, threadColumns }: Patch) => ({
  rows: rows / threadRows,
  columns: columns / threadColumns,
});

/** The sums: `c<row>_<quad of columns>`. */
export const sumLines = ({ threadRows, threadColumns }: Patch): string[] =>
  range(threadRows).flatMap((i) => range(threadColumns / 4).map((j) => `var c${i}_${j} = vec4<f32>();`));

/** c[i] += left(i) right(j): every sum, for one k; `left` a number, `right` a vec4. */
export const addLines = (
  { threadRows, threadColumns }: Patch,
  left: (row: number) => string,
  right: (quad: number) => string,
): string[] =>
  range(threadRows).flatMap((i) => range(threadColumns / 4).map((j) => `c${i}_${j} += ${left(i)} * ${right(j)};`));

/** The thread's 4 x 4 blocks, one after the other, so that the stores are written once in the code. */
export function finishLines(patch: Patch): string[] {
  const down = patch.threadRows / 4;
  const across = patch.threadColumns / 4;
  const stride = strideOf(patch);
  const cases = range(down * across).map((s) => {
    const row = Math.floor(s / across) * 4;
    return `    case ${s}u: { block = mat4x4<f32>(${range(4)
      .map((i) => `c${row + i}_${s % across}`)
      .join(", ")}); }`;
  });
  return [
    `for (var s = 0u; s < ${down * across}u; s++) {`,
    "  var block = mat4x4<f32>();",
    "  switch (s) {",
    ...cases,
    "    default: {}",
    "  }",
    `  let row = row0 + (s / ${across}u * ${stride.rows}u + ty) * 4u;`,
    `  let column = column0 + (s % ${across}u * ${stride.columns}u + tx) * 4u;`,
    "  finishBlock(entry, row, column, block);",
    "}",
  ];
}
