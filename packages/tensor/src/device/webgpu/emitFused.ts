// device/webgpu/emitFused.ts: a fused op's own WGSL, with the storage declarations it expects.
import type { FusedKernel, FusedOperand } from "../../compiler/kernel.ts";
import { invariant } from "../../errors.ts";
import type { WebGpuFusedKernel, WgslOperand } from "./fused.ts";
import { accessOf, bindingCode, moduleCode, type Program } from "./program.ts";

const operand = ({ binding, offset, strides, shape }: FusedOperand): WgslOperand => ({
  name: `b${binding}`,
  offset,
  strides,
  shape,
});

/** A fused kernel as a program, given the kernel that its op chose. */
export function emitFused(kernel: FusedKernel, chosen: WebGpuFusedKernel | undefined): Program {
  const { label, bindings } = kernel;
  invariant(chosen, `fused op ${kernel.op.name} has no WebGPU kernel for these shapes`);
  const scratch = chosen.scratch ?? [];
  const names = scratch.map((_, i) => `scratch${i}`);
  const scratchCode = names
    .map((name, i) => `@group(0) @binding(${bindings.length + i}) var<storage, read_write> ${name}: array<f32>;\n`)
    .join("");
  const functions = chosen.wgsl(kernel.inputs.map(operand), kernel.outputs.map(operand), names);
  return {
    label,
    variant: chosen.variant ? `fused ${chosen.variant}` : "fused",
    code: moduleCode(bindingCode(bindings) + scratchCode, functions),
    passes: chosen.passes.filter((p) => p.workgroups.every((n) => n > 0)),
    access: [...accessOf(bindings), ...scratch.map(() => "write" as const)],
    scratch,
  };
}
