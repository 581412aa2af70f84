// run/leaves.ts: where the inputs of a replay lie: as they are given, copied into the plan's buffers, or side by side in arenas.
import type { Storage } from "../device/storage.ts";
import type { Kept, Recording } from "./record.ts";

/** The buffers of the leaves' slots, and of the arenas that belong to the caller; for each leaf, `given` is its storage. */
export function placeLeaves({ plan, device }: Recording, kept: Kept, given: readonly Storage[]): Storage[] {
  const { slots, reusedLeaves } = plan;
  const buffers: Storage[] = [];
  for (const [slot, leaves] of kept.arenas) {
    // from the second step on the leaves lie there; the first time, and for other tensors, they are gathered in a new arena
    const home = given[leaves[0]!]!.arena?.whole;
    const isHome = (i: number): boolean => {
      const { arena } = given[i]!;
      return arena?.whole === home && arena?.offset === slots[i]!.within!.offset;
    };
    const stay = home !== undefined && leaves.every(isHome);
    const whole = stay ? home : device.allocate(slots[slot]!.dtype, slots[slot]!.size);
    buffers[slot] = whole;
    for (const i of leaves) {
      buffers[i] = stay ? given[i]! : device.part(whole, slots[i]!.within!.offset, slots[i]!.size);
      if (!stay) device.copy(given[i]!, buffers[i]!);
    }
  }
  given.forEach((from, i) => {
    if (buffers[i]) return;
    // a part of an arena cannot be bound as it is: a GPU's kernel may not read one part of a buffer and write another
    const shared = from.arena !== undefined && device.traits.ownsEdges;
    const mine = kept.buffers[i] ?? (shared ? device.allocate(from.dtype, from.size) : from);
    buffers[i] = mine;
    if (mine === from || kept.copied[i] === from.id) return;
    device.copy(from, mine);
    if (reusedLeaves[i]) return; // it goes with the result
    kept.buffers[i] = mine;
    kept.copied[i] = from.id;
  });
  return buffers;
}
