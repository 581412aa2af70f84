// compiler/draft.ts: kernels to be. One draft for each stored node, before schedule.ts joins them.
import { invariant } from "../errors.ts";
import { createNode, type Node } from "../node.ts";
import { sizeOf } from "../shape.ts";
import {
  addIndex,
  constantIndex,
  type Index,
  indexKey,
  linearIndex,
  reshapeCoordinates,
  scaleIndex,
} from "./affine.ts";
import { barrierWaits } from "./order.ts";
import type { Schedule } from "./schedule.ts";
import { affineView, isLeaf, viewBase } from "./store.ts";
import { ValueBuilder, variables, visitValues } from "./values.ts";
import type { Window } from "./windows.ts";

/** Where a root's elements go: their own storage, or a box inside a concat's. */
export interface Root {
  readonly node: Node;
  /** The stored node whose memory is written. */
  readonly target: Node;
  /** Position in the target of the root's element at the given coordinates. */
  readonly place: (at: readonly Index[]) => Index;
  /** Computed for the elements beside each point, instead of at the point. */
  readonly spread?: boolean;
}

/** A kernel to be: nodes computed over one space. */
export interface Draft {
  readonly number: number;
  readonly kind: "loop" | "matmul" | "fused";
  readonly size: number;
  readonly roots: Root[];
  /** Stored nodes that are read; true where only at the kernel's own linear index. */
  readonly reads: Map<Node, boolean>;
  /** Of a loop, the indices of its reads as text, and its own linear index before others joined it. */
  readonly indices: Map<Node, Set<string>>;
  readonly own: Index;
  /** Of what reductions read, and what is computed for each element of their rows: whether that is the row's elements, each by itself. */
  readonly rows: Map<Node, boolean>;
  /** Stored nodes that must be known before it runs, though it does not read them: it reads through a barrier. */
  readonly after: Set<Node>;
  /** Values that one point takes, about. */
  work: number;
  /** Sizes of reductions, to keep unlike ones apart. */
  readonly reductionSizes: Set<number>;
  /** Elements beside each point where some roots are `spread`, else 0. */
  spread: number;
  /** Set where the kernel does the work of several drafts, by running over whole arenas. */
  together?: Together;
}

/** What makes one kernel of many like drafts; see coalesce.ts. */
export interface Together {
  readonly members: number;
  /** Elements from the first member's first to the last one's last. */
  readonly extent: number;
  /** Roots that need no code: the loop over the first member's reaches them. */
  readonly echoes: ReadonlySet<Root>;
  /** Nodes of which each member reads a slice, where a table says which. */
  readonly windows: ReadonlyMap<Node, Window>;
}

/** A fused op's kernel writes every output, so the ones that nobody reads need memory too. */
export function pickAll(order: readonly Node[], stored: Set<Node>): Node[] {
  const picked = new Map<Node, Set<number>>();
  for (const { kind: k, inputs } of order) {
    if (k.kind !== "pick") continue;
    const set = picked.get(inputs[0]!);
    if (set) set.add(k.output);
    else picked.set(inputs[0]!, new Set([k.output]));
  }
  return order.flatMap((node) => {
    const fused = node.kind.kind === "pick" ? node.inputs[0]! : undefined;
    const known = fused && picked.get(fused);
    if (!known || fused.kind.kind !== "fused") return [node];
    const missing = fused.kind.outputs.flatMap(({ shape, dtype }, output) =>
      known.has(output) ? [] : [createNode({ kind: "pick", output }, [fused], shape, dtype, fused.device)],
    );
    picked.delete(fused);
    for (const extra of missing) stored.add(extra);
    return [node, ...missing];
  });
}

/** A concat's pieces are stored inside it where they lie in one run of it and belong to nobody else. */
export function placePieces(order: readonly Node[], stored: ReadonlySet<Node>, outputs: ReadonlySet<Node>) {
  const placed = new Map<Node, { owner: Node; offset: number }>();
  for (const node of order) {
    if (node.kind.kind !== "concat") continue;
    const { axis } = node.kind;
    const inner = sizeOf(node.shape.slice(axis + 1));
    let start = 0;
    for (const piece of node.inputs) {
      const ownsMemory =
        stored.has(piece) &&
        !isLeaf(piece) &&
        !outputs.has(piece) &&
        !placed.has(piece) &&
        piece.kind.kind !== "concat";
      if (ownsMemory && sizeOf(node.shape.slice(0, axis)) === 1)
        placed.set(piece, { owner: node, offset: start * inner });
      start += piece.shape[axis]!;
    }
  }
  return placed;
}

