import { key, ones, type Tensor, tensor } from "@mc/tensor";
import { build, domains, sharedTestDevice, testOp } from "@mc/testing";
import { beforeAll, expect, test } from "vitest";
import { linear } from "./linear.ts";

beforeAll(() => sharedTestDevice());

testOp("linear(x) is x W^T + b", {
  op: (x, weight, bias) => linear({ inFeatures: 6, outFeatures: 4 }).apply({ weight: weight!, bias: bias! }, x!),
  inputs: [domains.anyNumber, domains.anyNumber, domains.anyNumber],
  shapes: (n) => [[2, n, 6], [4, 6], [4]],
  sizes: [1, 63, 64, 65],
  reference: (x, w, b) =>
    build([2, x.shape[1]!, 4], (i, j, o) => {
      let sum = b.at(o);
      for (let p = 0; p < 6; p++) sum += x.at(i, j, p) * w.at(o, p);
      return sum;
    }),
  gradient: 2,
});

test("linear makes normal weights of the given deviation, and zero biases", async () => {
  const params = linear({ inFeatures: 64, outFeatures: 128, std: 0.02 }).init(key(1));
  const weights = await params.weight.data();
  const deviation = Math.sqrt(Array.from(weights).reduce((s, w) => s + w * w, 0) / weights.length);
  expect(params.weight.shape).toEqual([128, 64]);
  expect(deviation).toBeGreaterThan(0.0195);
  expect(deviation).toBeLessThan(0.0205);
  await expect(params.bias as Tensor).toBeAllClose(new Float32Array(128));
});

test("linear says what the last axis must be", () => {
  const layer = linear({ inFeatures: 3, outFeatures: 2, bias: false });
  const params = layer.init(key(1));
  expect(params).not.toHaveProperty("bias");
  expect(() => layer.apply(params, ones([2, 4]))).toThrow("linear: the last axis must have size 3, got shape [2, 4]");
  expect(() => linear({ inFeatures: 0, outFeatures: 2 })).toThrow(
    "linear: inFeatures must be a positive integer, got 0",
  );
});

test("linear tells the roles of its parameters", () => {
  const blocks = [
    { start: 0, rows: 1 },
    { start: 1, rows: 1 },
  ];
  expect(linear({ inFeatures: 3, outFeatures: 2, blocks }).roles).toEqual({
    weight: { role: "matrix", blocks },
    bias: { role: "bias" },
  });
  expect(linear({ inFeatures: 3, outFeatures: 2, bias: false, role: "head" }).roles).toEqual({
    weight: { role: "head" },
  });
});

test("linear takes a vector", async () => {
  const y = linear({ inFeatures: 2, outFeatures: 2, bias: false }).apply(
    {
      weight: tensor([
        [1, 2],
        [3, 4],
      ]),
    },
    tensor([1, 1]),
  );
  await expect(y).toBeAllClose([3, 7]);
});
