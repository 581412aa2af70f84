// device/webgpu/emitMatmul.ts: which kernel multiplies matrices of which shape.
import type { MatmulKernel } from "../../compiler/kernel.ts";
import { emitLoop } from "./emitLoop.ts";
import { matmulAsLoop } from "./matmul/asLoop.ts";
import type { Program, Target } from "./program.ts";

export function emitMatmul(kernel: MatmulKernel, target: Target): Program {
  return emitLoop(matmulAsLoop(kernel), { ...target, variants: { reduce: "thread" } });
}
