// compiler/schedule.ts: groups the lowered graph into kernels by one rule.
//
// One draft kernel for each stored node; then kernel B joins an earlier kernel A when they have the same number of elements,
// B reads A's results only at the same linear index, no path runs between them through a third kernel, they share a read or
// are producer and consumer, and their buffers fit. Epilogues, multi-output updates and sibling reductions all fall out of it.
// One extension: what follows for each element of a row from a reduction over the row joins that reduction (norms, softmax).
import type { Traits } from "../device/device.ts";
import { type Node, topologicalOrder } from "../node.ts";
import { sizeOf } from "../shape.ts";
import { divideIndex, indexKey } from "./affine.ts";
import { type Arena, coalesce } from "./coalesce.ts";
import { type Draft, makeDrafts, pickAll, placePieces, writersOf } from "./draft.ts";
import { needsOf, orderDrafts } from "./order.ts";
import { chooseStored, isLeaf } from "./store.ts";

/** Knobs of the scheduler, for tests: every setting must give the same values. */
export interface SchedulerSettings {
  /** Inline maps and views into their readers; false: one kernel for each node. Default true. */
  readonly fuse: boolean;
  /** Join kernels by the merge rule. Default true. */
  readonly merge: boolean;
  /** Operations, times their repetition, above which a map is stored instead of repeated. Default 4. */
  readonly recomputeLimit: number;
  /** Let intermediates share and reuse buffers. Default true. */
  readonly reuse: boolean;
  /** Rows from which on a kernel that reduces rows also writes their elements: with fewer, the device would idle. Default 256. */
  readonly spreadRows: number;
  /** Compute like updates of many donated tensors in one kernel, where `merge` is set. Default true. */
  readonly coalesce: boolean;
  /**
   * Operations of a product on a matrix unit from which on its operands are stored in f16, by the kernels that make them: else
   * they are rounded on the way in. Default 2^30, about 10 microseconds.
   */
  readonly halfFlops: number;
  /** Buffers of one kernel; undefined: the device class's own limit. */
  readonly maxBindings?: number;
}

/** The settings that `compile` starts from. */
export const defaultSettings: SchedulerSettings = {
  fuse: true,
  merge: true,
  recomputeLimit: 4,
  reuse: true,
  spreadRows: 256,
  coalesce: true,
  halfFlops: 2 ** 30,
};

// Values that a joined kernel may compute for a point: bounds the length of its code.
const WORK_LIMIT = 2048;

/** The scheduled graph. */
export interface Schedule {
  readonly drafts: readonly Draft[];
  readonly stored: ReadonlySet<Node>;
  /** Whether kernels read a node from memory: stored, and not a single element that they would rather compute again. */
  readonly loads: (node: Node) => boolean;
  /** Pieces that live inside a concat: where they begin in it, in elements. */
  readonly placed: ReadonlyMap<Node, { readonly owner: Node; readonly offset: number }>;
  readonly arenas: readonly Arena[];
  /** Whether the kernels that write `target` must store it: someone outside of its kernel reads it. */
  readonly needed: ReadonlySet<Node>;
}

/**
 * @param heirs - donated leaves, and the output that will take over the buffer of each if nobody reads it later
 * @param written - when the user's program made a node
 */