export function makeDrafts(
  order: readonly Node[],
  stored: ReadonlySet<Node>,
  loads: Schedule["loads"],
  placed: Schedule["placed"],
  maxBindings: number,
): Draft[] {
  const drafts: Draft[] = [];
  const fusedDrafts = new Map<Node, Draft>();
  const draft = (kind: Draft["kind"], size: number, own = constantIndex(0)): Draft => {
    const made: Draft = {
      number: drafts.length,
      kind,
      size,
      roots: [],
      reads: new Map(),
      indices: new Map(),
      rows: new Map(),
      own,
      after: new Set(),
      work: 0,
      reductionSizes: new Set(),
      spread: 0,
    };
    drafts.push(made);
    return made;
  };
  const loop = (node: Node, target: Node, place: Root["place"]): void => {
    const at = variables(node.shape);
    const own = linearIndex(at, node.shape);
    const ownKey = indexKey(own);
    const made = draft("loop", sizeOf(node.shape), own);
    made.roots.push({ node, target, place });
    const builder = new ValueBuilder(loads, at.length);
    // a stored piece that is copied into its concat is read, not computed again
    const value = target !== node && stored.has(node) ? builder.read(node, at, undefined) : builder.root(node, at);
    const rowKeys = builder.reductions.map(({ shape, firstVariable }) =>
      indexKey(addIndex(scaleIndex(own, sizeOf(shape)), linearIndex(variables(shape, firstVariable), shape))),
    );
    visitValues([value, ...builder.reductions.map((r) => r.value)], (v) => {
      made.work++;
      if (v.kind !== "load") return;
      const key = indexKey(v.index);
      made.rows.set(v.source, (made.rows.get(v.source) ?? true) && rowKeys.includes(key));
      made.reads.set(v.source, (made.reads.get(v.source) ?? true) && key === ownKey);
      const known = made.indices.get(v.source);
      if (known) known.add(key);
      else made.indices.set(v.source, new Set([key]));
    });
    for (const r of builder.reductions) made.reductionSizes.add(sizeOf(r.shape));
  };
  for (const node of order) {
    const own: Root = { node, target: node, place: (at) => linearIndex(at, node.shape) };
    switch (node.kind.kind) {
      case "concat": {
        const { axis } = node.kind;
        if (inOneKernel(node, stored, placed) && sourcesOf(node, loads).size < maxBindings) {
          loop(node, own.target, own.place);
          break;
        }
        let start = 0;
        for (const piece of node.inputs) {
          const offset = start;
          start += piece.shape[axis]!;
          const home = placed.get(piece);
          if (home?.owner === node && home.offset === offset * sizeOf(node.shape.slice(axis + 1))) continue;
          loop(piece, node, (at) =>
            linearIndex(
              at.map((c, i) => (i === axis ? { ...c, constant: c.constant + offset } : c)),
              node.shape,
            ),
          );
        }
        break;
      }
      case "matmul":
      case "pick": {
        const computing = node.kind.kind === "pick" ? node.inputs[0]! : node;
        const made =
          fusedDrafts.get(computing) ?? draft(node.kind.kind === "pick" ? "fused" : "matmul", sizeOf(node.shape));
        fusedDrafts.set(computing, made);
        made.roots.push(own);
        for (const input of computing.inputs) {
          const view = affineView(input, (n) => stored.has(n));
          invariant(view, "operands of matmul and fused ops are stored");
          made.reads.set(view.base, false);
        }
        break;
      }
      default:
        loop(node, own.target, own.place);
    }
  }
  const waits = barrierWaits(loads);
  for (const { roots, after } of drafts) for (const { node } of roots) for (const n of waits(node)) after.add(n);
  return drafts;
}

// Pieces of a concat that one kernel writes: each of its threads chooses among them.
const PIECE_LIMIT = 4;
// Elements up to which a kernel more costs more than what choosing could.
const SMALL_CONCAT = 1 << 14;

/** Whether a concat is better written by one kernel: few pieces to copy or compute, which would not become one kernel by themselves. */
function inOneKernel(concat: Node, stored: ReadonlySet<Node>, placed: Schedule["placed"]): boolean {
  const pieces = concat.inputs;
  if (pieces.length < 2 || pieces.length > PIECE_LIMIT || pieces.some((n) => placed.get(n)?.owner === concat))
    return false;
  if (sizeOf(concat.shape) <= SMALL_CONCAT) return true;
  // pieces of one size that are computed may join by the merge rule
  return (
    pieces.some((n) => sizeOf(n.shape) !== sizeOf(pieces[0]!.shape)) || pieces.every((n) => stored.has(viewBase(n)))
  );
}

/** Stored nodes that computing `node` reads. */
function sourcesOf(node: Node, loads: Schedule["loads"]): Set<Node> {
  const at = variables(node.shape);
  const sources = new Set<Node>();
  visitValues([new ValueBuilder(loads, at.length).root(node, at)], (v) => {
    if (v.kind === "load") sources.add(v.source);
  });
  return sources;
}

/** The drafts that write each stored node; a concat is written by the drafts of all its pieces. */
export function writersOf(drafts: readonly Draft[], placed: Schedule["placed"]): Map<Node, Set<Draft>> {
  const writers = new Map<Node, Set<Draft>>();
  const add = (node: Node, draft: Draft): void => {
    const set = writers.get(node);
    if (set) set.add(draft);
    else writers.set(node, new Set([draft]));
  };
  for (const draft of drafts) {
    for (const { target } of draft.roots) {
      add(target, draft);
      const home = placed.get(target);
      if (home) add(home.owner, draft);
    }
  }
  return writers;
}

/** The space beside each point of a kernel: the last dimensions of what is spread, where they make up `width`. */
export function spreadShape({ roots, spread: width }: Draft): number[] {
  const { shape } = roots.find((r) => r.spread)!.node;
  const first = shape.findIndex((_, i) => sizeOf(shape.slice(i)) === width);
  return first < 0 ? [width] : shape.slice(first);
}

/** Coordinates in a root's shape of the kernel's point, whose space is the first root's shape; a rider has one point only. */
export function rootCoordinates(space: readonly number[], root: Node): Index[] {
  if (sizeOf(root.shape) !== sizeOf(space)) return root.shape.map(() => constantIndex(0));
  return reshapeCoordinates(variables(space), space, root.shape);
}
