// device/webgpu/matmul/tensorTiles.ts: which products run on a matrix unit, and how.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import type { TensorPlan, TensorTile } from "./tensorCore.ts";

/** Tiles to choose from, by name. Blocks of 64 x 64 are the most that 128 registers of sums hold for 32 invocations. */
export const tensorTiles = {
  large: { rows: 128, columns: 128, depth: 32, down: 2, across: 2, band: 8 },
  medium: { rows: 128, columns: 64, depth: 32, down: 2, across: 2, band: 8 },
  small: { rows: 64, columns: 64, depth: 32, down: 2, across: 2, band: 8 },
} as const satisfies Record<string, TensorTile>;

/** Workgroups that keep a large GPU busy: an H200 has 132 multiprocessors. A constant: plans must not depend on the adapter. */
const busy = 128;

/** Below this size a side or k would mostly be padding: such products stay in f32. */
const leastSize = 16;

/** Products of fewer multiplications take as long as a pass that packs their operands. */
const packWork = 2 ** 31;

/**
 * A packed element costs 6 bytes more of memory traffic, once, and saves 2 bytes (and all care for edges) in each tile that
 * reads it: worth it from about this many tiles on.
 */
const packReaders = 8;

/** Most bytes of packed operands: scratch memory stays with the device. */
const packBytes = 2 ** 28;

/** How a product runs on a matrix unit, by shape alone; undefined for shapes that gain nothing there: those stay in f32. */
export function chooseTensorPlan({ batch, m, n, k }: MatmulKernel): TensorPlan | undefined {
  if (Math.min(m, n, k) < leastSize) return undefined;
  const entries = sizeOf(batch);
  const count = ({ rows, columns }: TensorTile): number => Math.ceil(m / rows) * Math.ceil(n / columns) * entries;
  const { large, medium, small } = tensorTiles;
  const tile = [large, medium].find((t) => count(t) >= busy) ?? small;
  const slices = Math.max(1, Math.min(Math.ceil(busy / count(tile)), Math.floor(k / (8 * tile.depth)), 32));
  const worth = (outer: number, readers: number): boolean =>
    m * n * k * entries >= packWork && readers >= packReaders && 2 * outer * k * entries <= packBytes;
  const packed: ("A" | "B")[] = [];
  if (worth(m, Math.ceil(n / tile.columns))) packed.push("A");
  if (worth(n, Math.ceil(m / tile.rows))) packed.push("B");
  return { tile, slices, packed };
}
