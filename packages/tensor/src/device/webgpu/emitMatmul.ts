// device/webgpu/emitMatmul.ts: which kernel multiplies matrices of which shape.
import type { MatmulKernel } from "../../compiler/kernel.ts";
import { sizeOf } from "../../shape.ts";
import { emitLoop } from "./emitLoop.ts";
import { matmulAsLoop } from "./matmul/asLoop.ts";
import { emitBlockMatmul } from "./matmul/block.ts";
import { emitTensorMatmul, planText, type TensorPlan } from "./matmul/tensorCore.ts";
import { chooseTensorPlan } from "./matmul/tensorTiles.ts";
import { emitTiledMatmul, type Tile } from "./matmul/tiled.ts";
import type { MatmulVariant, Program, Target } from "./program.ts";

/** Tiles by variant. Workgroup memory stays below 16 KiB and threads at or below 256: what every device grants. */
const tiles = {
  "tiled-large": { rows: 128, columns: 64, depth: 16, threadRows: 8, threadColumns: 8 },
  tiled: { rows: 64, columns: 64, depth: 16, threadRows: 4, threadColumns: 4 },
  "tiled-small": { rows: 32, columns: 32, depth: 16, threadRows: 4, threadColumns: 4 },
} as const satisfies Record<string, Tile>;

/** Workgroups that keep a large GPU busy: an H200 has 132 multiprocessors. A constant: plans must not depend on the adapter. */
const busy = 128;

/** How a product is computed: a variant, and in how many slices of k. */
export interface MatmulChoice {
  readonly variant: MatmulVariant | "tensor";
  readonly slices: number;
  /** Of the variant "tensor". */
  readonly tensor?: TensorPlan;
}

/** Chooses by class of device and shape alone, because the choice decides the order of additions. */
export function chooseMatmul(kernel: MatmulKernel, { software, variants, matrixUnit }: Target): MatmulChoice {
  const { batch, m, n, k } = kernel;
  const entries = sizeOf(batch);
  const tileCount = ({ rows, columns }: Tile): number => Math.ceil(m / rows) * Math.ceil(n / columns) * entries;
  const slicesFor = (tile: Tile): number =>
    Math.max(1, Math.min(Math.ceil((2 * busy) / tileCount(tile)), Math.floor(k / 128), 32));
  if (k === 0) return { variant: "naive", slices: 1 };
  const tensor =
    matrixUnit && kernel.precision === "default" ? (variants.tensor ?? chooseTensorPlan(kernel)) : undefined;
  if (tensor) return { variant: "tensor", slices: tensor.slices, tensor };
  if (variants.matmul === "tiled-split")
    return { variant: "tiled-split", slices: Math.max(2, Math.min(4, Math.floor(k / 16))) };
  if (variants.matmul) return { variant: variants.matmul, slices: 1 };
  if (software) return { variant: m * n >= 16 ? "block" : "naive", slices: 1 };
  if (Math.min(m, n) < 8) return { variant: "vector", slices: 1 };
  if (tileCount(tiles["tiled-large"]) >= 2 * busy) return { variant: "tiled-large", slices: 1 };
  if (tileCount(tiles.tiled) >= busy) return { variant: "tiled", slices: 1 };
  const slices = slicesFor(tiles["tiled-small"]);
  return slices > 1 ? { variant: "tiled-split", slices } : { variant: "tiled-small", slices: 1 };
}

/** A matrix product as a program. */
export function emitMatmul(kernel: MatmulKernel, target: Target): Program {
  const choice = chooseMatmul(kernel, target);
  if (kernel.m === 0 || kernel.n === 0 || sizeOf(kernel.batch) === 0) return emitLoop(matmulAsLoop(kernel), target);
  const name = choice.tensor ? `tensor ${planText(choice.tensor)}` : choice.variant;
  return { ...emitChosen(kernel, choice, target), variant: `matmul ${name}` };
}

function emitChosen(
  kernel: MatmulKernel,
  { variant, slices, tensor }: MatmulChoice,
  target: Target,
): Omit<Program, "variant"> {
  switch (variant) {
    case "tensor":
      return emitTensorMatmul(kernel, target.matrixUnit!, tensor!);
    case "naive":
      return emitLoop(matmulAsLoop(kernel), { ...target, variants: { reduce: "thread" } });
    case "vector":
      return emitLoop(matmulAsLoop(kernel), {
        ...target,
        variants: { reduce: kernel.k >= 32 ? "workgroup" : "thread" },
      });
    case "block":
      return emitBlockMatmul(kernel, 4, 4);
    case "tiled-split":
      return emitTiledMatmul(kernel, tiles["tiled-small"], slices);
    default:
      return emitTiledMatmul(kernel, tiles[variant]);
  }
}
