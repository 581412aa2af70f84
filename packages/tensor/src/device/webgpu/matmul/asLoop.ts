// device/webgpu/matmul/asLoop.ts: a matrix product as a plain reduction: what it means, and the kernel for matrix-vector
// shapes, where there is nothing for tiles to share.
import { addIndex, constantIndex, type Index, scaleIndex, variableIndex } from "../../../compiler/affine.ts";
import { collapse } from "../../../compiler/collapse.ts";
import type { LoopKernel, MatmulKernel, MatrixOperand, Value } from "../../../compiler/kernel.ts";

/** C[batch..., i, j] = sum over k of A[batch..., i, k] B[batch..., k, j]; variables (batch..., i, j), then k. */
export function matmulAsLoop(kernel: MatmulKernel): LoopKernel {
  const { label, batch, m, n, k, a, b, stores, bindings } = kernel;
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
  const args = [load(-1, a, row, inner), load(-2, b, inner, column)];
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
