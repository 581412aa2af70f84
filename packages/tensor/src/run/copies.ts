// run/copies.ts: arguments that a compiled function may consume again and again, while the caller's stay whole.
import type { Storage } from "../device/storage.ts";
import { bufferNode, type Node } from "../node.ts";
import { Tensor } from "../tensor.ts";
import { storageOf } from "./realise.ts";
import type { Recording } from "./record.ts";
import { keptOf } from "./replay.ts";
import { treeLeaves, treeMapWithPath } from "./tree.ts";

/**
 * Copies of the donated tensors of one call. Each run gets them with the caller's values; what a run's results keep of them is
 * taken back from the results, so that every run has the same buffers, as a training loop does.
 */
export class Copies {
  private readonly recording: Recording;
  private readonly tensors: readonly Tensor[];
  private readonly args: readonly unknown[];
  /** By the number of the argument tensor. */
  private readonly copies = new Map<number, Storage>();

  /** @param tensors - the distinct tensors of `args`, realised, in the order of the recording's numbers */
  constructor(recording: Recording, tensors: readonly Tensor[], args: readonly unknown[]) {
    this.recording = recording;
    this.tensors = tensors;
    this.args = args;
  }

  /** Writes the caller's values to the copies. */
  refresh(): void {
    const { device, donated } = this.recording;
    if (this.copies.size === 0) this.settle();
    for (const number of donated) {
      const given = storageOf(this.tensors[number]!.node);
      let copy = this.copies.get(number);
      if (!copy) this.copies.set(number, (copy = device.allocate(given.dtype, given.size)));
      device.copy(given, copy);
    }
  }

  /** Makes the copies of what lies side by side from the second step on. */
  private settle(): void {
    const { plan, device, leaves } = this.recording;
    for (const [slot, members] of keptOf(this.recording).arenas) {
      const { dtype, size } = plan.slots[slot]!;
      const whole = device.allocate(dtype, size);
      for (const i of members) {
        const leaf = leaves[i]!;
        const { within, size } = plan.slots[i]!;
        if ("argument" in leaf) this.copies.set(leaf.argument, device.part(whole, within!.offset, size));
      }
    }
  }

  /** Where argument tensor `number` lies: in its copy, if it is donated. */
  storage(number: number): Storage {
    return this.copies.get(number) ?? storageOf(this.tensors[number]!.node);
  }

  /** Runs `call` with the copies in place of the donated tensors, and lets go of its result. */
  run<R>(call: (args: unknown[]) => R): void {
    const { device } = this.recording;
    const numberOf = new Map<Node, number>(this.tensors.map((t, i) => [t.node, i]));
    const args = this.args.map((arg) =>
      treeMapWithPath<unknown, unknown, unknown>((_, leaf) => {
        const copy = leaf instanceof Tensor ? this.copies.get(numberOf.get(leaf.node)!) : undefined;
        return copy ? tensorOver(copy, leaf as Tensor) : leaf;
      }, arg),
    );
    const numberOfHandle = new Map([...this.copies].map(([number, { handle }]) => [handle, number]));
    const result = call(args);

    this.copies.clear(); // donated: their memory is the results' now, or was given back
    for (const leaf of new Set(treeLeaves<unknown>(result))) {
      if (!(leaf instanceof Tensor) || numberOf.has(leaf.node)) continue;
      const storage = storageOf(leaf.node);
      const number = numberOfHandle.get(storage.handle);
      if (number === undefined) device.release(storage);
      else this.copies.set(number, storage);
    }
  }

  /** Gives the copies' memory back. */
  release(): void {
    for (const copy of this.copies.values()) if (copy.handle !== null) this.recording.device.release(copy);
    this.copies.clear();
  }
}

const tensorOver = (storage: Storage, { shape, dtype }: Tensor): Tensor =>
  new Tensor(bufferNode(storage, shape, dtype));
