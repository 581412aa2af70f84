// huggingFace/weights.ts: how our parameters are made of a checkpoint's tensors, as data: one table serves both directions.
import { concat, mT, ShapeError, sliceAxis, type Tensor, treeFromPaths, treePaths, ValueError } from "@mc/tensor";
import { formatShape } from "../check.ts";

/** One of our parameters as tensors of a checkpoint, stacked along the rows. */
export interface WeightSource {
  /** Path in our parameter tree. */
  readonly path: string;
  /** Checkpoint tensors, in the order of their rows. */
  readonly parts: readonly WeightPart[];
}

/** A tensor of a checkpoint. */
export interface WeightPart {
  readonly name: string;
  /** Shape in the checkpoint. */
  readonly shape: readonly number[];
  /** Whether the checkpoint holds [in, out] (GPT-2's Conv1D) where we hold [out, in]. */
  readonly transposed?: boolean;
}

/**
 * The parameter tree from a checkpoint's tensors.
 *
 * @param isExtra - names that may be there and are not read, such as buffers
 * @throws ValueError that lists every missing, unexpected and mis-shaped tensor with what was expected
 */
export function gatherWeights(
  sources: readonly WeightSource[],
  tensors: Readonly<Record<string, Tensor>>,
  isExtra: (name: string) => boolean,
): unknown {
  const parts = sources.flatMap((s) => s.parts);
  const wanted = new Map(parts.map((p) => [p.name, p]));
  const problems = [
    ...parts.filter((p) => !(p.name in tensors)).map((p) => `missing "${p.name}" ${formatShape(p.shape)}`),
    ...Object.entries(tensors).flatMap(([name, t]) => {
      const part = wanted.get(name);
      if (!part) return isExtra(name) ? [] : [`unexpected "${name}" ${formatShape(t.shape)}`];
      if (formatShape(part.shape) !== formatShape(t.shape))
        return [`"${name}" must be ${formatShape(part.shape)}, got ${formatShape(t.shape)}`];
      return t.dtype === "f32" ? [] : [`"${name}" must be f32, got ${t.dtype}`];
    }),
  ];
  if (problems.length > 0)
    throw new ValueError(`fromHuggingFace: the weights do not fit the config: ${problems.join("; ")}`);
  return treeFromPaths(sources.map((s) => [s.path, concat(s.parts.map((p) => turned(tensors[p.name]!, p)))] as const));
}

/**
 * A checkpoint's tensors from a tree shaped like the parameters: the parameters, their gradients, or their moments.
 *
 * @throws ValueError if a path is missing or unexpected, ShapeError if a leaf has another shape than the parameter
 */
export function scatterWeights(sources: readonly WeightSource[], tree: unknown): Record<string, Tensor> {
  const leaves = new Map(treePaths<Tensor>(tree));
  const unknown = [...leaves.keys()].filter((path) => !sources.some((s) => s.path === path));
  if (unknown.length > 0)
    throw new ValueError(`toHuggingFace: the config has no parameter ${unknown.map((p) => `"${p}"`).join(", ")}`);
  const out: Record<string, Tensor> = {};
  for (const { path, parts } of sources) {
    const leaf = leaves.get(path);
    if (!leaf) throw new ValueError(`toHuggingFace: the tree must hold "${path}", got none`);
    let start = 0;
    for (const part of parts) {
      const rows = rowsOf(part);
      if (start + rows > leaf.shape[0]!)
        throw new ShapeError(
          `toHuggingFace: "${path}" has too few rows for "${part.name}", got shape ${formatShape(leaf.shape)}`,
        );
      out[part.name] = turned(sliceAxis(leaf, 0, start, start + rows), part);
      start += rows;
    }
    if (start !== leaf.shape[0])
      throw new ShapeError(`toHuggingFace: "${path}" must have ${start} rows, got shape ${formatShape(leaf.shape)}`);
  }
  return out;
}

const rowsOf = ({ shape, transposed = false }: WeightPart): number => shape[transposed ? 1 : 0]!;

const turned = (x: Tensor, { transposed = false }: WeightPart): Tensor => (transposed ? mT(x) : x);
