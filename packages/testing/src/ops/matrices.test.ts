import * as t from "@mc/tensor";
import { expect, test } from "vitest";
import { testDevice } from "../host.ts";
import { testOp } from "../testOp.ts";
import { matrixOps } from "./matrices.ts";

for (const rows of Object.values(matrixOps)) for (const [title, row] of Object.entries(rows)) testOp(title, row);

test("a symmetric product is symmetric to the bit, with its epilogue, and its transpose is the same kernel", async () => {
  await testDevice();
  const x = t.normal(t.key(1), [2, 130, 70]);
  const gram = (y: t.Tensor): t.Tensor => t.matmul(y, t.mT(y), { symmetric: true });
  for (const value of [gram(x), t.add(t.mul(gram(x), 0.3), t.exp(t.mul(gram(x), 0.01)))]) {
    const data = await value.data();
    const flipped = await t.mT(value).data();
    expect([...flipped]).toEqual([...data]);
  }
  const both = t.explain((y: t.Tensor) => [gram(y), t.mul(t.mT(gram(y)), 2)], x).kernels;
  expect(both.filter((k) => k.kind === "matmul").length).toBe(1);
});

test("a symmetric product must be square", () => {
  const x = t.ones([3, 4]);
  expect(() => t.matmul(x, t.ones([4, 5]), { symmetric: true })).toThrow(t.ShapeError);
});
