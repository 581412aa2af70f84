import { DTypeError, expandDims, ShapeError, type Tensor, take, tensor } from "@mc/tensor";
import { build, type Domain, domains, random, range, testOp } from "@mc/testing";
import { expect, test } from "vitest";
import { permuteRows } from "./permuteRows.ts";

/** A permutation of so many rows and its inverse. */
function permutation(n: number): [index: number[], inverse: number[]] {
  const r = random(n);
  const index = range(n);
  for (let i = n - 1; i > 0; i--) {
    const j = r.integer(0, i + 1);
    [index[i], index[j]] = [index[j]!, index[i]!];
  }
  return [index, range(n).map((i) => index.indexOf(i))];
}
const indices = (x: Tensor): [Tensor, Tensor] =>
  permutation(x.shape[0]!).map((p) => tensor(p, { dtype: "i32", device: x.device })) as [Tensor, Tensor];
const rows: readonly Domain[] = [domains.anyNumber];

testOp("permuteRows(x, index, inverse) reads row index[p] at p, and its gradient reads row inverse[n] at n", {
  op: (x) => permuteRows(x, ...indices(x)),
  inputs: rows,
  sizes: [1, 64, 65],
  reference: (x) => {
    const [index] = permutation(x.shape[0]!);
    return build(x.shape, (p, d) => x.at(index[p]!, d));
  },
  tolerance: { rtol: 0, atol: 0 },
  gradient: 2,
});

test("permuteRows says what is wrong with its arguments", () => {
  const x = tensor([[1], [2]]);
  const index = tensor([1, 0], { dtype: "i32" });
  expect(() => permuteRows(x, tensor([1, 0]), index)).toThrow(DTypeError);
  expect(() => permuteRows(x, index, take(index, tensor([0], { dtype: "i32" })))).toThrow(
    "permuteRows: inverse must have one entry for each row, got shape [1] for x [2, 1]",
  );
  expect(() => permuteRows(x, expandDims(index, 0), index)).toThrow(ShapeError);
});
