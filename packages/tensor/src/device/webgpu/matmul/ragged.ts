// device/webgpu/matmul/ragged.ts: products a little larger than what tiles cover. One row more than 2048 would be 17 more tiles of
// 128 rows, and all multiprocessors would wait for the last of them. Instead tiles compute a core that they divide, and
// the few rows and columns that are left are products of their own, matrix times vectors.
import { addIndex, constantIndex, variableIndex } from "../../../compiler/affine.ts";
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { substitution } from "../../../compiler/substitute.ts";
import { sizeOf } from "../../../shape.ts";
import { chooseTile, tiles } from "./tiles.ts";

/** Rows, and columns, of the largest tile. */
const side = tiles["128x128x16/8x16"].rows;
/** So many rows, or columns, still are a matrix times vectors: the most in a strip. */
export const fewRows = 7;
/** What a strip takes, microseconds: its launch, and reading the whole other operand at so many bytes a microsecond. */
const launch = 5;
const bytes = 1e6;

/** The parts of a product on a GPU whose tiles take up to `workgroupBytes`: itself, or a core and its strips where those are faster. */
export function ragged(kernel: MatmulKernel, workgroupBytes: number): readonly MatmulKernel[] {
  const { batch, m, n, k, symmetric } = kernel;
  if (symmetric || coresOf(m).length + coresOf(n).length === 2) return [kernel];
  const time = (rows: number, columns: number): number =>
    chooseTile({ ...kernel, m: rows, n: columns }, workgroupBytes).time;
  const strip = (across: number): number => launch + (4 * sizeOf(batch) * across * k) / bytes;
  let best = { rows: m, columns: n, time: time(m, n) };
  for (const rows of coresOf(m))
    for (const columns of coresOf(n)) {
      const strips = (rows < m ? strip(n) : 0) + (columns < n ? strip(rows) : 0);
      const total = time(rows, columns) + strips;
      if (total < best.time) best = { rows, columns, time: total };
    }
  return coreAndStrips(kernel, best.rows, best.columns);
}

/** The product's first `rows` and `columns`, then the rows and the columns that are left. */
export function coreAndStrips(kernel: MatmulKernel, rows: number, columns: number): MatmulKernel[] {
  const { m, n } = kernel;
  return [
    part(kernel, [0, rows], [0, columns]),
    ...(rows < m ? [part(kernel, [rows, m], [0, n])] : []),
    ...(columns < n ? [part(kernel, [0, rows], [columns, n])] : []),
  ];
}

/** A side itself, and without what is left of it by tiles, where that is little. */
const coresOf = (size: number): number[] =>
  size > side && size % side > 0 && size % side <= fewRows ? [size, size - (size % side)] : [size];

type Range = readonly [from: number, to: number];

/** The product of some rows of A and some columns of B, stored where the whole has them. */
function part(kernel: MatmulKernel, [top, bottom]: Range, [left, right]: Range): MatmulKernel {
  const { batch, a, b, stores } = kernel;
  const [m, n] = [bottom - top, right - left];
  const places = [...batch.map((size) => [0, size] as const), [top, m] as const, [left, n] as const];
  const { store } = substitution(
    stores.map((s) => s.value),
    (variable) => addIndex(variableIndex(variable, places[variable]![1]), constantIndex(places[variable]![0])),
  );
  return {
    ...kernel,
    m,
    n,
    a: { ...a, offset: a.offset + top * a.rowStride },
    b: { ...b, offset: b.offset + left * b.columnStride },
    stores: stores.map(store),
  };
}
