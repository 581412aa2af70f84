// device/webgpu/matmul/tiles.ts: the tiles that a GPU's f32 products are computed by, as data, and which of them serves which shape.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import type { Tile } from "./tile.ts";

/** Rows x columns x depth of a workgroup's tile, then a thread's rows x columns. */
export type TileName = "128x128x16/8x16" | "64x64x16/8x8" | "32x32x16/4x4";

const tile = (rows: number, columns: number, threadRows: number, threadColumns: number): Tile => ({
  rows,
  columns,
  threadRows,
  threadColumns,
});

/** Workgroup memory is at most 16 KiB, and threads are at most 256: what every device grants. */
export const tiles: Readonly<Record<TileName, Tile>> = {
  "128x128x16/8x16": tile(128, 128, 8, 16),
  "64x64x16/8x8": tile(64, 64, 8, 8),
  "32x32x16/4x4": tile(32, 32, 4, 4),
};

/** A tile, and in how many slices k is cut. */
export interface TileChoice {
  readonly variant: TileName;
  readonly slices: number;
}

/** Multiprocessors of a large GPU, an H200. A constant, because plans must not depend on the adapter. */
const processors = 132;

/** Tiles for products that keep a large GPU busy. */
interface Class {
  readonly variant: TileName;
  /** Fewest workgroups that it pays for. */
  readonly least: number;
  /** Workgroups that run at once: their registers decide. */
  readonly slots: number;
  /** TFLOP/s where all slots are taken, measured on an H200. */
  readonly rate: number;
}

const classes: readonly Class[] = [
  { variant: "128x128x16/8x16", least: 256, slots: 2 * processors, rate: 43 },
  { variant: "64x64x16/8x8", least: 256, slots: 6 * processors, rate: 38 },
];

/** Workgroups that slices of k are to make. */
const wanted = 1024;

/** Chooses by shape alone: the choice decides the order of additions. */
export function chooseTile({ batch, m, n, k, symmetric }: MatmulKernel): TileChoice {
  const workgroups = (name: TileName): number => {
    const { rows, columns } = tiles[name];
    const all = Math.ceil(m / rows) * Math.ceil(n / columns) * sizeOf(batch);
    return symmetric ? Math.ceil(all / 2) : all;
  };
  // the last round of workgroups leaves processors idle, unless it is full
  const speed = ({ variant, slots, rate }: Class): number => {
    const rounds = Math.max(1, workgroups(variant) / slots);
    return (rate * rounds) / Math.ceil(rounds);
  };
  const [best] = classes.filter((c) => workgroups(c.variant) >= c.least).sort((a, b) => speed(b) - speed(a));
  if (best) return { variant: best.variant, slices: 1 };
  // too few elements: slices of k, long ones of larger tiles if those make enough workgroups
  const sliced = (variant: TileName, shortest: number): TileChoice => {
    const slices = Math.min(Math.ceil(wanted / workgroups(variant)), Math.floor(k / shortest));
    return { variant, slices: Math.max(1, slices) };
  };
  const medium = sliced("64x64x16/8x8", 512);
  return workgroups(medium.variant) * medium.slices >= processors ? medium : sliced("32x32x16/4x4", 128);
}
