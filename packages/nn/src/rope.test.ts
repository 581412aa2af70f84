import { key, mul, normal, ones, sliceAxis, sum, tensor } from "@mc/tensor";
import { build, domains, sharedTestDevice, testOp } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { rope } from "./rope.ts";

beforeAll(() => sharedTestDevice());

for (const pairing of ["half", "interleaved"] as const) {
  testOp(`rope(x) turns ${pairing} pairs by position * theta^(-2i/D)`, {
    op: (x) => rope(x!, { theta: 100, pairing }),
    inputs: [domains.anyNumber],
    shapes: (n) => [[2, 3, n, 8]],
    sizes: [1, 63, 64, 65],
    reference: (x) =>
      build(x.shape, (b, h, t, d) => {
        const pair = pairing === "half" ? d % 4 : Math.floor(d / 2);
        const first = pairing === "half" ? d < 4 : d % 2 === 0;
        const angle = t * 100 ** (-pair / 4);
        const other = x.at(b, h, t, pairing === "half" ? (d + 4) % 8 : d ^ 1);
        return x.at(b, h, t, d) * Math.cos(angle) + (first ? -1 : 1) * other * Math.sin(angle);
      }),
    gradient: 2,
  });
}

describe("rope", () => {
  test("makes dot products depend on the distance of positions alone", async () => {
    const [q, k] = [normal(key(1), [1, 1, 1, 16]), normal(key(2), [1, 1, 1, 16])];
    const at = (x: typeof q, position: number) =>
      rope(x, { positions: tensor([[position]], { dtype: "i32" }), maxPositions: 600 });
    const product = (i: number, j: number) => sum(mul(at(q, i), at(k, j))).item();
    const near = await product(7, 3);
    expect(await product(104, 100)).toBeCloseTo(near, 5);
    expect(await product(504, 500)).toBeCloseTo(near, 5);
    expect(Math.abs((await product(8, 3)) - near)).toBeGreaterThan(1e-3);
  });

  test("leaves position 0 and lengths unchanged", async () => {
    const x = normal(key(3), [1, 2, 5, 8]);
    const y = rope(x);
    await expect(sliceAxis(y, 2, 0, 1)).toBeAllClose(sliceAxis(x, 2, 0, 1));
    await expect(sum(mul(y, y), { axis: -1 })).toBeAllClose(sum(mul(x, x), { axis: -1 }));
  });

  test("reads explicit positions, and any token axis", async () => {
    const x = normal(key(4), [2, 3, 4, 8]);
    const shuffled = tensor(
      [
        [3, 2, 1, 0],
        [0, 0, 5, 5],
      ],
      { dtype: "i32" },
    );
    const heads = rope(x, { positions: shuffled, maxPositions: 6 });
    const plain = rope(ones([1, 1, 6, 8]));
    const ofOnes = rope(ones([2, 3, 4, 8]), { positions: shuffled, maxPositions: 6 });
    await expect(sliceAxis(sliceAxis(sliceAxis(ofOnes, 0, 1, 2), 1, 0, 1), 2, 2, 3)).toBeAllClose(
      sliceAxis(plain, 2, 5, 6),
    );
    const tokensFirst = rope(x, {
      positions: tensor(
        [
          [0, 1, 2],
          [2, 1, 0],
        ],
        { dtype: "i32" },
      ),
      sequenceAxis: 1,
    });
    expect(tokensFirst.shape).toEqual(x.shape);
    expect(heads.shape).toEqual(x.shape);
  });

  test("gives NaN beyond maxPositions", async () => {
    const y = await rope(ones([1, 1, 2, 2]), { positions: tensor([[0, 9]], { dtype: "i32" }), maxPositions: 4 }).data();
    expect([...y].map(Number.isNaN)).toEqual([false, false, true, true]);
  });

  test("refuses odd numbers of features and positions of another shape", () => {
    expect(() => rope(ones([1, 1, 2, 3]))).toThrow("rope: the number of features must be even, got shape [1, 1, 2, 3]");
    expect(() => rope(ones([1, 1, 2, 4]), { positions: tensor([[0]], { dtype: "i32" }) })).toThrow(
      "rope: positions must be [1, 2], got [1, 1]",
    );
  });
});
