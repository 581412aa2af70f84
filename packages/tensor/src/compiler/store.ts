// compiler/store.ts: which nodes of the lowered graph get memory. All others are recomputed inside the kernels that read them.
import type { Traits } from "../device/device.ts";
import type { StoredType } from "../dtype.ts";
import { DeviceError, invariant } from "../errors.ts";
import { type KindName, type Node, topologicalOrder } from "../node.ts";
import { exprCost } from "../scalar.ts";
import { sizeOf, stridesOf } from "../shape.ts";
import { affineStrides, linearIndex } from "./affine.ts";
import type { SchedulerSettings } from "./schedule.ts";
import { variables, viewCoordinates } from "./values.ts";

// Operations on single elements that a kernel repeats in every thread rather than wait for another kernel (shared ones counted at each use).
const SCALAR_LIMIT = 256;

// Operations that one element may take before its value is stored: bounds the length of kernels and the depth of recursion over them.
const KERNEL_LIMIT = 512;

// Operations that make an element from its indices and constants alone, such as those of an identity matrix: they take no longer than
// reading it would, and need no kernel before.
const INDEX_LIMIT = 8;

/** Operand of a matmul or fused op: strided access to a stored node. */
export interface AffineView {
  readonly base: Node;
  readonly offset: number;
  readonly strides: readonly number[];
}

export const isLeaf = (node: Node): boolean => node.kind.kind === "buffer" || node.kind.kind === "input";
const views: ReadonlySet<KindName> = new Set(["reshape", "permute", "expand", "slice", "flip", "barrier"]);
const isView = (node: Node): boolean => views.has(node.kind.kind);
const alwaysStored = (node: Node): boolean => ["reduce", "matmul", "pick", "concat", "half"].includes(node.kind.kind);

/** How a node's elements lie in memory. A concat is of one type, that of its pieces; one without any stands for an arena. */
export function storedType({ kind, inputs: [piece], dtype }: Node): StoredType {
  if (kind.kind === "half") return "f16";
  return kind.kind === "concat" && piece ? storedType(piece) : dtype;
}

/** Four-byte words that a node takes. */
export const wordsOf = (node: Node): number =>
  storedType(node) === "f16" ? Math.ceil(sizeOf(node.shape) / 2) : sizeOf(node.shape);

/** The node below a chain of views. */
export function viewBase(node: Node): Node {
  let base = node;
  while (isView(base)) base = base.inputs[0]!;
  return base;
}

/** `node` as strides over the stored node below its views, or undefined where the index is not affine. */
export function affineView(node: Node, stored: (node: Node) => boolean): AffineView | undefined {
  let at = variables(node.shape);
  let base = node;
  while (!stored(base)) {
    const inner = isView(base) ? viewCoordinates(base, at) : undefined;
    if (!inner) return undefined;
    at = inner;
    base = base.inputs[0]!;
  }
  const affine = affineStrides(linearIndex(at, base.shape), node.shape.length);
  return affine && { base, ...affine };
}

/** Whether the view is row-major without gaps. */
export function isContiguous(view: AffineView, shape: readonly number[]): boolean {
  return stridesOf(shape).every((s, i) => shape[i] === 1 || view.strides[i] === s);
}

/**
 * The set of stored nodes: outputs, results of reductions, matmuls, fused ops and concats, what those read through strides, and
 * maps that would cost more to repeat than to keep.
 */
