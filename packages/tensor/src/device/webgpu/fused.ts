// device/webgpu/fused.ts: what a fused op's WGSL kernel looks like.

/** Where an input or output lies in its buffer: element (i, j, ...) at `offset + i*strides[0] + ...`, in elements. */
export interface WgslOperand {
  /** Name of the storage array in the generated module, e.g. `b0`. Aliased operands share one name. */
  readonly name: string;
  readonly offset: number;
  readonly strides: readonly number[];
  readonly shape: readonly number[];
}

/**
 * A fused op's kernel on WebGPU: one WGSL module, one or more passes over the same bindings.
 * `wgsl` writes everything but the storage declarations, given where the operands lie (all offsets and strides are constants);
 * entry points are named by `passes`. Helpers `mc_max`, `mc_min`, `mc_isNaN`, `mc_erf`, `mc_tanh`, `mc_pow`, `mc_infinity()`, `mc_nan()` may be used.
 */
export interface WebGpuFusedKernel {
  /** Name of this kernel among the op's own, for `explain`: "tiles", "rows". */
  readonly variant?: string;
  readonly contiguous?: boolean;
  /** Scratch buffers of this many f32 elements each, bound after the outputs as `scratch0`, ... */
  readonly scratch?: readonly number[];
  /** The module without its storage declarations. */
  readonly wgsl: (
    inputs: readonly WgslOperand[],
    outputs: readonly WgslOperand[],
    scratch: readonly string[],
  ) => string;
  readonly passes: readonly { readonly entry: string; readonly workgroups: readonly [number, number, number] }[];
}
