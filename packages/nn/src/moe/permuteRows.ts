// moe/permuteRows.ts: rows in another order.
import { DTypeError, defineFused, ShapeError, type Tensor, take } from "@mc/tensor";
import { formatShape } from "../check.ts";

// y[p] = x[index[p]]:  dx[n] = dy[inverse[n]], a gather and no scatter
const permuteOp: (inputs: readonly Tensor[], params: null) => Tensor[] = defineFused<null>({
  name: "permuteRows",
  outputs: ([x]) => [x!],
  reference: ([x, index]) => [take(x!, index!)],
  vjp: ({ inputs: [, index, inverse], cotangents: [dy] }) => [dy && permuteOp([dy, inverse!, index!], null)[0]],
});

/**
 * `y[p] = x[index[p]]` for a permutation `index` of the rows whose inverse is known: the gradient reads rows as well, where
 * that of `take` would add them up.
 *
 * @param x - [M, ...], any dtype
 * @param index - i32 [M], each row once
 * @param inverse - i32 [M]: `index[inverse[n]] = n`
 * @throws ShapeError or DTypeError if the operands do not belong together
 * @example
 * const index = tensor([2, 0, 1], { dtype: "i32" });
 * permuteRows(tensor([[10], [20], [30]]), index, tensor([1, 2, 0], { dtype: "i32" })); // [[30], [10], [20]]
 */
export function permuteRows(x: Tensor, index: Tensor, inverse: Tensor): Tensor {
  for (const [name, t] of Object.entries({ index, inverse })) {
    if (t.dtype !== "i32") throw new DTypeError(`permuteRows: ${name} must be i32, got ${t.dtype}`);
    if (t.ndim !== 1 || t.size !== x.shape[0])
      throw new ShapeError(
        `permuteRows: ${name} must have one entry for each row, got shape ${formatShape(t.shape)} for x ${formatShape(x.shape)}`,
      );
  }
  return permuteOp([x, index, inverse], null)[0]!;
}
