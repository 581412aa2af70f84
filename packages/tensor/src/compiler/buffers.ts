// compiler/buffers.ts: gives every stored node a slot. Slots are reused when their last reader has run, updated in place where
// the writing kernel reads the old value at the same index only, and donated inputs become outputs.
import type { DType } from "../dtype.ts";
import { invariant } from "../errors.ts";
import type { Node } from "../node.ts";
import { sizeOf } from "../shape.ts";
import type { Draft, Schedule, SchedulerSettings } from "./schedule.ts";
import { isLeaf } from "./store.ts";

/**
 * Elements up to which the runtime copies an input into a buffer of the plan: then its kernels find the same buffers at every
 * replay. A small donated buffer is not worth handing to another output, which would bring other buffers with every call.
 */
export const SMALL_INPUT = 1 << 18;

/** A buffer of a plan. */
export interface Slot {
  readonly dtype: DType;
  readonly size: number;
  /** "leaf": given by the caller; "output": handed to the caller; "temporary": lives inside the plan. */
  readonly role: "leaf" | "output" | "temporary";
}

/** Slots and who sits in them. */
export interface BufferPlan {
  readonly slots: readonly Slot[];
  /** Slot and offset in elements of each stored node that has memory. */
  readonly place: ReadonlyMap<Node, { readonly slot: number; readonly offset: number }>;
  /** Donated leaves whose buffer an output took over. */
  readonly reusedLeaves: ReadonlySet<Node>;
}

/**
 * @param leaves - all inputs of the plan, in order: leaf i has slot i
 * @param donated - leaves whose buffers may be overwritten, and the output that would like each (same place in the tree)
 */
export function assignBuffers(
  { drafts, placed, needed }: Schedule,
  leaves: readonly Node[],
  outputs: readonly Node[],
  donated: ReadonlyMap<Node, Node | undefined>,
  settings: SchedulerSettings,
): BufferPlan {
  const ownerOf = (node: Node): Node => placed.get(node)?.owner ?? node;
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
  const fits = (a: Node, b: Node): boolean => a.dtype === b.dtype && sizeOf(a.shape) === sizeOf(b.shape);

  /** Whether kernel `at`, the first writer of `target`, may write over `source`. */
  const mayReplace = (source: Node, target: Node, at: number): boolean => {
    const last = lastRead.get(source) ?? -1;
    if (last < at) return true;
    return last === at && inPlace(drafts[at]!, source, target, ownerOf);
  };

  // outputs first: donated buffers, preferably the one at the same place in the caller's tree
  const reusedLeaves = new Set<Node>();
  const give = (output: Node, leaf: Node): void => {
    slotOf.set(output, slotOf.get(leaf)!);
    reusedLeaves.add(leaf);
  };
  const open = outputs.filter((o, i) => !isLeaf(o) && outputs.indexOf(o) === i);
  const free = [...donated.keys()].filter((leaf) => !outputSet.has(leaf));
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
  const bySize = new Map<string, Node[]>();
  for (const leaf of free) {
    if (reusedLeaves.has(leaf) || sizeOf(leaf.shape) <= SMALL_INPUT) continue;
    const key = `${leaf.dtype}:${sizeOf(leaf.shape)}`;
    bySize.set(key, [...(bySize.get(key) ?? []), leaf]);
  }
  for (const output of open) {
    if (slotOf.has(output)) continue;
    const leaf = bySize
      .get(`${output.dtype}:${sizeOf(output.shape)}`)
      ?.find((l) => !reusedLeaves.has(l) && mayReplace(l, output, firstWrite.get(output)!));
    if (leaf) give(output, leaf);
    else {
      slotOf.set(output, slots.length);
      slots.push({ dtype: output.dtype, size: sizeOf(output.shape), role: "output" });
    }
  }

  // temporaries: a free list by type and size
  const freeSlots = new Map<string, number[]>();
  const dying = new Map<number, Node[]>();
  for (const [owner, at] of lastRead) {
    if (!isLeaf(owner) && !outputSet.has(owner)) dying.set(at, [...(dying.get(at) ?? []), owner]);
  }
  drafts.forEach((draft, at) => {
    const taken = new Set<Node>();
    for (const { target } of draft.roots) {
      const owner = ownerOf(target);
      if (!needed.has(target) || slotOf.has(owner)) continue;
      const key = `${owner.dtype}:${sizeOf(owner.shape)}`;
      const heir = settings.reuse
        ? (dying.get(at) ?? []).find(
            (n) =>
              !taken.has(n) &&
              slotOf.has(n) &&
              firstWrite.get(n)! < at &&
              fits(n, owner) &&
              inPlace(draft, n, owner, ownerOf),
          )
        : undefined;
      const reused = heir ? slotOf.get(heir)! : settings.reuse ? freeSlots.get(key)?.pop() : undefined;
      if (heir) taken.add(heir);
      if (reused !== undefined) slotOf.set(owner, reused);
      else {
        slotOf.set(owner, slots.length);
        slots.push({ dtype: owner.dtype, size: sizeOf(owner.shape), role: "temporary" });
      }
    }
    for (const node of dying.get(at) ?? []) {
      if (taken.has(node) || !slotOf.has(node)) continue;
      const key = `${node.dtype}:${sizeOf(node.shape)}`;
      freeSlots.set(key, [...(freeSlots.get(key) ?? []), slotOf.get(node)!]);
    }
  });

  const place = new Map<Node, { slot: number; offset: number }>();
  for (const [node, slot] of slotOf) place.set(node, { slot, offset: 0 });
  for (const [piece, { owner, offset }] of placed) {
    const slot = slotOf.get(owner);
    if (slot !== undefined) place.set(piece, { slot, offset });
  }
  invariant(
    outputs.every((o) => place.has(o)),
    "every output has a slot",
  );
  return { slots, place, reusedLeaves };
}

/**
 * Whether a kernel may write `target` over `source`: both at the kernel's own linear index, once, and `source` whole. Not where
 * several threads share a point and what follows beside it may still read.
 */
function inPlace(draft: Draft, source: Node, target: Node, ownerOf: (node: Node) => Node): boolean {
  if (draft.kind === "fused" || draft.spread > 0 || source === target) return false;
  for (const [node, linear] of draft.reads) {
    if (ownerOf(node) === source && (!linear || node !== source)) return false;
  }
  const writers = draft.roots.filter((r) => ownerOf(r.target) === target);
  return writers.length === 1 && writers[0]!.node === target && writers[0]!.target === target;
}
