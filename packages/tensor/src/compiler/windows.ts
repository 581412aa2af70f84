// compiler/windows.ts: what the members of a shared kernel read as slices of one tensor.
//
// Members lie side by side in arenas (coalesce.ts); member i begins at element t_i there, and its slice at element s_i of the
// source. If s_i - t_i is one number, element x of the arenas reads the source at x + s_0 - t_0, and nothing is to be done.
// Otherwise the difference is looked up: x + least + table[floor(x / 64)], with an entry for each block of 64 elements, because
// members begin at such blocks.
import { arenaAlignment } from "../device/device.ts";
import { createNode, type Node } from "../node.ts";
import { addIndex, constantIndex, divideIndex, type Index, valueIndex, variableIndex } from "./affine.ts";
import type { LoopKernel, Store, Value } from "./kernel.ts";
import { loadValue } from "./values.ts";

/** How far each block of an arena lies from its slice of a source. */
export interface Window {
  /** The table as a node of a plan, u32 [blocks], and its values. */
  readonly table: Node;
  readonly values: Uint32Array;
  /** What is to be added to the table's entry and to where the first member reads. */
  readonly least: number;
}

/** Where a member's slice begins, and the member itself in the arenas, in elements; the first one begins at 0. */
export interface Slice {
  readonly from: number;
  readonly to: number;
}

/** The window of these slices in order; undefined where they lie in the source as in the arenas of `extent` elements. */
export function windowOf(slices: readonly Slice[], extent: number, device: Node["device"]): Window | undefined {
  const distances = slices.map(({ from, to }) => from - to);
  const least = Math.min(...distances);
  if (distances.every((d) => d === least)) return undefined;
  const values = new Uint32Array(extent / arenaAlignment);
  slices.forEach(({ to }, i) => {
    const end = slices[i + 1]?.to ?? extent;
    values.fill(distances[i]! - least, to / arenaAlignment, end / arenaAlignment);
  });
  const table = createNode({ kind: "concat", axis: 0 }, [], [values.length], "u32", device);
  return { table, values, least: least - distances[0]! };
}

/** A kernel over whole arenas, with its loads through windows looked up: by the load's id, the window and its table's binding. */
export function lookUp(
  kernel: LoopKernel,
  windows: ReadonlyMap<number, { readonly window: Window; readonly binding: number }>,
): LoopKernel {
  if (windows.size === 0) return kernel;
  const block = divideIndex(variableIndex(0, kernel.shape[0]!), arenaAlignment);
  const known = new Map<number, Value<number>>();
  const moved = (index: Index, window: Window, binding: number): Index => {
    const entry = loadValue(binding, block, "u32");
    const size = Math.max(...window.values) + 1;
    return addIndex(addIndex(index, constantIndex(window.least)), valueIndex(entry, size));
  };
  const value = (v: Value<number>): Value<number> => {
    const found = windows.get(v.id);
    if (!found && v.kind !== "op") return v;
    let made = known.get(v.id);
    if (!made) {
      if (v.kind === "op") made = { ...v, args: v.args.map(value) };
      else if (v.kind === "load" && found) made = { ...v, index: moved(v.index, found.window, found.binding) };
      else made = v;
      known.set(v.id, made);
    }
    return made;
  };
  const stores = kernel.stores.map((s): Store<number> => ({ ...s, value: value(s.value) }));
  return { ...kernel, stores };
}
