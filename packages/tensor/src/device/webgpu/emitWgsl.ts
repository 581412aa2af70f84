// device/webgpu/emitWgsl.ts: kernels of the compiler as WGSL programs.
import type { FusedKernel, KernelSpec } from "../../compiler/kernel.ts";
import { emitFused } from "./emitFused.ts";
import { emitLoop } from "./emitLoop.ts";
import { emitMatmul } from "./emitMatmul.ts";
import type { WebGpuFusedKernel } from "./fused.ts";
import type { Program, Target } from "./program.ts";

/** A kernel as WGSL. Pure: equal kernels and targets give equal text. `chooseFused` asks a fused op for its kernel. */
export function emitWgsl(
  kernel: KernelSpec,
  target: Target,
  chooseFused: (kernel: FusedKernel) => WebGpuFusedKernel | undefined,
): Program {
  switch (kernel.kind) {
    case "loop":
      return emitLoop(kernel, target);
    case "matmul":
      return emitMatmul(kernel, target);
    case "fused":
      return emitFused(kernel, chooseFused(kernel));
  }
}
