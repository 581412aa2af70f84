// blocks.ts: which matrices there are inside the parameters, and which of them go together.
import { concat, mul, reshape, ShapeError, sliceAxis, type Tensor, treePaths, ValueError } from "@mc/tensor";
import type { Flat } from "./paths.ts";
import type { Block, Roles } from "./roles.ts";
import type { Params } from "./types.ts";

/**
 * Consecutive blocks of equal size in one parameter [..., out, cols]: `count` matrices [rows, cols] from row `start` on, in each
 * of `stack` stacked matrices.
 */
export interface BlockRun {
  readonly path: string;
  readonly stack: number;
  readonly out: number;
  readonly cols: number;
  readonly start: number;
  readonly rows: number;
  readonly count: number;
}

/**
 * The blocks of a parameter as runs.
 *
 * @throws ShapeError for a vector, ValueError if the blocks do not tile the rows
 */
export function runsOf(op: string, path: string, shape: readonly number[], blocks?: readonly Block[]): BlockRun[] {
  if (shape.length < 2) {
    throw new ShapeError(
      `${op}: parameters must have rank >= 2, got [${shape.join(", ")}] at "${path}"; give it a role that is not on Muon`,
    );
  }
  const [out, cols] = shape.slice(-2) as [number, number];
  const stack = shape.slice(0, -2).reduce((p, d) => p * d, 1);
  const runs: BlockRun[] = [];
  let end = 0;
  for (const { start, rows } of blocks ?? [{ start: 0, rows: out }]) {
    if (start !== end || !(Number.isInteger(rows) && rows > 0)) {
      throw new ValueError(
        `${op}: the blocks of "${path}" must follow one another without gaps, got one of ${rows} rows at row ${start}, expected at row ${end}`,
      );
    }
    end += rows;
    const last = runs.at(-1);
    if (last?.rows === rows) runs[runs.length - 1] = { ...last, count: last.count + 1 };
    else runs.push({ path, stack, out, cols, start, rows, count: 1 });
  }
  if (end !== out) throw new ValueError(`${op}: the blocks of "${path}" must cover its ${out} rows, got ${end}`);
  return runs;
}

/** The runs of all parameters by short and long side: one batch each, whichever way its matrices lie. */
export function batchesOf(op: string, params: Params, roles: Roles = {}): ReadonlyMap<string, readonly BlockRun[]> {
  const batches = new Map<string, BlockRun[]>();
  for (const [path, leaf] of treePaths(params)) {
    for (const run of runsOf(op, path, leaf.shape, roles[path]?.blocks)) {
      const key = `${Math.min(run.rows, run.cols)}x${Math.max(run.rows, run.cols)}`;
      const batch = batches.get(key);
      if (batch) batch.push(run);
      else batches.set(key, [run]);
    }
  }
  return batches;
}

const isTall = ({ rows, cols }: BlockRun): boolean => rows > cols;

/** The matrices of a run, [stack * count, rows, cols]. */
function take(x: Tensor, { stack, out, cols, start, rows, count }: BlockRun): Tensor {
  const part = sliceAxis(reshape(x, [stack, out, cols]), 1, start, start + count * rows);
  return reshape(part, [stack * count, rows, cols]);
}

/** Rows of a parameter [..., out, cols], from `start` on: [stack, rows, cols]. */
interface Piece {
  readonly start: number;
  readonly rows: Tensor;
}

/**
 * Applies a function of batches of matrices to every block, calling it once for each pair of sides, and multiplies each result
 * by the scale of its block.
 *
 * @param fn the wide (or square) and the tall matrices of one pair of sides, where there are any, each [batch, rows, cols] ->
 * the same shapes
 * @param scale by the block's rows and columns
 */
export function mapBlocks(
  params: Params,
  batches: ReadonlyMap<string, readonly BlockRun[]>,
  fn: (groups: readonly Tensor[]) => readonly Tensor[],
  scale: (rows: number, cols: number) => number,
): Flat {
  const leaves = new Map(treePaths(params));
  const pieces = new Map<string, Piece[]>();
  for (const runs of batches.values()) {
    const groups = [runs.filter((run) => !isTall(run)), runs.filter(isTall)].filter((group) => group.length > 0);
    const stacks = groups.map((group) => concat(group.map((run) => take(leaves.get(run.path) as Tensor, run))));
    const results = fn(stacks);
    for (const [g, group] of groups.entries()) {
      let at = 0;
      for (const { path, stack, start, rows, cols, count } of group) {
        const size = stack * count;
        const own = reshape(sliceAxis(results[g]!, 0, at, at + size), [stack, count * rows, cols]);
        const list = pieces.get(path) ?? [];
        list.push({ start, rows: mul(own, scale(rows, cols)) });
        pieces.set(path, list);
        at += size;
      }
    }
  }
  const join = ([path, list]: [string, Piece[]]): [string, Tensor] => {
    const inOrder = list.sort((a, b) => a.start - b.start).map((piece) => piece.rows);
    return [path, reshape(concat(inOrder, 1), (leaves.get(path) as Tensor).shape)];
  };
  return Object.fromEntries([...pieces].map(join));
}
