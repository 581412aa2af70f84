// device/cpu/fused.ts: what a fused op's CPU kernel looks like.
import type { TypedArray } from "../../dtype.ts";

/** A strided operand: element (i, j, ...) lies at `data[offset + i*strides[0] + j*strides[1] + ...]`. */
export interface CpuOperand {
  readonly data: TypedArray;
  readonly offset: number;
  readonly strides: readonly number[];
  readonly shape: readonly number[];
}

/**
 * A fused op's kernel on the CPU. Inputs are strided unless `contiguous` (then the scheduler copies where it must);
 * outputs are contiguous, row-major, not zeroed.
 */
export interface CpuFusedKernel {
  readonly contiguous?: boolean;
  /** Computes the outputs from the inputs. */
  readonly run: (inputs: readonly CpuOperand[], outputs: readonly CpuOperand[]) => void;
}
