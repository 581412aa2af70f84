// compiler/buffers.ts: gives every stored node a slot. A slot serves one value after the other, large and small; values are
// updated in place where the writing kernel reads the old one at the same index only; donated inputs become outputs.
import type { DType } from "../dtype.ts";
import { invariant } from "../errors.ts";
import type { Node } from "../node.ts";
import { sizeOf } from "../shape.ts";
import type { Arena } from "./coalesce.ts";
import type { Draft } from "./draft.ts";
import type { Schedule, SchedulerSettings } from "./schedule.ts";
import { isLeaf, storedType, wordsOf } from "./store.ts";

/**
 * Elements up to which the runtime copies an input into a buffer of the plan: then its kernels find the same buffers at every
 * replay. A small donated buffer goes to the output that updates it, and to no other: that would bring other buffers with every call.
 */
export const SMALL_INPUT = 1 << 18;

/** A buffer of a plan. */
export interface Slot {
  readonly dtype: DType;
  /** Elements, or words that hold two f16: those of its largest value. */
  readonly size: number;
  /** "leaf": given by the caller; "output": handed to the caller; "temporary": lives inside the plan; "arena": leaves that are updated side by side; "table": holds `values`, always. */
  readonly role: "leaf" | "output" | "temporary" | "arena" | "table";
  readonly values?: Uint32Array;
  /** Set where the slot is a part of another one, an arena: that one, and the element of it at which this begins. */
  readonly within?: { readonly slot: number; readonly offset: number };
}

/** Where a value lies: in `slot`, `offset` elements behind the beginning of a value of `size` elements (itself, or the concat it is a piece of). */
export interface Place {
  readonly slot: number;
  readonly offset: number;
  readonly size: number;
}

/** Slots and who sits in them. */
export interface BufferPlan {
  readonly slots: readonly Slot[];
  /** Where each stored node that has memory lies. */
  readonly place: ReadonlyMap<Node, Place>;
  /** Where members of arenas lie in those; their own slot is a part of that one. */
  readonly inArena: ReadonlyMap<Node, Place>;
  /** Donated leaves whose buffer an output took over. */
  readonly reusedLeaves: ReadonlySet<Node>;
}

/**
 * @param leaves - all inputs of the plan, in order: leaf i has slot i
 * @param donated - leaves whose buffers may be overwritten, and the output that would like each (same place in the tree)
 */