export function schedule(
  outputs: readonly Node[],
  traits: Traits,
  settings: SchedulerSettings,
  fusedContiguous: (fused: Node) => boolean,
  heirs: ReadonlyMap<Node, Node | undefined> = new Map(),
  written: ReadonlyMap<Node, number> = new Map(),
): Schedule {
  const limits = settings.maxBindings === undefined ? traits : { ...traits, maxBindings: settings.maxBindings };
  const { stored, recomputed } = chooseStored(outputs, limits, settings, fusedContiguous);
  const order = pickAll(
    topologicalOrder(outputs).filter((n) => stored.has(n) && !isLeaf(n)),
    stored,
  );
  const placed = placePieces(order, stored, new Set(outputs));
  const loads = (node: Node): boolean => stored.has(node) && !recomputed.has(node);
  const drafts = makeDrafts(order, stored, loads, placed, limits.maxBindings);
  const writers = writersOf(drafts, placed);
  const outputSet = new Set(outputs);
  const { drafts: merged, arenas } = settings.merge
    ? mergeDrafts(drafts, writers, placed, { outputs: outputSet, heirs, loads, settings }, limits)
    : { drafts, arenas: [] };
  const needed = new Set<Node>(outputs);
  for (const draft of merged) {
    const own = new Set(draft.roots.flatMap((r) => (r.target === r.node ? [r.node] : [])));
    for (const node of draft.reads.keys()) if (!own.has(node)) needed.add(node);
    if (draft.kind === "fused") for (const node of own) needed.add(node); // its kernel writes all of its outputs
  }
  for (const [piece, { owner }] of placed) if (needed.has(owner)) needed.add(piece);
  const beside = new Map(arenas.flatMap(({ owner, members }) => [...members.keys()].map((n) => [n, owner] as const)));
  const intermediate = (node: Node): Node | undefined => {
    const owner = placed.get(node)?.owner ?? beside.get(node) ?? node;
    return needed.has(node) && !isLeaf(node) && !isLeaf(owner) && !outputSet.has(owner) ? owner : undefined;
  };
  const ordered = orderDrafts(merged, { writers, written, heirs, intermediate });
  return { drafts: ordered, stored, loads, placed, arenas, needed };
}

/** What drafts are merged for. */
interface Wishes {
  readonly outputs: ReadonlySet<Node>;
  readonly heirs: ReadonlyMap<Node, Node | undefined>;
  readonly loads: Schedule["loads"];
  readonly settings: SchedulerSettings;
}

