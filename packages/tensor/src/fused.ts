// fused.ts: ops that have a meaning in plain ops and, per device, an optional kernel.
import type { CpuFusedKernel } from "./device/cpu/fused.ts";
import type { Device } from "./device/device.ts";
import type { WebGpuFusedKernel } from "./device/webgpu/fused.ts";
import type { DType } from "./dtype.ts";
import { createNode } from "./node.ts";
import type { Shape } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** Shape and dtype of a fused op's input or output. */
export interface TensorSpec {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** What a gradient rule of a fused op is given. */
export interface FusedVjpContext<P> {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** One for each output, undefined where nothing flows back. */
  readonly cotangents: readonly (Tensor | undefined)[];
  readonly params: P;
}

/**
 * A fused op. `reference` is its documentation, its oracle in tests, its gradient unless `vjp` brings a better one, and what
 * a device without a kernel runs. `params` must be plain JSON data: it is part of the structure of the graph.
 */
export interface FusedOp<P> {
  readonly name: string;
  /** Shape rule: throws ShapeError or DTypeError at the call. */
  readonly outputs: (inputs: readonly TensorSpec[], params: P) => readonly TensorSpec[];
  /** The meaning, in plain ops. */
  readonly reference: (inputs: readonly Tensor[], params: P) => readonly Tensor[];
  /** Gradient of each input (undefined for none); defaults to the gradient of `reference`. */
  readonly vjp?: (context: FusedVjpContext<P>) => readonly (Tensor | undefined)[];
  /** Floating-point operations for the given shapes, for `explain`; default 0, not known. */
  readonly flops?: (inputs: readonly TensorSpec[], params: P) => number;
  /** Chooses a kernel for the given shapes, or undefined: then the reference runs. */
  readonly cpu?: (inputs: readonly TensorSpec[], params: P, device: Device) => CpuFusedKernel | undefined;
  /** As `cpu`, for WebGPU devices. */
  readonly webgpu?: (inputs: readonly TensorSpec[], params: P, device: Device) => WebGpuFusedKernel | undefined;
}

/**
 * Turns a fused-op description into a function from tensors to its outputs.
 *
 * @example
 * const [y] = defineFused({ name: "double", outputs: ([x]) => [x], reference: ([x]) => [add(x, x)] })([x], {});
 */
export function defineFused<P>(op: FusedOp<P>): (inputs: readonly Tensor[], params: P) => Tensor[] {
  return (inputs, params) => {
    const outputs = op.outputs(inputs, params);
    const nodes = inputs.map((t) => t.node);
    const first = outputs[0] as TensorSpec;
    const fused = createNode(
      { kind: "fused", op: op as FusedOp<unknown>, params, outputs },
      nodes,
      first.shape,
      first.dtype,
    );
    return outputs.map(
      (spec, output) => new Tensor(createNode({ kind: "pick", output }, [fused], spec.shape, spec.dtype)),
    );
  };
}