export function assignBuffers(
  { drafts, placed, needed, arenas }: Schedule,
  leaves: readonly Node[],
  outputs: readonly Node[],
  donated: ReadonlyMap<Node, Node | undefined>,
  settings: SchedulerSettings,
): BufferPlan {
  // temporaries that lie side by side come and go together
  const side = new Map<Node, Arena>();
  for (const arena of arenas) for (const node of arena.members.keys()) if (!isLeaf(node)) side.set(node, arena);
  const ownerOf = (node: Node): Node => placed.get(node)?.owner ?? side.get(node)?.owner ?? node;
  const outputSet = new Set(outputs);
  const firstWrite = new Map<Node, number>();
  const lastRead = new Map<Node, number>();
  drafts.forEach((draft, at) => {
    for (const { target } of draft.roots) {
      const owner = ownerOf(target);
      if (needed.has(target) && !firstWrite.has(owner)) firstWrite.set(owner, at);
      if (needed.has(target)) lastRead.set(owner, Math.max(lastRead.get(owner) ?? at, at));
    }
    for (const node of draft.reads.keys()) lastRead.set(ownerOf(node), at);
  });

  const slots: Slot[] = leaves.map((n) => ({ dtype: n.dtype, size: sizeOf(n.shape), role: "leaf" }));
  const slotOf = new Map<Node, number>(leaves.map((n, i) => [n, i]));
  const fits = (a: Node, b: Node): boolean => storedType(a) === storedType(b) && sizeOf(a.shape) === sizeOf(b.shape);

  /** Whether kernel `at`, the first writer of `target`, may write over `source`. */
  const mayReplace = (source: Node, target: Node, at: number): boolean => {
    const last = lastRead.get(source) ?? -1;
    if (last < at) return true;
    return last === at && inPlace(drafts[at]!, source, target, ownerOf);
  };

  /** Whether kernel `at` reads `source` and writes `target` in its place. */
  const updates = (source: Node, target: Node, at: number): boolean =>
    lastRead.get(source) === at && mayReplace(source, target, at);

  // outputs first: donated buffers, preferably the one at the same place in the caller's tree
  const reusedLeaves = new Set<Node>();
  const give = (output: Node, leaf: Node): void => {
    slotOf.set(output, slotOf.get(leaf)!);
    reusedLeaves.add(leaf);
  };
  const inArena = new Map<Node, Place>();
  for (const { owner, members, heirs } of arenas) {
    if ([...members.keys()].some((n) => side.has(n))) continue;
    const role = heirs.size > 0 ? "arena" : "temporary";
    const slot = slots.push({ dtype: owner.dtype, size: sizeOf(owner.shape), role }) - 1;
    for (const [leaf, offset] of members) {
      inArena.set(leaf, { slot, offset, size: sizeOf(owner.shape) });
      slots[slotOf.get(leaf)!] = { ...slots[slotOf.get(leaf)!]!, within: { slot, offset } };
    }
    for (const [leaf, output] of heirs) {
      inArena.set(output, inArena.get(leaf)!);
      give(output, leaf);
    }
  }
  const open = outputs.filter((o, i) => !isLeaf(o) && outputs.indexOf(o) === i);
  const free = [...donated.keys()].filter((leaf) => !outputSet.has(leaf) && !inArena.has(leaf));
  for (const leaf of free) {
    const wish = donated.get(leaf);
    if (
      wish &&
      open.includes(wish) &&
      !slotOf.has(wish) &&
      fits(leaf, wish) &&
      mayReplace(leaf, wish, firstWrite.get(wish)!)
    )
      give(wish, leaf);
  }
  const isLarge = (leaf: Node): boolean => sizeOf(leaf.shape) > SMALL_INPUT;
  const bySize = new Map<string, Node[]>();
  for (const leaf of free) {
    if (reusedLeaves.has(leaf)) continue;
    const key = `${leaf.dtype}:${sizeOf(leaf.shape)}`;
    bySize.set(key, [...(bySize.get(key) ?? []), leaf]);
  }
  for (const output of open) {
    if (slotOf.has(output)) continue;
    const leaf = bySize
      .get(`${output.dtype}:${sizeOf(output.shape)}`)
      ?.find((l) => !reusedLeaves.has(l) && (isLarge(l) ? mayReplace : updates)(l, output, firstWrite.get(output)!));
    if (leaf) give(output, leaf);
    else {
      slotOf.set(output, slots.length);
      slots.push({ dtype: output.dtype, size: sizeOf(output.shape), role: "output" });
    }
  }

  // temporaries: values that may lie in one place one after the other, then places for those
  const dying = new Map<number, Node[]>();
  for (const [owner, at] of lastRead) {
    if (!isLeaf(owner) && !outputSet.has(owner)) dying.set(at, [...(dying.get(at) ?? []), owner]);
  }
  const tenantOf = new Map<Node, Tenant>();
  drafts.forEach((draft, at) => {
    for (const { target } of draft.roots) {
      const owner = ownerOf(target);
      if (!needed.has(target) || slotOf.has(owner) || tenantOf.has(owner)) continue;
      const heir = (settings.reuse ? (dying.get(at) ?? []) : []).find(
        (n) => tenantOf.get(n)?.nodes.at(-1) === n && fits(n, owner) && inPlace(draft, n, owner, ownerOf),
      );
      const tenant = heir
        ? tenantOf.get(heir)!
        : { nodes: [], dtype: owner.dtype, size: wordsOf(owner), from: at, to: at };
      tenant.nodes.push(owner);
      tenant.to = lastRead.get(owner)!;
      tenantOf.set(owner, tenant);
    }
  });
  for (const tenants of settle(new Set(tenantOf.values()), settings.reuse)) {
    for (const { nodes } of tenants) for (const node of nodes) slotOf.set(node, slots.length);
    slots.push({ dtype: tenants[0]!.dtype, size: tenants[0]!.size, role: "temporary" });
  }

  for (const [node, { owner, members }] of side) {
    const within = { slot: slotOf.get(owner)!, offset: members.get(node)! };
    inArena.set(node, { ...within, size: sizeOf(owner.shape) });
    slotOf.set(node, slots.push({ dtype: node.dtype, size: sizeOf(node.shape), role: "temporary", within }) - 1);
  }

  for (const { together } of drafts)
    for (const { table, values } of together?.windows.values() ?? [])
      slotOf.set(table, slots.push({ dtype: table.dtype, size: values.length, role: "table", values }) - 1);

  const place = new Map<Node, Place>();
  for (const [node, slot] of slotOf) place.set(node, { slot, offset: 0, size: sizeOf(node.shape) });
  for (const [piece, { owner, offset }] of placed) {
    const home = place.get(owner);
    if (home) place.set(piece, { ...home, offset });
  }
  invariant(
    outputs.every((o) => place.has(o)),
    "every output has a slot",
  );
  return { slots, place, inArena, reusedLeaves };
}

/** Values that lie in one place one after the other, each written over the one before by a kernel that reads it. */
interface Tenant {
  readonly nodes: Node[];
  readonly dtype: DType;
  readonly size: number;
  /** Kernels between which the place is taken, both included. */
  readonly from: number;
  to: number;
}

/**
 * Tenants with one slot each: the largest choose first, and a smaller one moves into the smallest slot that is free all its
 * time. A slot is as large as its first tenant. ("Greedy by size for shared objects", Pisarchyk and Lee, arXiv 2001.03288)
 */
function settle(tenants: Iterable<Tenant>, reuse: boolean): readonly (readonly Tenant[])[] {
  const slots: Tenant[][] = [];
  const isFree = (slot: readonly Tenant[], { dtype, from, to }: Tenant): boolean =>
    slot[0]!.dtype === dtype && slot.every((other) => other.to < from || to < other.from);
  for (const tenant of [...tenants].sort((a, b) => b.size - a.size || a.from - b.from)) {
    const slot = reuse ? slots.findLast((s) => isFree(s, tenant)) : undefined;
    if (slot) slot.push(tenant);
    else slots.push([tenant]);
  }
  return slots;
}

/**
 * Whether a kernel may write `target` over `source`: both at the kernel's own linear index, once, and `source` whole. Or, where
 * the threads of a row reduce it and then compute something for each of its elements: over the row that they have read.
 */
function inPlace(draft: Draft, source: Node, target: Node, ownerOf: (node: Node) => Node): boolean {
  if (draft.kind === "fused" || source === target) return false;
  const own = draft.spread > 0 ? draft.rows : draft.reads;
  for (const node of draft.reads.keys()) {
    if (ownerOf(node) === source && (!own.get(node) || node !== source)) return false;
  }
  const [writer, ...others] = draft.roots.filter((r) => ownerOf(r.target) === target);
  if (!writer || others.length > 0 || writer.node !== target || writer.target !== target) return false;
  return draft.spread === 0 || writer.spread === true;
}