function mergeDrafts(
  drafts: readonly Draft[],
  writers: ReadonlyMap<Node, Set<Draft>>,
  placed: Schedule["placed"],
  { outputs, heirs, loads, settings }: Wishes,
  traits: Traits,
): { readonly drafts: Draft[]; readonly arenas: readonly Arena[] } {
  const words = Math.ceil(drafts.length / 32);
  const alive: (Draft | undefined)[] = [...drafts];
  // bit j of above[i]: draft i needs draft j, directly or not
  const above = drafts.map(() => new Uint32Array(words));
  const has = (set: Uint32Array, j: number): boolean => (set[j >>> 5]! & (1 << (j & 31))) !== 0;
  const setBit = (set: Uint32Array, j: number): void => {
    set[j >>> 5]! |= 1 << (j & 31);
  };
  const depsOf = (d: Draft): Set<Draft> => needsOf(d, writers);
  const readers = new Map<Node, Set<Draft>>();
  for (const d of drafts) {
    for (const node of d.reads.keys()) {
      const set = readers.get(node);
      if (set) set.add(d);
      else readers.set(node, new Set([d]));
    }
    for (const dep of depsOf(d)) {
      setBit(above[d.number]!, dep.number);
      above[dep.number]!.forEach((w, i) => {
        above[d.number]![i]! |= w;
      });
    }
  }

  const families = new Map<Node, Node>(); // members of arenas, and what stands for the whole
  const bindings = (a: Draft, b: Draft): number => {
    const own = new Set([...a.roots, ...b.roots].flatMap((r) => (r.target === r.node ? [r.node] : [])));
    const buffers = new Set<Node>();
    const ownerOf = (n: Node): Node => placed.get(n)?.owner ?? families.get(n) ?? n;
    for (const d of [a, b]) {
      for (const node of d.reads.keys()) if (!own.has(node)) buffers.add(ownerOf(node));
      for (const { node, target } of d.roots) {
        const outside =
          outputs.has(node) ||
          target !== node ||
          placed.has(node) ||
          [...(readers.get(node) ?? [])].some((r) => r !== a && r !== b);
        if (outside) buffers.add(ownerOf(target));
      }
    }
    // an output that takes over a donated buffer whose other readers all run before needs none of its own; a single element that
    // rides along, and what rows are reduced to, cannot take over while the kernel's other threads read
    const points = Math.max(a.size, b.size);
    const inPlace = (d: Draft, leaf: Node): boolean => d.reads.get(leaf) !== false && d.size === points;
    const runsBefore = (r: Draft): boolean => has(above[a.number]!, r.number) || has(above[b.number]!, r.number);
    for (const leaf of [...a.reads.keys(), ...b.reads.keys()]) {
      const heir = heirs.get(leaf);
      if (!heir || !buffers.has(heir) || [a, b].some((d) => d.reads.has(leaf) && !inPlace(d, leaf))) continue;
      if ([...readers.get(leaf)!].every((r) => r === a || r === b || runsBefore(r))) buffers.delete(heir);
    }
    return buffers.size;
  };

  const canMerge = (a: Draft, b: Draft): boolean => {
    if (a === b || a.size !== b.size || a.size === 0 || a.kind === "fused" || b.kind === "fused" || b.kind === "matmul")
      return false;
    if (a.work + b.work > WORK_LIMIT) return false;
    const direct = depsOf(b).has(a);
    if (a.kind === "matmul" && (!traits.matmulEpilogue || !direct || b.reductionSizes.size > 0)) return false;
    if (
      b.reductionSizes.size > 0 &&
      a.reductionSizes.size > 0 &&
      [...b.reductionSizes].some((s) => !a.reductionSizes.has(s))
    )
      return false;
    if (!direct && b.reductionSizes.size !== a.reductionSizes.size) return false;
    const rootsOfA = new Set(a.roots.flatMap((r) => (r.target === r.node && !r.spread ? [r.node] : [])));
    for (const [node, linear] of b.reads) {
      const written = writers.get(node)?.has(a);
      if (written && !(linear && rootsOfA.has(node) && writers.get(node)!.size === 1)) return false;
    }
    return isFree(a, b) && bindings(a, b) <= traits.maxBindings;
  };

  /** Neither waits for the other through a third kernel, nor a for b. */
  const isFree = (a: Draft, b: Draft): boolean => {
    if (has(above[a.number]!, b.number)) return false;
    // a path a -> x -> b, or b's other needs that themselves need a
    for (const dep of depsOf(b)) if (dep !== a && has(above[dep.number]!, a.number)) return false;
    return true;
  };

  const updates = new Set(heirs.values());
  /**
   * Whether b computes each element of the rows that a reduces, from a's results for the element's own row. An update in place
   * stays a kernel of its own: beside other threads of its row it could not write over what they still read.
   */
  const canSpread = (a: Draft, b: Draft): boolean => {
    const [width = 0] = a.reductionSizes;
    if (a.kind !== "loop" || a.reductionSizes.size !== 1 || b.kind !== "loop" || b.reductionSizes.size > 0)
      return false;
    if (width < 2 || a.size < Math.max(2, settings.spreadRows) || a.size * width !== b.size) return false;
    if (a.work + b.work > WORK_LIMIT || !depsOf(b).has(a) || b.roots.some((r) => updates.has(r.node))) return false;
    const row = indexKey(divideIndex(b.own, width));
    for (const [node, linear] of b.reads) {
      if (!writers.get(node)?.has(a)) continue;
      const root = a.roots.find((r) => r.target === node && r.node === node);
      if (!root || writers.get(node)!.size !== 1) return false;
      if (root.spread ? !linear : [...b.indices.get(node)!].some((key) => key !== row)) return false;
    }
    return isFree(a, b) && bindings(a, b) <= traits.maxBindings;
  };

  /** Whether both are updates and what they share they read at different places: slices of one gradient. */
  const likeUpdates = (a: Draft, b: Draft, shared: readonly Node[]): boolean =>
    settings.coalesce &&
    [a, b].every((d) => d.roots.some((r) => updates.has(r.node))) &&
    !shared.some((n) => [...b.indices.get(n)!].some((key) => a.indices.get(n)?.has(key)));

  /** A single element may ride in any kernel that does not wait for it: each of its threads computes and writes the same value. */
  const canCarry = (a: Draft, rider: Draft): boolean => {
    if (a.kind !== "loop" || a.size <= 1 || a.reductionSizes.size > 0 || has(above[a.number]!, rider.number))
      return false;
    for (const dep of depsOf(rider)) if (dep === a || has(above[dep.number]!, a.number)) return false;
    return bindings(a, rider) <= traits.maxBindings;
  };

  /** What needs `a` needs all that it needs. */
  const passOn = (a: Draft): void => {
    const needed = above[a.number]!;
    for (const d of alive) {
      if (!d || d === a || !has(above[d.number]!, a.number)) continue;
      const set = above[d.number]!;
      needed.forEach((w, i) => {
        set[i]! |= w;
      });
    }
  };

  const wait = (a: Draft, b: Draft): void => {
    a.after.add(b.roots[0]!.target);
    setBit(above[a.number]!, b.number);
    above[b.number]!.forEach((w, i) => {
      above[a.number]![i]! |= w;
    });
    passOn(a);
  };

  const merge = (a: Draft, b: Draft, spread = b.size > a.size): void => {
    if (spread) a.spread = b.size / a.size;
    for (const root of b.roots) {
      a.roots.push(spread ? { ...root, spread } : root);
      const home = placed.get(root.target);
      for (const node of home ? [root.target, home.owner] : [root.target]) {
        writers.get(node)!.delete(b);
        writers.get(node)!.add(a);
      }
    }
    for (const [node, linear] of b.reads) {
      a.reads.set(node, (a.reads.get(node) ?? true) && linear && a.size === b.size);
      a.rows.set(node, (a.rows.get(node) ?? true) && (spread ? linear : (b.rows.get(node) ?? false)));
      a.indices.set(node, new Set([...(a.indices.get(node) ?? []), ...(b.indices.get(node) ?? [])]));
      readers.get(node)!.delete(b);
      readers.get(node)!.add(a);
    }
    for (const node of b.after) a.after.add(node);
    for (const s of b.reductionSizes) a.reductionSizes.add(s);
    a.work += b.work;
    alive[b.number] = undefined;
    const union = above[a.number]!;
    above[b.number]!.forEach((w, i) => {
      union[i]! |= w;
    });
    union[a.number >>> 5]! &= ~(1 << (a.number & 31));
    for (const d of alive) if (d && d !== a && has(above[d.number]!, b.number)) setBit(above[d.number]!, a.number);
    passOn(a);
  };

  const single: Draft[] = []; // updates that could become one kernel with all like them, or join a sibling
  for (const b of drafts) {
    if (b.kind !== "loop") continue;
    const producers = [...depsOf(b)].sort((x, y) => y.number - x.number);
    // what siblings share must be worth reading once
    const shared = [...b.reads.keys()].filter((n) => sizeOf(n.shape) >= b.size);
    const siblings = shared
      .flatMap((n) => [...(readers.get(n) ?? [])])
      .filter((d) => d.number < b.number && d.kind === "loop");
    const unlike = [...new Set(siblings)].filter((d) => !likeUpdates(d, b, shared));
    const home = [...producers, ...unlike].find((a) => canMerge(a, b) || canSpread(a, b));
    if (home) merge(home, b);
    else if (unlike.length < siblings.length) single.push(b);
  }
  const arenas = settings.coalesce
    ? coalesce({
        drafts: alive.filter((d) => d !== undefined),
        loads,
        outputs,
        heirs,
        placed,
        maxBindings: traits.maxBindings,
        readers,
        needs: (a, b) => has(above[a.number]!, b.number),
        wait,
        merge: (a, b) => merge(a, b, false),
      })
    : [];
  for (const { owner, members, heirs } of arenas)
    for (const node of [...members.keys(), ...heirs.values()]) families.set(node, owner);
  for (const b of single) {
    if (!alive[b.number] || b.together) continue;
    const shared = [...b.reads.keys()].filter((n) => sizeOf(n.shape) >= b.size);
    const siblings = shared.flatMap((n) => [...readers.get(n)!]).filter((d) => d.number < b.number && !d.together);
    const home = siblings.find((a) => canMerge(a, b));
    if (home) merge(home, b);
  }
  for (const rider of alive) {
    if (rider?.kind !== "loop" || rider.size !== 1 || rider.reductionSizes.size > 0) continue;
    const carrier = alive.find((a) => a && canCarry(a, rider));
    if (carrier) merge(carrier, rider);
  }
  return { drafts: alive.filter((d) => d !== undefined), arenas };
}
