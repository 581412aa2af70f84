// compiler/lower.ts: from the user's graph to the graph that is scheduled: views folded, equal nodes made one, fused ops
// replaced by their reference where the device has no kernel, operands of large products stored in f16 where a matrix unit reads them.
import type { Device } from "../device/device.ts";
import { createNode, type Node, nodeKey, topologicalOrder } from "../node.ts";
import { sameShape, sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { halfOperands } from "./halves.ts";
import type { SchedulerSettings } from "./schedule.ts";

// A sum of more than this many elements in fewer than STAGE_ROWS rows is computed in two stages, so that a GPU has work for
// all its cores and rounding grows with the square root of the length.
const STAGE_LENGTH = 16384;
const STAGE_ROWS = 64;
// On a GPU so is a sum down columns of more than this many elements, where there are fewer columns than keep its threads busy:
// neighbouring threads read neighbouring columns, so that few threads can share a column.
const STAGE_COLUMN_LENGTH = 2048;
const STAGE_COLUMNS = 8192;

/** A graph that is ready to be scheduled. */
export interface Lowered {
  readonly roots: readonly Node[];
  /** When the user's program made the node that became this one: its id. Nodes that only lowering knows are not in it. */
  readonly written: ReadonlyMap<Node, number>;
}

/** Rewrites the graph below `roots`. Shapes, values and leaves stay. */
export function lower(roots: readonly Node[], device: Device, settings: SchedulerSettings): Lowered {
  const done = new Map<Node, Node>();
  const unique = new Map<string, Node>();
  const users = new Map<Node, number>();
  const ours = new Set(topologicalOrder(roots));
  for (const node of ours) for (const input of node.inputs) users.set(input, (users.get(input) ?? 0) + 1);
  for (const root of roots) users.set(root, (users.get(root) ?? 0) + 1);

  const intern = (node: Node): Node => {
    const key = `${nodeKey(node)}|${node.inputs.map((n) => n.id).join(",")}`;
    const known = unique.get(key);
    if (known) return known;
    unique.set(key, node);
    return node;
  };

  const withInputs = (node: Node, inputs: readonly Node[]): Node =>
    inputs.length === node.inputs.length && inputs.every((n, i) => n === node.inputs[i])
      ? node
      : createNode(node.kind, inputs, node.shape, node.dtype, node.device);

  const rewrite = (node: Node): Node => {
    const inputs = node.inputs.map((n) => done.get(n)!);
    const k = node.kind;
    const input = inputs[0]!;
    switch (k.kind) {
      case "variable":
      case "stop":
        return input;
      case "reshape":
        if (sameShape(node.shape, input.shape)) return input;
        if (input.kind.kind === "reshape")
          return rewriteView(createNode({ kind: "reshape" }, input.inputs, node.shape, node.dtype, node.device));
        return intern(withInputs(node, inputs));
      case "permute": {
        if (input.kind.kind === "permute") {
          const inner = input.kind.perm;
          return rewriteView(
            createNode(
              { kind: "permute", perm: k.perm.map((p) => inner[p]!) },
              input.inputs,
              node.shape,
              node.dtype,
              node.device,
            ),
          );
        }
        if (input.kind.kind === "matmul" && swapsMatrix(k.perm) && input.kind.symmetric) return input;
        // (A B)^T = B^T A^T: the product is written in the order in which it is wanted
        if (input.kind.kind === "matmul" && swapsMatrix(k.perm) && users.get(node.inputs[0]!) === 1) {
          const [a, b] = input.inputs as [Node, Node];
          const flipped = (x: Node): Node =>
            rewriteView(
              createNode(
                { kind: "permute", perm: k.perm },
                [x],
                k.perm.map((p) => x.shape[p]!),
                x.dtype,
                x.device,
              ),
            );
          return intern(createNode(input.kind, [flipped(b), flipped(a)], node.shape, node.dtype, node.device));
        }
        return intern(withInputs(node, inputs));
      }
      case "expand":
        if (sameShape(node.shape, input.shape)) return input;
        if (input.kind.kind === "expand")
          return intern(createNode(k, input.inputs, node.shape, node.dtype, node.device));
        return intern(withInputs(node, inputs));
      case "map":
        return intern(joinPads(node, inputs, (n) => !users.has(n)) ?? withInputs(node, inputs));
      case "concat":
        return intern(joinSlices(node, inputs) ?? withInputs(node, inputs));
      case "pad":
        if (sameShape(node.shape, input.shape)) return input;
        return intern(withInputs(node, inputs));
      case "matmul":
        return intern(withInputs(node, halfOperands(node, inputs, device, settings, intern)));
      case "reduce":
        return k.reduce === "sum"
          ? intern(stagedSum(withInputs(node, inputs), k.axes, device))
          : intern(withInputs(node, inputs));
      case "fused": {
        const kernel =
          device.kind === "cpu" ? k.op.cpu?.(inputs, k.params, device) : k.op.webgpu?.(inputs, k.params, device);
        if (kernel) return intern(withInputs(node, inputs));
        const outputs = k.op
          .reference(
            inputs.map((n) => new Tensor(n)),
            k.params,
          )
          .map((t) => t.node);
        return { ...node, kind: { kind: "concat", axis: -1 }, inputs: lowerAll(outputs) }; // a tuple that only `pick` sees
      }
      case "checkpoint":
        return { ...node, kind: { kind: "concat", axis: -1 }, inputs: inputs.slice(-k.results) }; // again a tuple
      case "pick":
        return input.kind.kind === "concat" && input.kind.axis === -1
          ? input.inputs[k.output]!
          : intern(withInputs(node, inputs));
      default:
        return intern(withInputs(node, inputs));
    }
  };

  /** A view made during rewriting, over inputs that are rewritten already. */
  const rewriteView = (node: Node): Node => {
    for (const input of node.inputs) done.set(input, input);
    return node.kind.kind === "permute" && node.kind.perm.every((p, i) => p === i) ? node.inputs[0]! : rewrite(node);
  };

  const lowerAll = (targets: readonly Node[]): Node[] => {
    for (const node of topologicalOrder(targets, (n) => (done.has(n) ? [] : n.inputs))) {
      if (!done.has(node)) {
        const out = rewrite(node);
        done.set(node, out);
        if (!done.has(out)) done.set(out, out);
      }
    }
    return targets.map((n) => done.get(n)!);
  };

  const lowered = lowerAll(roots);
  const written = new Map<Node, number>();
  for (const [from, to] of done) if (ours.has(from)) written.set(to, Math.min(from.id, written.get(to) ?? from.id));
  return { roots: lowered, written };
}

const swapsMatrix = (perm: readonly number[]): boolean => {
  const r = perm.length;
  return r >= 2 && perm[r - 1] === r - 2 && perm[r - 2] === r - 1 && perm.slice(0, -2).every((p, i) => p === i);
};

/**
 * pad(a) + pad(b) = pad(concat(a, b)) where the two boxes lie side by side: what flows back from the pieces of a split is
 * written in place, once, instead of added up with zeros.
 */
function joinPads(node: Node, inputs: readonly Node[], isOurs: (node: Node) => boolean): Node | undefined {
  if (
    node.kind.kind !== "map" ||
    node.kind.expr.op !== "add" ||
    !node.kind.expr.args.every((a) => a.op === "arg") ||
    inputs.length !== 2
  )
    return undefined;
  for (const [a, b] of [inputs, [inputs[1]!, inputs[0]!]] as [Node, Node][]) {
    if (a.kind.kind !== "pad" || b.kind.kind !== "pad") return undefined;
    const [first, second] = [a.inputs[0]!, b.inputs[0]!];
    const starts = a.kind.before;
    const others = b.kind.before;
    const axes = node.shape.flatMap((_, i) =>
      starts[i] !== others[i] || first.shape[i] !== second.shape[i] ? [i] : [],
    );
    const axis = axes[0];
    if (axes.length !== 1 || axis === undefined || starts[axis]! + first.shape[axis]! !== others[axis]) continue;
    const shape = first.shape.map((d, i) => (i === axis ? d + second.shape[i]! : d));
    // pieces that were joined before stay one list
    const pieces = [first, second].flatMap((n) =>
      n.kind.kind === "concat" && n.kind.axis === axis && isOurs(n) ? n.inputs : [n],
    );
    const concat = createNode({ kind: "concat", axis }, pieces, shape, node.dtype, node.device);
    const joined = joinSlices(concat, pieces) ?? concat;
    return sameShape(shape, node.shape)
      ? joined
      : createNode({ kind: "pad", before: starts }, [joined], node.shape, node.dtype, node.device);
  }
  return undefined;
}

/** concat(x[a:b], x[b:c]) = x[a:c]: what was cut and is joined again is not copied. */
function joinSlices(node: Node, inputs: readonly Node[]): Node | undefined {
  const { kind: k } = node;
  const [first] = inputs as [Node];
  if (k.kind !== "concat" || first.kind.kind !== "slice") return undefined;
  const { starts } = first.kind;
  const whole = first.inputs[0]!;
  let at = starts[k.axis]!;
  for (const piece of inputs) {
    if (piece.kind.kind !== "slice" || piece.inputs[0] !== whole) return undefined;
    if (piece.kind.starts.some((start, i) => start !== (i === k.axis ? at : starts[i]))) return undefined;
    at += piece.shape[k.axis]!;
  }
  return sameShape(node.shape, whole.shape)
    ? whole
    : createNode({ kind: "slice", starts }, [whole], node.shape, node.dtype, node.device);
}

/** sum over n = sum over (rows of a near-square split of n), where n is long and few sums run side by side. */
function stagedSum(node: Node, axes: readonly number[], device: Device): Node {
  const input = node.inputs[0]!;
  const length = axes.reduce((p, a) => p * input.shape[a]!, 1);
  const sums = sizeOf(node.shape);
  const downColumns = device.kind === "webgpu" && !axes.includes(input.shape.length - 1);
  const staged =
    (length >= STAGE_LENGTH && sums < STAGE_ROWS) ||
    (downColumns && length >= STAGE_COLUMN_LENGTH && sums < STAGE_COLUMNS);
  if (!staged) return node;
  const last = axes[axes.length - 1]!;
  const size = input.shape[last]!;
  let chunk = 0;
  for (let d = Math.floor(Math.sqrt(length)); d > 1 && chunk === 0; d--) if (size % d === 0) chunk = d;
  if (chunk < 16) return node;
  const shape = [...input.shape.slice(0, last), size / chunk, chunk, ...input.shape.slice(last + 1)];
  const split = createNode({ kind: "reshape" }, [input], shape, input.dtype, input.device);
  const partialShape = shape.filter((_, i) => i !== last + 1);
  const partial = createNode(
    { kind: "reduce", reduce: "sum", axes: [last + 1] },
    [split],
    partialShape,
    node.dtype,
    node.device,
  );
  return createNode({ kind: "reduce", reduce: "sum", axes }, [partial], node.shape, node.dtype, node.device);
}
