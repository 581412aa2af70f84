// checkpoint.ts: functions whose intermediates are computed again on the way back instead of being kept.
import { createNode, type Node, nextNodeId, topologicalOrder } from "./node.ts";
import { isDifferentiating } from "./run/recording.ts";
import { treeLeaves, treeMap } from "./run/tree.ts";
import { Tensor } from "./tensor.ts";

/**
 * The same function, whose gradient keeps only its arguments and results: everything between is computed again when the
 * gradient comes back to it. Memory for time: the function's forward runs twice. Values and gradients are the same, to the bit
 * where a device rounds each operation (on a GPU up to how kernels fuse). Random numbers come from keys, so they are the same.
 *
 * Outside of a gradient it is `fn`. Checkpoints may be nested, and second derivatives pass through.
 *
 * @param fn - from trees of tensors (and other values) to a tree of tensors, of any dtypes. It is called a second time with the
 * same arguments, so it must not count calls or read anything that changes. Captured tensors are differentiated as well; work
 * that needs no argument is kept, not repeated.
 * @example
 * const block = checkpoint((w: Tensor, x: Tensor) => gelu(matmul(x, w)));
 * grad((w: Tensor) => sum(block(w, ones([4, 8]))))(ones([8, 8])); // keeps w and x, and computes x w again
 * @see Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174; jax.checkpoint; torch.utils.checkpoint
 */
export function checkpoint<Args extends readonly unknown[], R>(fn: (...args: Args) => R): (...args: Args) => R {
  return (...args) => {
    const first = nextNodeId();
    const value = fn(...args);
    const results = nodesOf(value);
    if (!isDifferentiating() || results.length === 0) return value;
    const given = nodesOf(args);
    const inputs = [...given, ...capturedBy(results, given, first), ...results];
    const recompute = (held: readonly Node[]): Node[] => nodesOf(fn(...replace(args, given, held)));
    const { shape, dtype, device } = results[0]!;
    const kind = { kind: "checkpoint", given: given.length, results: results.length, recompute } as const;
    const region = createNode(kind, inputs, shape, dtype, device);
    const picks = results.map((n, output) =>
      createNode({ kind: "pick", output }, [region], n.shape, n.dtype, n.device),
    );
    return replace(value, results, picks);
  };
}

/** The tensors of a tree, each once. */
const nodesOf = (tree: unknown): Node[] => [
  ...new Set(treeLeaves<unknown>(tree).flatMap((leaf) => (leaf instanceof Tensor ? [leaf.node] : []))),
];

/** The tree with other tensors. */
const replace = <T>(tree: T, from: readonly Node[], to: readonly Node[]): T =>
  treeMap<T, unknown, unknown>(
    (leaf) => (leaf instanceof Tensor ? new Tensor(to[from.indexOf(leaf.node)]!) : leaf),
    tree,
  ) as T;

/** What `results` are computed from beside `given`: nodes from before node number `first`. */
function capturedBy(results: readonly Node[], given: readonly Node[], first: number): Node[] {
  const isGiven = new Set(given);
  const isOld = (n: Node): boolean => n.id < first || isGiven.has(n);
  return topologicalOrder(results, (n) => (isOld(n) ? [] : n.inputs)).filter((n) => isOld(n) && !isGiven.has(n));
}
