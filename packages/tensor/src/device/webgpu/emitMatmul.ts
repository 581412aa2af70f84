// device/webgpu/emitMatmul.ts: which kernel multiplies matrices of which shape.
import type { MatmulKernel } from "../../compiler/kernel.ts";
import { sizeOf } from "../../shape.ts";
import { emitLoop } from "./emitLoop.ts";
import { matmulAsLoop } from "./matmul/asLoop.ts";
import { emitBlockMatmul } from "./matmul/block.ts";
import { fewRows, ragged } from "./matmul/ragged.ts";
import { emitTensorMatmul, planText, type TensorPlan } from "./matmul/tensorCore.ts";
import { chooseTensorPlan, fitPlan } from "./matmul/tensorTiles.ts";
import { emitTiledMatmul } from "./matmul/tiled.ts";
import { chooseTile, type TileName, tiles } from "./matmul/tiles.ts";
import type { MatmulVariant, Program, Target } from "./program.ts";

/** Every variant that can be forced, `connect({ variants: { matmul: name } })`: for proofs and for timing them against each other. */
export const matmulVariants: readonly MatmulVariant[] = [
  "naive",
  "vector",
  "block",
  ...(Object.keys(tiles) as TileName[]),
];

/** How a product is computed: a variant, and in how many slices of k. */
export interface MatmulChoice {
  readonly variant: MatmulVariant | "tensor";
  readonly slices: number;
  /** Of the variant "tensor". */
  readonly tensor?: TensorPlan;
}

/** Chooses by class of device and shape, because the choice decides the order of additions. */
export function chooseMatmul(
  kernel: MatmulKernel,
  { software, workgroupBytes, variants, matrixUnit }: Target,
): MatmulChoice {
  const { m, n, k } = kernel;
  if (k === 0) return { variant: "naive", slices: 1 };
  const tensor =
    matrixUnit && kernel.precision === "default"
      ? variants.tensor
        ? fitPlan(kernel, variants.tensor)
        : chooseTensorPlan(kernel, matrixUnit, workgroupBytes)
      : undefined;
  if (tensor) return { variant: "tensor", slices: tensor.slices, tensor };
  if (variants.matmul) return { variant: variants.matmul, slices: variants.slices ?? 1 };
  if (software) return { variant: m * n >= 16 ? "block" : "naive", slices: 1 };
  if (Math.min(m, n) <= fewRows && isAlongK(kernel)) return { variant: "vector", slices: 1 };
  const { variant, slices } = chooseTile(kernel, workgroupBytes);
  return { variant, slices };
}

/**
 * Whether the larger operand of a product with few rows, or columns, lies along k, where a reduction's threads read it. If it does
 * not, slices of k in tiles read more of it at a time than so few points do.
 */
const isAlongK = ({ m, n, a, b }: MatmulKernel): boolean => (m <= n ? b.rowStride : a.columnStride) === 1;

/** The parts that a product is computed in: itself, or, where tiles compute it and leave little over, several. */
export function partsOf(kernel: MatmulKernel, target: Target): readonly MatmulKernel[] {
  const { variant } = chooseMatmul(kernel, target);
  const free = !target.software && target.variants.matmul === undefined;
  return free && variant in tiles ? ragged(kernel, target.workgroupBytes) : [kernel];
}

/** A matrix product as a program. */
export function emitMatmul(kernel: MatmulKernel, target: Target): Program {
  const choice = chooseMatmul(kernel, target);
  if (kernel.m === 0 || kernel.n === 0 || sizeOf(kernel.batch) === 0) return emitLoop(matmulAsLoop(kernel), target);
  return { ...emitChosen(kernel, choice, target), variant: `matmul ${choiceText(choice)}` };
}

const choiceText = ({ variant, slices, tensor }: MatmulChoice): string =>
  tensor ? `tensor ${planText(tensor)}` : slices > 1 ? `${variant}, ${slices} slices` : variant;

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
      return emitBlockMatmul(kernel);
    default:
      return emitTiledMatmul(kernel, tiles[variant], slices);
  }
}
