// device/webgpu/matmul/tiles.ts: the tiles that a GPU's f32 products are computed by, as data, and which of them serves which shape.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { quickest, type Speed } from "./expected.ts";
import type { Tile } from "./tile.ts";
import { tiledBytes } from "./tiled.ts";

/** Rows x columns x depth of a workgroup's tile, then a thread's rows x columns. */
export type TileName = "128x128x16/8x16" | "64x64x16/8x8" | "32x32x16/4x4";

const tile = (rows: number, columns: number, threadRows: number, threadColumns: number): Tile => ({
  rows,
  columns,
  threadRows,
  threadColumns,
});

/** Threads are at most 256, as on every device. The largest tile takes 256 bytes more than the 16 KiB that every device grants. */
export const tiles: Readonly<Record<TileName, Tile>> = {
  "128x128x16/8x16": tile(128, 128, 8, 16),
  "64x64x16/8x8": tile(64, 64, 8, 8),
  "32x32x16/4x4": tile(32, 32, 4, 4),
};

/** Measured on an H200. */
const speeds: Readonly<Record<TileName, Speed>> = {
  "128x128x16/8x16": { rate: 43, enough: 1.2 },
  "64x64x16/8x8": { rate: 38, enough: 2.5 },
  "32x32x16/4x4": { rate: 27, enough: 5 },
};

/** A tile, in how many slices k is cut, and microseconds that the product takes, about. */
export interface TileChoice {
  readonly variant: TileName;
  readonly slices: number;
  readonly time: number;
}

/** Chooses by shape, among the tiles that a workgroup has memory for: slices decide the order of additions. */
export function chooseTile(kernel: MatmulKernel, workgroupBytes: number): TileChoice {
  const fitting = (Object.keys(tiles) as TileName[]).filter((name) => tiledBytes(tiles[name]) <= workgroupBytes);
  const { way, slices, time } = quickest(
    kernel,
    fitting.map((variant) => ({ variant, tile: tiles[variant], speed: speeds[variant] })),
  );
  return { variant: way.variant, slices, time };
}
