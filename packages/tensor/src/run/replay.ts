// run/replay.ts: runs a recorded plan on new arguments. No graph, no search: buffers are put in their slots, launched, and handed out.
import { SMALL_INPUT } from "../compiler/buffers.ts";
import { moveStorage, type Storage } from "../device/storage.ts";
import { bufferNode, type Node } from "../node.ts";
import { Tensor } from "../tensor.ts";
import { placeLeaves } from "./leaves.ts";
import { storageOf } from "./realise.ts";
import type { Kept, Recording } from "./record.ts";
import { build } from "./template.ts";

/** The function's result for these argument tensors. */
export function replay(recording: Recording, tensors: readonly Tensor[]): unknown {
  const { plan, device, leaves, donated, outputs, paths } = recording;
  const storages = tensors.map((t) => storageOf(t.node));
  const kept = keptOf(recording);
  const given = leaves.map((leaf) => ("argument" in leaf ? storages[leaf.argument]! : storageOf(leaf.captured)));
  const placed = placeLeaves(recording, kept, given);
  const buffers = plan.slots.map((slot, i) => placed[i] ?? kept.buffers[i] ?? device.allocate(slot.dtype, slot.size));
  device.execute(plan.launches, buffers, kept.replay);

  // every result gets memory of its own: a copy where the plan, the caller or another result keeps the buffer
  const handed = new Set<number>();
  const results = new Array<Tensor>(outputs.length);
  const whole: [output: number, storage: Storage, moves: boolean, like: Pick<Node, "shape" | "dtype">][] = [];
  outputs.forEach((output, i) => {
    if ("argument" in output) {
      const given = tensors[output.argument]!;
      if (donated.has(output.argument)) whole.push([i, storages[output.argument]!, true, given]);
      else results[i] = given;
      return;
    }
    const { slot, node } = output;
    const moves = plan.reusedLeaves[slot] === true; // into the buffer of a donated argument
    const taken = moves || (plan.slots[slot]!.role === "output" && !kept.buffers[slot]);
    if (taken && !handed.has(slot)) whole.push([i, buffers[slot]!, moves, node]);
    else results[i] = wrap(device.copyOf(buffers[slot]!), node);
    handed.add(slot);
  });
  // from here on the donated tensors are gone
  for (const [i, storage, moves, like] of whole) results[i] = wrap(moves ? moveStorage(storage) : storage, like);
  for (const number of donated) {
    const storage = storages[number]!;
    if (storage.handle !== null) device.release(storage);
    storage.dead = `the tensor at "${paths[number]}" was donated to a compiled function; use the function's result instead, as in ({ params } = step({ params }))`;
  }
  return build(recording.result, (leaf) => (leaf.output === undefined ? leaf.value : results[leaf.output]!));
}

const wrap = (storage: Storage, { shape, dtype }: Pick<Node, "shape" | "dtype">): Tensor =>
  new Tensor(bufferNode(storage, shape, dtype));

/** @internal What stays with the plan from its first run on. */
export const keptOf = (recording: Recording): Kept => (recording.kept ??= keep(recording));

/** Temporaries stay with the plan; on devices that want it, so do copies of small undonated inputs and of outputs. */
function keep({ plan, device, leaves }: Recording): Kept {
  const { slots } = plan;
  const buffers = slots.map((slot, i) => {
    if (slot.role === "arena" || slot.within) return undefined;
    if (slot.role === "temporary") return device.allocate(slot.dtype, slot.size);
    if (slot.values) {
      const table = device.allocate(slot.dtype, slot.size);
      device.upload(table, slot.values);
      return table;
    }
    if (!device.traits.ownsEdges) return undefined;
    if (slot.role === "output") return device.allocate(slot.dtype, slot.size);
    const leaf = leaves[i]!;
    const copied =
      "argument" in leaf &&
      !plan.reusedLeaves[i] && // donated, too, where no output takes its buffer: the next call brings another one
      slot.size <= SMALL_INPUT;
    return copied ? device.allocate(slot.dtype, slot.size) : undefined;
  });
  slots.forEach(({ within, size }, i) => {
    const whole = within && buffers[within.slot];
    if (whole) buffers[i] = device.part(whole, within.offset, size);
  });
  const arenas = new Map<number, number[]>();
  leaves.forEach((_, i) => {
    const { within } = slots[i]!;
    if (!within || slots[within.slot]!.role !== "arena") return;
    const list = arenas.get(within.slot);
    if (list) list.push(i);
    else arenas.set(within.slot, [i]);
  });
  return { buffers, copied: [], arenas, replay: {} };
}
