// device/webgpu/matmul/tensorTiles.ts: which products run on a matrix unit, and how.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { packTime, quickest, type Speed } from "./expected.ts";
import type { MatrixUnit } from "./matrixUnit.ts";
import { type TensorPlan, type TensorTile, workgroupBytesOf } from "./tensorCore.ts";

/** A tile for products on a matrix unit, and how fast it is. */
export interface TensorKind extends Speed {
  readonly tile: TensorTile;
  /** Whether a pass before rounds both sides; else they are rounded on the way in. */
  readonly packed: boolean;
}

/** Kinds to choose from, measured on an H200. Blocks of 64 x 64 are the most that 128 registers of sums hold for 32 invocations. */
export const tensorKinds: readonly TensorKind[] = [
  { tile: { rows: 128, columns: 256, depth: 32, down: 2, across: 4, band: 16 }, packed: true, rate: 240, enough: 1 },
  // equal sides: of X X^T they are packed once
  { tile: { rows: 128, columns: 128, depth: 16, down: 2, across: 2, band: 8 }, packed: true, rate: 165, enough: 2 },
  { tile: { rows: 128, columns: 128, depth: 32, down: 2, across: 4, band: 8 }, packed: false, rate: 115, enough: 1 },
  { tile: { rows: 64, columns: 64, depth: 32, down: 2, across: 2, band: 8 }, packed: false, rate: 95, enough: 2 },
];

/** Below this size a side or k would mostly be padding: such products stay in f32. */
export const leastSize = 16;

/** Most bytes of packed operands: scratch memory stays with the device. */
const packBytes = 2 ** 30;

/** The kinds that a workgroup on this unit has memory and subgroups for. */
export const kindsFor = (unit: MatrixUnit, workgroupBytes: number): readonly TensorKind[] =>
  tensorKinds.filter(
    ({ tile }) => workgroupBytesOf(unit, tile) <= workgroupBytes && tile.down * tile.across <= unit.subgroups,
  );

/** How a product runs on a matrix unit, by its shape; undefined for shapes that gain nothing there: those stay in f32. */
export function chooseTensorPlan(
  kernel: MatmulKernel,
  unit: MatrixUnit,
  workgroupBytes: number,
): TensorPlan | undefined {
  const { batch, m, n, k, a, b } = kernel;
  if (Math.min(m, n, k) < leastSize) return undefined;
  const unpacked = inF32(kernel);
  // elements of one side: entries of a batch that share it pack it once
  const elements = (outer: number, strides: readonly number[]): number =>
    outer * k * sizeOf(batch.filter((_, d) => strides[d] !== 0));
  const ofA = unpacked.includes("A") ? elements(m, a.batchStrides) : 0;
  const ofB = unpacked.includes("B") ? elements(n, b.batchStrides) : 0;
  const candidates = kindsFor(unit, workgroupBytes)
    .filter(({ packed }) => !packed || 2 * (ofA + ofB) <= packBytes)
    .map((kind) => {
      const { tile, packed } = kind;
      // a symmetric product is that of a matrix with itself, as it is or transposed
      const once = kernel.symmetric && tile.rows === tile.columns && a.binding === b.binding;
      const before = packed ? packTime(once ? ofA : ofA + ofB) : 0;
      return { tile, packed, speed: kind, before };
    });
  const { way, slices } = quickest(kernel, candidates);
  return { tile: way.tile, slices, packed: way.packed ? unpacked : [] };
}

/** A plan for this product: what is stored in f16 is not packed. */
export function fitPlan(kernel: MatmulKernel, plan: TensorPlan): TensorPlan {
  const unpacked = inF32(kernel);
  return { ...plan, packed: plan.packed.filter((side) => unpacked.includes(side)) };
}

/** The sides of a product that are stored in f32. */
const inF32 = ({ a, b, bindings }: MatmulKernel): ("A" | "B")[] =>
  (["A", "B"] as const).filter((side) => bindings[(side === "A" ? a : b).binding]!.dtype === "f32");
