// device/webgpu/matmul/asLoop.ts: a matrix product as a plain reduction: what it means, and the kernel for matrix-vector
// shapes, where there is nothing for tiles to share.
import {
  addIndex,
  constantIndex,
  type Index,
  scaleIndex,
  valueIndex,
  variableIndex,
} from "../../../compiler/affine.ts";
import { collapse } from "../../../compiler/collapse.ts";
import type { LoopKernel, MatmulKernel, MatrixOperand, Value } from "../../../compiler/kernel.ts";

/**
 * C[batch..., i, j] = sum over k of A[batch..., i, k] B[batch..., k, j]; variables (batch..., i, j), then k.
 * Of a symmetric product, element (min(i, j), max(i, j)) is computed in both places: the same additions, the same bits.
 */
export function matmulAsLoop(kernel: MatmulKernel): LoopKernel {
  const { label, batch, m, n, k, a, b, symmetric, stores, bindings } = kernel;
  const shape = [...batch, m, n];
  const row = variableIndex(batch.length, m);
  const column = variableIndex(batch.length + 1, n);
  const inner = variableIndex(batch.length + 2, k);
  const load = (id: number, operand: MatrixOperand, i: Index, j: Index): Value<number> => {
    let index = constantIndex(operand.offset);
    batch.forEach((size, d) => {
      index = addIndex(index, scaleIndex(variableIndex(d, size), operand.batchStrides[d]!));
    });
    index = addIndex(index, addIndex(scaleIndex(i, operand.rowStride), scaleIndex(j, operand.columnStride)));
    return { kind: "load", id, dtype: "f32", source: operand.binding, index, mask: undefined };
  };
  // ids below zero: the stores' own values count from zero
  const ordered = (id: number, op: "min" | "max"): Index => {
    const position = (index: Index, at: number): Value<number> => ({ kind: "index", id: at, dtype: "i32", index });
    const args = [position(row, id - 1), position(column, id - 2)];
    return valueIndex({ kind: "op", id, dtype: "i32", op, args }, n);
  };
  const [i, j] = symmetric ? [ordered(-4, "min"), ordered(-7, "max")] : [row, column];
  const args = [load(-1, a, i, inner), load(-2, b, inner, j)];
  const value: Value<number> = { kind: "op", id: -3, dtype: "f32", op: "mul", args };
  return collapse({
    kind: "loop",
    label,
    shape,
    reductions: [{ reduce: "sum", firstVariable: batch.length + 2, shape: [k], value }],
    stores,
    bindings,
  });
}
