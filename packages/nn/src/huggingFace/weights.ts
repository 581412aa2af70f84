// huggingFace/weights.ts: how our parameters are made of a checkpoint's tensors, as data: one table serves both directions.
import {
  concat,
  mT,
  reshape,
  ShapeError,
  sliceAxis,
  type Tensor,
  treeFromPaths,
  treePaths,
  ValueError,
} from "@mc/tensor";
import { formatShape } from "../check.ts";

/** One of our parameters as tensors of a checkpoint, stacked along the rows. */
export interface WeightSource {
  /** Path in our parameter tree. */
  readonly path: string;
  /** Shape in our tree; its leading axes together are the rows. */
  readonly shape: readonly number[];
  /** Checkpoint tensors, in the order of their rows. */
  readonly parts: readonly WeightPart[];
  /** Whether it is kept with the parameters but is none: transformers calls it a buffer. */
  readonly buffer?: boolean;
}

/** A tensor of a checkpoint. */
export interface WeightPart {
  readonly name: string;
  /** Shape in the checkpoint. */
  readonly shape: readonly number[];
  /** Whether the checkpoint holds [in, out] (GPT-2's Conv1D) where we hold [out, in]. */
  readonly transposed?: boolean;
}

/** A source made of one tensor of the same shape. */
export const whole = (path: string, name: string, shape: readonly number[]): WeightSource => ({
  path,
  shape,
  parts: [{ name, shape }],
});

/** What is known of a tensor before its values are. */
export interface Found {
  readonly shape: readonly number[];
  readonly dtype: string;
}

/** Problems of one kind that are named one by one; of more, only their number is given. */
const NAMED = 8;

/**
 * Throws ValueError that names the missing, unexpected and mis-shaped tensors with what was expected: the first few of each kind
 * and how many more there are.
 *
 * @param found - what the checkpoint holds: shape and dtype, or null while only the name is known
 * @param isExtra - names that may be there and are not read, such as buffers
 * @param isFloat - whether a tensor of the dtype can become a parameter
 */
export function checkWeights(
  op: string,
  sources: readonly WeightSource[],
  found: ReadonlyMap<string, Found | null>,
  isExtra: (name: string) => boolean,
  isFloat: (dtype: string) => boolean,
): void {
  const parts = sources.flatMap((s) => s.parts);
  const wanted = new Map(parts.map((p) => [p.name, p]));
  const missing = parts.filter((p) => !found.has(p.name)).map((p) => `missing "${p.name}" ${formatShape(p.shape)}`);
  const wrong: string[] = [];
  const unexpected: string[] = [];
  for (const [name, entry] of found) {
    const part = wanted.get(name);
    if (!part) {
      if (!isExtra(name)) unexpected.push(`unexpected "${name}"${entry ? ` ${formatShape(entry.shape)}` : ""}`);
    } else if (entry && formatShape(part.shape) !== formatShape(entry.shape))
      wrong.push(`"${name}" must be ${formatShape(part.shape)}, got ${formatShape(entry.shape)}`);
    else if (entry && !isFloat(entry.dtype)) wrong.push(`"${name}" must hold floats, got ${entry.dtype}`);
  }
  const problems = [missing, wrong, unexpected].flatMap((list) => [
    ...list.slice(0, NAMED),
    ...(list.length > NAMED ? [`and ${list.length - NAMED} more like it`] : []),
  ]);
  if (problems.length > 0) throw new ValueError(`${op}: the weights do not fit the config: ${problems.join("; ")}`);
}

/** The parameter tree from a checkpoint's tensors, which were checked. */
export function gatherWeights(sources: readonly WeightSource[], tensors: Readonly<Record<string, Tensor>>): unknown {
  return treeFromPaths(
    sources.map(({ path, shape, parts }) => {
      const stacked = concat(parts.map((p) => turned(tensors[p.name]!, p)));
      return [path, reshape(stacked, shape)] as const;
    }),
  );
}

/**
 * The leaves of a tree shaped like the parameters, in the order of the sources.
 *
 * @throws ValueError if a path is missing or unexpected, ShapeError if a leaf has another shape than the parameter
 */
export function leavesOf(op: string, sources: readonly WeightSource[], tree: unknown): Tensor[] {
  const leaves = new Map(treePaths<Tensor>(tree));
  const known = new Set(sources.map((s) => s.path));
  const unknown = [...leaves.keys()].filter((path) => !known.has(path));
  if (unknown.length > 0)
    throw new ValueError(`${op}: the config has no parameter ${unknown.map((p) => `"${p}"`).join(", ")}`);
  return sources.map(({ path, shape }) => {
    const leaf = leaves.get(path);
    if (!leaf) throw new ValueError(`${op}: the tree must hold "${path}", got none`);
    if (formatShape(leaf.shape) !== formatShape(shape))
      throw new ShapeError(`${op}: "${path}" must be ${formatShape(shape)}, got ${formatShape(leaf.shape)}`);
    return leaf;
  });
}

/** A checkpoint's tensors from a tree shaped like the parameters: the parameters, their gradients, or their moments. */
export function scatterWeights(sources: readonly WeightSource[], leaves: readonly Tensor[]): Record<string, Tensor> {
  const out: Record<string, Tensor> = {};
  sources.forEach(({ parts }, i) => {
    const leaf = leaves[i]!;
    const [only] = parts;
    if (parts.length === 1) {
      out[only!.name] = turned(leaf, only!);
      return;
    }
    const rows = reshape(leaf, [-1, ...leaf.shape.slice(leaf.ndim - only!.shape.length + 1)]);
    let start = 0;
    for (const part of parts) {
      const end = start + rowsOf(part);
      out[part.name] = turned(sliceAxis(rows, 0, start, end), part);
      start = end;
    }
  });
  return out;
}

/** Rows of our parameter that the part fills. */
export const rowsOf = ({ shape, transposed = false }: WeightPart): number => shape[transposed ? 1 : 0]!;

const turned = (x: Tensor, { transposed = false }: WeightPart): Tensor => (transposed ? mT(x) : x);
