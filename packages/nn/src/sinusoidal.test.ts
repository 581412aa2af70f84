import { add, key, normal, tensor, zeros } from "@mc/tensor";
import { build, oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { sinusoidal } from "./sinusoidal.ts";

beforeAll(() => sharedTestDevice());

/** The formula of the paper, for pos and the pair i of features 2i and 2i + 1. */
const vectorOf = (pos: number, size: number): number[] =>
  range(size).map((j) => {
    const angle = pos / 10000 ** ((2 * Math.floor(j / 2)) / size);
    return j % 2 ? Math.cos(angle) : Math.sin(angle);
  });

describe("sinusoidal(x)", () => {
  test.each([2, 7, 8])("adds the sines and cosines of %i features", async (size) => {
    const x = normal(key(1), [2, 5, size]);
    const vectors = build([2, 5, size], (_, t, i) => vectorOf(t, size)[i]!);
    await expect(sinusoidal(x)).toBeAllClose(
      add(x, tensor(vectors.data as Float64Array, { shape: [2, 5, size], dtype: "f32" })),
    );
  });

  test("is exact for long sequences: the table comes from float64", async () => {
    const long = await sinusoidal(zeros([1, 5000, 4])).data();
    for (const p of [4095, 4999])
      await expect(long.slice(4 * p, 4 * p + 4)).toBeAllClose(vectorOf(p, 4), { atol: 1e-7 });
    const oracle = await sinusoidal(zeros([1, 3, 4], { device: await oracleDevice() })).data();
    await expect(oracle).toBeAllClose(
      range(3).map((p) => vectorOf(p, 4)),
      { rtol: 0, atol: 1e-15 },
    );
  });

  test("reads explicit positions, and gives NaN beyond maxPositions", async () => {
    const positions = tensor([[2, 0, 9]], { dtype: "i32" });
    const rows = [2, 0, 9].map((p) => vectorOf(p, 6));
    await expect(sinusoidal(zeros([1, 3, 6]), { positions, maxPositions: 10 })).toBeAllClose([rows]);
    const bounded = await sinusoidal(zeros([1, 3, 6]), { positions }).data();
    expect([...bounded].map(Number.isNaN)).toEqual(range(18).map((i) => i >= 12));
  });

  test("refuses x and positions of another shape", () => {
    expect(() => sinusoidal(zeros([3, 4]))).toThrow("sinusoidal: x must be [B, T, D], got shape [3, 4]");
    const positions = tensor([[0, 1]], { dtype: "i32" });
    expect(() => sinusoidal(zeros([1, 3, 4]), { positions })).toThrow(
      "sinusoidal: positions must be [1, 3], got [1, 2]",
    );
  });
});
