// moe/groupedProblem.ts: what the two grouped products are to a WebGPU kernel: matrix products C = A B, tile by tile, whose
// rows or whose inner dimension are a group of rows that only the device knows.
import type { WgslOperand } from "@mc/tensor";
import { offsetOf } from "../wgsl.ts";
import type { MatmulSizes, OuterSizes } from "./groupedSizes.ts";

/** Where a matrix lies: entry (i, j) at `name[base + i * line + j * k]`, i a row of A or a column of B, j along k. */
export interface ProblemOperand {
  readonly name: string;
  /** Text of a u32; may use `expert`. */
  readonly base: string;
  readonly line: number;
  readonly k: number;
}

/** The operands of a kernel's module. */
export interface ProblemText {
  /**
   * Statements that name, given `rowTile`: `expert`, `row` and `rowEnd` (rows of the tile, none if `row >= rowEnd`), `kStart` and
   * `kEnd`.
   */
  readonly place: string;
  readonly a: ProblemOperand;
  readonly b: ProblemOperand;
  /** Text of C's entry (`row`, `column`). */
  c(row: string, column: string): string;
}

/** A grouped product, for any height of tiles. */
export interface GroupedProblem {
  readonly entry: string;
  /** Columns of C. */
  readonly columns: number;
  /** Rows of C in a group on average: what a good height of tiles depends on. */
  readonly typicalRows: number;
  /** Length of the inner dimension, where it is known. */
  readonly inner: number | undefined;
  /** Tiles along the rows of C, at most. */
  rowTiles(height: number): number;
  /** Its text for operands that lie there. */
  text(inputs: readonly WgslOperand[], output: WgslOperand, height: number): ProblemText;
}

/**
 * y_r = w_e x_r: A = x, B = w_e^T, C = y.
 *
 * Group e has its tiles from number `floor(offsets[e] / height) + e` on. That leaves it room for as many as it needs and is
 * increasing in e, so a tile finds its group by bisection; numbers that are left over have no rows.
 */
export function matmulProblem({ rows, groups, columns, inner }: MatmulSizes): GroupedProblem {
  return {
    entry: "groupedMatmul",
    columns,
    typicalRows: rows / groups,
    inner,
    rowTiles: (height) => Math.floor(rows / height) + groups,
    text: ([x, w, offsets], y, height) => {
      const firstTile = (e: string): string => `(${groupStart(offsets!, e)} / ${height}u + ${e})`;
      return {
        place: `
  var low = 0u;
  var high = ${groups}u;
  while (high - low > 1u) {
    let middle = (low + high) / 2u;
    if (${firstTile("middle")} <= rowTile) { low = middle; } else { high = middle; }
  }
  let expert = low;
  let row = ${groupStart(offsets!, "expert")} + (rowTile - ${firstTile("expert")}) * ${height}u;
  let rowEnd = ${groupStart(offsets!, "(expert + 1u)")};
  let kStart = 0u;
  let kEnd = ${inner}u;`,
        a: { name: x!.name, base: offsetOf(x!, []), line: x!.strides[0]!, k: x!.strides[1]! },
        b: { name: w!.name, base: offsetOf(w!, ["expert"]), line: w!.strides[1]!, k: w!.strides[2]! },
        c: (row, column) => `${y.name}[${y.offset}u + ${row} * ${columns}u + ${column}]`,
      };
    },
  };
}

/** y_e = sum over the rows r of group e of a_r b_r^T: A = a^T, B = b, C = y_e, and the inner dimension is the group. */
export function outerProblem({ groups, left, right }: OuterSizes): GroupedProblem {
  const tilesOf = (height: number): number => Math.ceil(left / height);
  return {
    entry: "groupedOuter",
    columns: right,
    typicalRows: left,
    inner: undefined,
    rowTiles: (height) => groups * tilesOf(height),
    text: ([a, b, offsets], y, height) => ({
      place: `
  let expert = rowTile / ${tilesOf(height)}u;
  let row = rowTile % ${tilesOf(height)}u * ${height}u;
  let rowEnd = ${left}u;
  let kStart = ${groupStart(offsets!, "expert")};
  let kEnd = ${groupStart(offsets!, "(expert + 1u)")};`,
      a: { name: a!.name, base: offsetOf(a!, []), line: a!.strides[1]!, k: a!.strides[0]! },
      b: { name: b!.name, base: offsetOf(b!, []), line: b!.strides[1]!, k: b!.strides[0]! },
      c: (row, column) => `${y.name}[${y.offset}u + (expert * ${left}u + ${row}) * ${right}u + ${column}]`,
    }),
  };
}

const groupStart = (offsets: WgslOperand, e: string): string => `u32(${offsets.name}[${offsetOf(offsets, [e])}])`;
