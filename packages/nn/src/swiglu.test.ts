// The gated activation: its kernel against plain ops in float64, at sizes off every vector, and its gradients.
import { checkGrads, grad } from "@mc/autograd";
import { key, mul, normal, silu, split, sum, type Tensor, tensor } from "@mc/tensor";
import { oracleDevice, relativeError, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { swiglu } from "./swiglu.ts";

const device = await testDevice();
const oracle = await oracleDevice();

const reference = (x: Tensor): Tensor => {
  const [gate, up] = split(x, 2, -1) as [Tensor, Tensor];
  return mul(silu(gate), up);
};

describe("swiglu(x)", () => {
  test.each([[[1, 2]], [[3, 6]], [[2, 5, 8]], [[70, 14]], [[5, 2, 336]], [[300, 130]]])(
    "has the values and the gradient of silu(g) * u in float64 for %j",
    async (shape) => {
      const values = (await normal(key(3, { device: oracle }), shape, { std: 4 }).data()).map(Math.fround);
      const on = (d: typeof device) => tensor(Float32Array.from(values), { shape, device: d });
      const loss = (f: (x: Tensor) => Tensor) => (x: Tensor) => sum(mul(f(x), f(x)));
      expect(relativeError(await swiglu(on(device)).data(), await reference(on(oracle)).data())).toBeLessThan(1e-6);
      const [ours, theirs] = [grad(loss(swiglu))(on(device)), grad(loss(reference))(on(oracle))];
      expect(relativeError(await ours.data(), await theirs.data())).toBeLessThan(2e-6);
    },
  );

  test("stands far out values, and shows a NaN where it is", async () => {
    const y = await swiglu(tensor([[-200, -1e30, 200, Number.NaN, 1, 1, 1, 1]], { device })).data();
    expect(Math.abs(y[0]!)).toBeLessThan(1e-30);
    expect(Math.abs(y[1]!)).toBe(0);
    expect(y[2]).toBe(200);
    expect(y[3]).toBeNaN();
  });

  test("has first and second derivatives", async () => {
    const x = normal(key(5, { device: oracle }), [3, 8]);
    await checkGrads((x: Tensor) => sum(mul(swiglu(x), swiglu(x))), [x], { order: 2 });
  });

  test("says what is wrong with its input", () => {
    expect(() => swiglu(tensor([1, 2, 3], { device }))).toThrow(
      "swiglu: the last axis must hold gates and as many linear values, got [3]",
    );
  });
});
