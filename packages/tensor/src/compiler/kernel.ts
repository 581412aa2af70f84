// compiler/kernel.ts: what the scheduler hands to a device: loops over values, matrix products, fused ops. Buffers are
// bindings 0..n-1; all shapes, offsets and strides are constants.
import type { DType, StoredType } from "../dtype.ts";
import type { FusedOp, TensorSpec } from "../fused.ts";
import type { MatmulTraits, ReduceKind } from "../node.ts";
import type { ScalarOp } from "../scalar.ts";
import type { Index } from "./affine.ts";

/** A value of one loop iteration. Values are shared by identity: emit each `id` once. `S` names a buffer: a binding number in a KernelSpec. */
export type Value<S = unknown> =
  /** Element `index` of a buffer. Where `mask` is false the index may lie outside: the load must not happen and any value will do. */
  | {
      readonly kind: "load";
      readonly id: number;
      readonly dtype: DType;
      readonly source: S;
      readonly index: Index;
      readonly mask: Value<S> | undefined;
    }
  | { readonly kind: "constant"; readonly id: number; readonly dtype: DType; readonly value: number }
  /** The index itself, as an i32 (iota). */
  | { readonly kind: "index"; readonly id: number; readonly dtype: "i32"; readonly index: Index }
  | {
      readonly kind: "op";
      readonly id: number;
      readonly dtype: DType;
      readonly op: ScalarOp;
      readonly args: readonly Value<S>[];
    }
  /** Result of the kernel's reduction `reduce`, or the product's element in a matmul's epilogue (reduce 0). */
  | { readonly kind: "result"; readonly id: number; readonly dtype: DType; readonly reduce: number };

/** A reduction of `value` over variables `firstVariable ..` with sizes `shape`, for one point of the kernel's space. */
export interface Reduction<S = unknown> {
  /** "argmax": position (row-major over `shape`) of the largest value, the first among equals, NaN counting as largest; i32. */
  readonly reduce: ReduceKind;
  readonly firstVariable: number;
  readonly shape: readonly number[];
  readonly value: Value<S>;
}

export interface Store<S = unknown> {
  readonly target: S;
  readonly index: Index;
  readonly value: Value<S>;
}

/** How a kernel touches a buffer. One binding per buffer: "readwrite" where the kernel updates in place. */
export interface Binding {
  readonly dtype: StoredType;
  /** Elements in the buffer. */
  readonly size: number;
  readonly access: "read" | "write" | "readwrite";
}

/**
 * Stores at each element of `shape` (variables firstVariable ..) beside a point: what is computed for the elements of a row from
 * reductions over it, as in a norm or a softmax. One element is computed, then stored, at a time.
 */
export interface Spread<S = unknown> {
  readonly firstVariable: number;
  readonly shape: readonly number[];
  readonly stores: readonly Store<S>[];
}

/**
 * For each point of `shape` (variables 0..rank-1): run the reductions in order (each may use results of earlier ones), then
 * compute the value of *all* stores, then store. That order makes updates in place safe. Then `spread`: it may
 * overwrite an element of the point's own row that the reductions have read and nothing but its own value reads again.
 */
export interface LoopKernel {
  readonly kind: "loop";
  readonly label: string;
  readonly shape: readonly number[];
  readonly reductions: readonly Reduction<number>[];
  readonly stores: readonly Store<number>[];
  readonly spread?: Spread<number>;
  readonly bindings: readonly Binding[];
}

/** A matrix operand: element (batch..., row, column) at `offset + sum(batch_i*batchStrides_i) + row*rowStride + column*columnStride`. */
export interface MatrixOperand {
  readonly binding: number;
  readonly offset: number;
  readonly batchStrides: readonly number[];
  readonly rowStride: number;
  readonly columnStride: number;
}

/**
 * C = A B per batch entry, A [m, k], B [k, n], f32. The product's element is `result 0` in the stores, whose index and
 * loads use variables (batch..., row, column); a plain matmul has one store of that value. A symmetric product has m = n, and
 * elements (i, j) and (j, i) get the same bits: those of the one on or above the diagonal.
 */
export interface MatmulKernel extends MatmulTraits {
  readonly kind: "matmul";
  readonly label: string;
  readonly batch: readonly number[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: MatrixOperand;
  readonly b: MatrixOperand;
  readonly stores: readonly Store<number>[];
  readonly bindings: readonly Binding[];
}

/** Where a fused op's operand lies. */
export interface FusedOperand {
  readonly binding: number;
  readonly offset: number;
  readonly strides: readonly number[];
  readonly shape: readonly number[];
}

export interface FusedKernel {
  readonly kind: "fused";
  readonly label: string;
  readonly op: FusedOp<unknown>;
  readonly params: unknown;
  readonly inputSpecs: readonly TensorSpec[];
  readonly inputs: readonly FusedOperand[];
  readonly outputs: readonly FusedOperand[];
  readonly bindings: readonly Binding[];
}

export type KernelSpec = LoopKernel | MatmulKernel | FusedKernel;