export function chooseStored(
  outputs: readonly Node[],
  traits: Traits,
  settings: SchedulerSettings,
  fusedContiguous: (fused: Node) => boolean,
): { readonly stored: Set<Node>; readonly recomputed: ReadonlySet<Node> } {
  const order = topologicalOrder(outputs);
  const stored = new Set<Node>(order.filter((n) => isLeaf(n) || alwaysStored(n)));
  for (const out of outputs) stored.add(out);
  if (!settings.fuse) for (const n of order) if (n.kind.kind !== "fused") stored.add(n);

  const storeOperand = (node: Node, contiguous: boolean): void => {
    const base = viewBase(node);
    stored.add(base);
    const view = affineView(node, (n) => stored.has(n));
    if (!view || (contiguous && !isContiguous(view, node.shape))) stored.add(node);
  };
  for (const node of order) {
    if (node.kind.kind === "matmul") for (const input of node.inputs) storeOperand(input, false);
    if (node.kind.kind === "fused") for (const input of node.inputs) storeOperand(input, fusedContiguous(node));
  }

  // users of each computing node, counted through views
  const users = new Map<Node, Set<Node>>();
  const widest = new Map<Node, number>();
  for (const node of order) {
    if (isView(node)) continue;
    for (const input of node.inputs) {
      let n = input;
      let elements = sizeOf(n.shape);
      for (; isView(n); n = n.inputs[0]!) elements = Math.max(elements, sizeOf(n.shape));
      let set = users.get(n);
      if (!set) users.set(n, (set = new Set()));
      set.add(node);
      widest.set(n, Math.max(widest.get(n) ?? 0, elements));
    }
  }

  const cost = new Map<Node, number>(); // operations to compute one element from stored nodes
  const sources = new Map<Node, Set<Node>>(); // stored nodes that are read on the way
  const recomputed = new Set<Node>();
  const isLoaded = (n: Node): boolean => stored.has(n) && !recomputed.has(n);
  // views cost nothing and are looked through: what lies below may get stored later
  const below = (n: Node): Node => (isView(n) && !stored.has(n) ? below(n.inputs[0]!) : n);
  const sourcesOf = (n: Node): Set<Node> =>
    isLoaded(below(n)) ? new Set([below(n)]) : (sources.get(below(n)) ?? new Set());
  const costOf = (n: Node): number => (isLoaded(below(n)) ? 0 : (cost.get(below(n)) ?? 0));
  const store = (n: Node): void => {
    invariant(n.kind.kind !== "fused", "a fused node is read through pick");
    stored.add(n);
  };

  for (const node of order) {
    const kind = node.kind.kind;
    if (
      isLeaf(node) ||
      kind === "constant" ||
      kind === "iota" ||
      kind === "fused" ||
      (isView(node) && !stored.has(node))
    )
      continue;
    // too many buffers for one kernel: keep the cheapest inputs, by bytes, that bring more than one
    const limit = traits.maxBindings - 1;
    for (;;) {
      const all = new Set(node.inputs.flatMap((n) => [...sourcesOf(n)]));
      sources.set(node, all);
      if (all.size <= limit || kind === "concat" || kind === "matmul") break;
      const candidates = node.inputs.map(below).filter((n) => !stored.has(n) && sourcesOf(n).size > 1);
      const cheapest = candidates.sort((a, b) => sizeOf(a.shape) - sizeOf(b.shape))[0];
      if (!cheapest) {
        throw new DeviceError(
          "limit",
          `elementwise: an op may read at most ${limit} different tensors on this device, got ${all.size}; split it into several ops`,
        );
      }
      store(cheapest);
    }
    const own = node.kind.kind === "map" ? exprCost(node.kind.expr) : kind === "gather" ? 2 : kind === "pad" ? 1 : 0;
    const total = own + node.inputs.reduce((c, n) => c + costOf(n), 0);
    cost.set(node, total);
    // a single element is computed again by every reader, outside of its loops: bias corrections, schedules, constants
    const isScalar = settings.fuse && kind === "map" && sizeOf(node.shape) === 1 && total <= SCALAR_LIMIT;
    if (isScalar && stored.has(node)) recomputed.add(node);
    if (isScalar || stored.has(node) || isView(node)) continue;
    if (total <= INDEX_LIMIT && sources.get(node)?.size === 0) continue;
    const times = users.get(node)?.size ?? 0;
    const wider = (widest.get(node) ?? 0) / Math.max(1, sizeOf(node.shape));
    if (total > KERNEL_LIMIT) store(node);
    else if (total > 0 && (times > 1 || wider > 1) && total * Math.max(times, wider) > settings.recomputeLimit)
      store(node);
  }
  return { stored, recomputed };
}
