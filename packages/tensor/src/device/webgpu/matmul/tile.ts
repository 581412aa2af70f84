// device/webgpu/matmul/tile.ts: a workgroup's rectangle of the product, and each thread's share of it, which it sums in registers.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { grid, workgroupNumber } from "../program.ts";

/** A workgroup computes `rows` x `columns` elements, a thread `threadRows` x `threadColumns` of them. */
export interface Tile {
  /** Powers of two, at least 32. */
  readonly rows: number;
  readonly columns: number;
  /**
   * Multiples of four; the thread's elements lie in blocks of 4 x 4, as far apart as neighbouring threads have theirs
   * between.
   */
  readonly threadRows: number;
  readonly threadColumns: number;
}

/** Threads of a workgroup. */
export const threadsOf = ({ rows, columns, threadRows, threadColumns }: Tile): number =>
  (rows / threadRows) * (columns / threadColumns);

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Rows of tiles that neighbouring workgroups walk together, so that they share what they read in the cache. */
const band = 8;

/**
 * What happens where tiles do not divide a side. "shifted": the last tile ends at the edge, so that nothing is compared while
 * it is computed; what it shares with the one before is computed twice and stored once. "clamped": it reaches over the edge,
 * and the last row is read again.
 */
export type Edge = "none" | "shifted" | "clamped";

/** How a tile's rows and columns end. */
export interface Edges {
  readonly rows: Edge;
  readonly columns: Edge;
}

/** @param fours - whether elements are stored in aligned fours, whatever the matrix's size */
export function edgesOf({ m, n, symmetric }: MatmulKernel, tile: Tile, fours: boolean): Edges {
  const edge = (outer: number, size: number, aligned: boolean): Edge =>
    outer % size === 0 ? "none" : outer < size || symmetric || (aligned && outer % 4 !== 0) ? "clamped" : "shifted";
  return { rows: edge(m, tile.rows, false), columns: edge(n, tile.columns, fours) };
}

/** Condition for an element at `row` and `column` that this workgroup must not store; "" if there is none. */
export const outsideText = ({ m, n }: MatmulKernel, { rows, columns }: Edges): string =>
  [
    { none: "", shifted: "row < firstRow", clamped: `row >= ${m}u` }[rows],
    { none: "", shifted: "column < firstColumn", clamped: `column >= ${n}u` }[columns],
  ]
    .filter(Boolean)
    .join(" || ");

/** Declarations that go with `walk`. */
export const walkDeclarations = ({ rows, columns }: Edges): string =>
  (rows === "shifted" ? "var<private> firstRow: u32;\n" : "") +
  (columns === "shifted" ? "var<private> firstColumn: u32;\n" : "");

/**
 * Workgroups for `parts` times all tiles, and statements that define `entry` (part and batch entry), and where the tile begins:
 * `row0` and `column0`.
 */
export function walk(kernel: MatmulKernel, tile: Tile, edges: Edges, parts: number) {
  const { label, batch, m, n, symmetric } = kernel;
  const { rows, columns } = tile;
  const [down, across] = [Math.ceil(m / rows), Math.ceil(n / columns)];
  const { workgroups, width } = grid(label, down * across * sizeOf(batch) * parts);
  const lines = [
    `let group = ${workgroupNumber("workgroup", width, workgroups[1])};`,
    `let entry = group / ${down * across}u;`,
    `let inEntry = group % ${down * across}u;`,
    // bands of rows, column by column within a band
    `let bandRow = inEntry / ${band * across}u * ${band}u;`,
    `let bandRows = min(${band}u, ${down}u - bandRow);`,
    `let inBand = inEntry % ${band * across}u;`,
    ...begin("row0", "firstRow", edges.rows, `(bandRow + inBand % bandRows) * ${rows}u`, m - rows),
    ...begin("column0", "firstColumn", edges.columns, `inBand / bandRows * ${columns}u`, n - columns),
    // of a symmetric product, what lies below the diagonal is a mirror image
    ...(symmetric ? [`if (row0 >= column0 + ${columns}u) { return; }`] : []),
  ];
  return { workgroups, lines };
}

const begin = (name: string, first: string, edge: Edge, place: string, last: number): string[] =>
  edge === "shifted" ? [`${first} = ${place};`, `let ${name} = min(${first}, ${last}u);`] : [`let ${name} = ${place};`];

/** Statements that define this thread's place (tx, ty). Tiles are eight threads wide, so that 32 neighbours read few different vec4s. */
export function placeLines({ columns, threadColumns }: Tile): string[] {
  const across = columns / threadColumns;
  return [`let tx = local % ${across}u;`, `let ty = local / ${across}u;`];
}

/** Quads of rows, or columns, from one of a thread's blocks to the next. */
export const strideOf = ({ rows, columns, threadRows, threadColumns }: Tile) => ({
  rows: rows / threadRows,
  columns: columns / threadColumns,
});

/** The sums: `c<row>_<quad of columns>`. */
export const sumLines = ({ threadRows, threadColumns }: Tile): string[] =>
  range(threadRows).flatMap((i) => range(threadColumns / 4).map((j) => `var c${i}_${j} = vec4<f32>();`));

/** c[i] += left(i) right(j): every sum, for one k; `left` a number, `right` a vec4. */
export const addLines = (
  { threadRows, threadColumns }: Tile,
  left: (row: number) => string,
  right: (quad: number) => string,
): string[] =>
  range(threadRows).flatMap((i) => range(threadColumns / 4).map((j) => `c${i}_${j} += ${left(i)} * ${right(j)};`));

/** Statements that end the thread's 4 x 4 blocks, one after the other. */
export function finishLines(tile: Tile): string[] {
  const stride = strideOf(tile);
  const place = (corner: string, quad: number, thread: string): string => `${corner} + (${quad}u + ${thread}) * 4u`;
  return range(tile.threadRows / 4).flatMap((i) =>
    range(tile.threadColumns / 4).map((j) => {
      const block = range(4).map((r) => `c${4 * i + r}_${j}`);
      const row = place("row0", i * stride.rows, "ty");
      const column = place("column0", j * stride.columns, "tx");
      return `finishBlock(entry, ${row}, ${column}, mat4x4<f32>(${block.join(", ")}));`;
    }),
  );
}
