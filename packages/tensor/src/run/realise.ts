// run/realise.ts: turns lazy values into buffers. Plans are cached by the structure of the graph.
import { leavesOf, makePlan, type Plan } from "../compiler/plan.ts";
import { isLeaf } from "../compiler/store.ts";
import { connectedDevice } from "../device/current.ts";
import type { Device } from "../device/device.ts";
import type { Storage } from "../device/storage.ts";
import type { TypedArray } from "../dtype.ts";
import { invariant, ValueError } from "../errors.ts";
import { type Node, nodeKey, topologicalOrder } from "../node.ts";
import { sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { hooks } from "./hooks.ts";
import { checkReadable, isRecording } from "./recording.ts";
import { treeLeaves } from "./tree.ts";

// Plans of one device that are kept; the least recently used goes first.
const PLAN_CACHE = 256;
// Depth at which a lazy graph realises by itself, so that an eager loop that never reads anything stays bounded.
const DEPTH_LIMIT = 2000;

const plans = new WeakMap<Device, Map<string, Plan>>();

/** The storage of a realised node; throws if its life has ended. */
export function storageOf(node: Node): Storage {
  invariant(node.kind.kind === "buffer", "only buffers have storage");
  const { storage } = node.kind;
  if (storage.dead !== null) throw new ValueError(storage.dead);
  return storage;
}

/** Turns a node into a buffer; its history is dropped, so that what it was made from can go. */
export function becomeBuffer(node: Node, storage: Storage): void {
  node.kind = { kind: "buffer", storage };
  node.inputs = [];
  node.depth = 0;
}

/** Computes the given tensors now, all in one plan; on a GPU the work is submitted, not awaited. */
export function materialise(tensors: readonly Tensor[], op = "realise"): void {
  const nodes = [...new Set(tensors.map((t) => t.node))].filter((n) => n.kind.kind !== "buffer");
  if (nodes.length === 0) return;
  checkReadable(op, nodes);
  const byDevice = new Map<Device, Node[]>();
  for (const node of nodes) {
    const device = node.device ?? connectedDevice();
    byDevice.set(device, [...(byDevice.get(device) ?? []), node]);
  }
  for (const [device, group] of byDevice) realiseNodes(device, group);
}

function realiseNodes(device: Device, nodes: readonly Node[]): void {
  const leaves = leavesOf(nodes);
  const inputs = leaves.map((leaf) => liveStorage(leaf));
  const key = structureKey(nodes, leaves);
  let cache = plans.get(device);
  if (!cache) plans.set(device, (cache = new Map()));
  let plan = cache.get(key);
  if (plan) cache.delete(key);
  else plan = makePlan({ device, leaves, outputs: nodes });
  cache.set(key, plan);
  if (cache.size > PLAN_CACHE) cache.delete(cache.keys().next().value!);

  const buffers = plan.slots.map((slot, i) =>
    slot.role === "leaf" ? inputs[i]! : device.allocate(slot.dtype, slot.size),
  );
  device.execute(plan.launches, buffers);
  plan.slots.forEach((slot, i) => {
    if (slot.role === "temporary") device.release(buffers[i]!);
  });
  const owned = new Set<Storage>();
  nodes.forEach((node, i) => {
    let storage = buffers[plan.outputs[i]!]!;
    // two nodes with one value, or an identity of a leaf: each handle owns its memory
    if (owned.has(storage) || plan.slots[plan.outputs[i]!]!.role === "leaf") {
      const copy = device.allocate(node.dtype, sizeOf(node.shape));
      device.copy(storage, copy);
      storage = copy;
    }
    owned.add(storage);
    becomeBuffer(node, storage);
  });
}

function liveStorage(leaf: Node): Storage {
  const { kind } = leaf;
  invariant(kind.kind === "buffer", "placeholders were refused before");
  if (kind.storage.dead !== null) {
    throw new ValueError(
      `${kind.storage.dead}. A lazy value still needs it: realise that value before (\`await realise(y)\`), or do not let the tensor go`,
    );
  }
  return kind.storage;
}

/** Text that is equal for graphs that need the same plan; leaves are numbered, not named. */
export function structureKey(roots: readonly Node[], leaves: readonly Node[]): string {
  const number = new Map<Node, number>();
  leaves.forEach((leaf, i) => {
    number.set(leaf, i);
  });
  const parts: string[] = leaves.map((l) => `${l.dtype}[${l.shape.join(",")}]`);
  for (const node of topologicalOrder(roots)) {
    if (isLeaf(node)) continue;
    number.set(node, number.size);
    const own = node.kind.kind === "variable" ? "variable" : nodeKey(node);
    parts.push(`${own}(${node.inputs.map((n) => number.get(n)).join(",")})`);
  }
  return `${parts.join(";")}>${roots.map((n) => number.get(n)).join(",")}`;
}

/**
 * Computes every tensor of a tree now, together, and resolves when the device has done so. An eager loop that only reads its
 * loss should realise its parameters and state as well: reading one value does not compute the others.
 *
 * @param tree - nested objects and arrays of tensors
 * @returns the tree
 * @throws ValueError inside a compiled function or while a gradient is recorded
 * @example params = await realise(treeMap((p, g) => sub(p, mul(g, 0.1)), params, grads));
 */
export function realise<T>(tree: T): Promise<T> {
  const tensors = treeLeaves<unknown>(tree).filter((x) => x instanceof Tensor);
  materialise(tensors);
  const devices = new Set(tensors.map((t) => t.device));
  return Promise.all([...devices].map((d) => d.settle())).then(() => tree);
}

/**
 * `realise` without waiting: computes the tree's tensors now, unless a compiled function or a gradient is being recorded, where
 * nothing can be computed yet and this does nothing. For libraries whose functions are called in eager loops too.
 *
 * @example const next = realiseEagerly(optimizerStep(params, grads));
 */
export function realiseEagerly<T>(tree: T): T {
  if (!isRecording()) materialise(treeLeaves<unknown>(tree).filter((x) => x instanceof Tensor));
  return tree;
}

function read(tensor: Tensor): Promise<TypedArray> {
  checkReadable("data", [tensor.node]);
  materialise([tensor], "data");
  return tensor.device.download(storageOf(tensor.node));
}

function dispose(tensor: Tensor): void {
  const { node } = tensor;
  if (node.kind.kind !== "buffer" || node.kind.storage.dead !== null) return;
  const { storage } = node.kind;
  storage.dead = "the tensor was disposed";
  storage.device.release(storage);
}

hooks.read = read;
hooks.dispose = dispose;
hooks.created = (tensor) => {
  if (tensor.node.depth > DEPTH_LIMIT && !isRecording()) materialise([tensor]);
};
