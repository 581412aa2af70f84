// device/webgpu/matmul/tiles.ts: the shapes of patch that a GPU's products are computed by, as data: `bench sweep` times them all.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import type { Patch } from "./patch.ts";
import type { Tile } from "./tiled.ts";

const patch = (rows: number, columns: number, threadRows: number, threadColumns: number): Patch => ({
  rows,
  columns,
  threadRows,
  threadColumns,
});
const tile = (rows: number, columns: number, depth: number, threadRows: number, threadColumns: number): Tile => ({
  ...patch(rows, columns, threadRows, threadColumns),
  depth,
});

/** Tiles in workgroup memory: rows x columns x depth of a workgroup's tile, then a thread's rows x columns. */
export type TileName =
  | "256x128x8/8x16"
  | "128x128x16/8x16"
  | "128x128x16/8x8"
  | "128x128x8/8x8"
  | "128x64x16/8x8"
  | "64x128x16/8x8"
  | "128x64x16/8x4"
  | "64x64x16/8x8"
  | "64x64x16/8x4"
  | "64x64x16/4x4"
  | "32x32x16/4x4";

/** Patches without workgroup memory: rows x columns of a workgroup's, then a thread's. */
export type PatchName = "direct 128x128/8x8" | "direct 64x128/4x8" | "direct 64x64/8x8" | "direct 64x64/4x4";

/** Memory is at most 16 KiB, and threads are at most 256: what every device grants. */
export const tiles: Readonly<Record<TileName, Tile>> = {
  "256x128x8/8x16": tile(256, 128, 8, 8, 16),
  "128x128x16/8x16": tile(128, 128, 16, 8, 16),
  "128x128x16/8x8": tile(128, 128, 16, 8, 8),
  "128x128x8/8x8": tile(128, 128, 8, 8, 8),
  "128x64x16/8x8": tile(128, 64, 16, 8, 8),
  "64x128x16/8x8": tile(64, 128, 16, 8, 8),
  "128x64x16/8x4": tile(128, 64, 16, 8, 4),
  "64x64x16/8x8": tile(64, 64, 16, 8, 8),
  "64x64x16/8x4": tile(64, 64, 16, 8, 4),
  "64x64x16/4x4": tile(64, 64, 16, 4, 4),
  "32x32x16/4x4": tile(32, 32, 16, 4, 4),
};

export const patches: Readonly<Record<PatchName, Patch>> = {
  "direct 128x128/8x8": patch(128, 128, 8, 8),
  "direct 64x128/4x8": patch(64, 128, 4, 8),
  "direct 64x64/8x8": patch(64, 64, 8, 8),
  "direct 64x64/4x4": patch(64, 64, 4, 4),
};

/** A tile, and in how many slices k is cut. */
export interface TileChoice {
  readonly variant: TileName;
  readonly slices: number;
}

/** Workgroups that fill a large GPU: an H200 has 132 multiprocessors. A constant: plans must not depend on the adapter. */
const busy = 128;

// The largest tile that still makes enough workgroups: reuse grows with a tile's sides, and so does what an idle processor costs.
const classes: readonly (readonly [TileName, workgroups: number])[] = [
  ["128x128x16/8x8", 2 * busy],
  ["128x64x16/8x8", 2 * busy],
  ["64x64x16/8x4", busy],
];

/** Chooses by shape alone: the choice decides the order of additions. */
export function chooseTile({ batch, m, n, k, symmetric }: MatmulKernel): TileChoice {
  const workgroups = (name: TileName): number => {
    const { rows, columns } = tiles[name];
    const all = Math.ceil(m / rows) * Math.ceil(n / columns) * sizeOf(batch);
    return symmetric ? Math.ceil(all / 2) : all;
  };
  for (const [variant, least] of classes) if (workgroups(variant) >= least) return { variant, slices: 1 };
  // too few elements for a busy GPU: slices of k, each at least 128 long
  const small = "32x32x16/4x4";
  const slices = Math.min(Math.ceil((2 * busy) / workgroups(small)), Math.floor(k / 128), 32);
  return { variant: small, slices: Math.max(1, slices) };
}
