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
  const { plan, device, leaves, outputs } = recording;
  const storages = tensors.map((t) => storageOf(t.node));
  const kept = keptOf(recording);
  const given = leaves.map((leaf) => ("argument" in leaf ? storages[leaf.argument]! : storageOf(leaf.captured)));
  const placed = placeLeaves(recording, kept, given);
  const buffers = plan.slots.map((slot, i) => placed[i] ?? kept.buffers[i] ?? device.allocate(slot.dtype, slot.size));
  device.execute(plan.launches, buffers, kept.replay);

  // copies first: what is moved is gone
  const results = new Array<Tensor>(outputs.length);
  for (const i of kept.copies) {
    const output = outputs[i]!;
    results[i] =
      "argument" in output ? tensors[output.argument]! : wrap(device.copyOf(buffers[output.slot]!), output.node);
  }
  for (const { output: i, moves } of kept.whole) {
    const output = outputs[i]!;
    const storage = "argument" in output ? storages[output.argument]! : buffers[output.slot]!;
    const like = "argument" in output ? tensors[output.argument]!.node : output.node;
    results[i] = wrap(moves ? moveStorage(storage) : storage, like);
  }
  // from here on the donated tensors are gone
  for (const [number, reason] of kept.ends) {
    const storage = storages[number]!;
    if (storage.handle !== null) device.release(storage);
    storage.dead = reason;
  }
  return build(recording.result, (leaf) => (leaf.output === undefined ? leaf.value : results[leaf.output]!));
}

const wrap = (storage: Storage, { shape, dtype }: Pick<Node, "shape" | "dtype">): Tensor =>
  new Tensor(bufferNode(storage, shape, dtype));

/** @internal What stays with the plan from its first run on. */
export const keptOf = (recording: Recording): Kept => (recording.kept ??= keep(recording));

/** Temporaries stay with the plan; on devices that want it, so do copies of small undonated inputs and of outputs. */
function keep(recording: Recording): Kept {
  const { plan, device, leaves } = recording;
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
  return { buffers, copied: [], arenas, ...handOut(recording, buffers), replay: {} };
}

/** Every result gets memory of its own: a copy where the plan, the caller or another result keeps the buffer. */
function handOut(
  { plan, outputs, donated, paths }: Recording,
  buffers: Kept["buffers"],
): Pick<Kept, "copies" | "whole" | "ends"> {
  const handed = new Set<number>();
  const copies: number[] = [];
  const whole: { output: number; moves: boolean }[] = [];
  outputs.forEach((from, output) => {
    if ("argument" in from) {
      if (donated.has(from.argument)) whole.push({ output, moves: true });
      else copies.push(output);
      return;
    }
    const { slot } = from;
    const moves = plan.reusedLeaves[slot] === true; // into the buffer of a donated argument
    const taken = moves || (plan.slots[slot]!.role === "output" && !buffers[slot]);
    if (taken && !handed.has(slot)) whole.push({ output, moves });
    else copies.push(output);
    handed.add(slot);
  });
  const ends = [...donated].map((number): [number, string] => [
    number,
    `the tensor at "${paths[number]}" was donated to a compiled function; use the function's result instead, as in ({ params } = step({ params }))`,
  ]);
  return { copies, whole, ends };
}
