import { key } from "@mc/tensor";
import { build, domains, type HostArray, testOp } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { layerNorm, rmsNorm } from "./norm.ts";

const rowOf = (x: HostArray, i: number): number[] => Array.from({ length: x.shape[1]! }, (_, d) => x.at(i, d));
const mean = (row: readonly number[]): number => row.reduce((s, v) => s + v, 0) / row.length;

for (const width of [1, 65]) {
  testOp(`rmsNorm(x) of width ${width} divides by the root mean square`, {
    op: (x, weight) => rmsNorm({ features: width, eps: 1e-3 }).apply({ weight: weight! }, x!),
    inputs: [domains.anyNumber, domains.anyNumber],
    shapes: (n) => [[n, width], [width]],
    sizes: [1, 65],
    reference: (x, w) =>
      build(x.shape, (i, d) => {
        const square = mean(rowOf(x, i).map((v) => v * v));
        return (x.at(i, d) / Math.sqrt(square + 1e-3)) * w.at(d);
      }),
    gradient: 2,
  });
}

for (const width of [2, 65]) {
  testOp(`layerNorm(x) of width ${width} has mean zero and deviation one before gain and bias`, {
    op: (x, weight, bias) => layerNorm({ features: width, eps: 1e-3 }).apply({ weight: weight!, bias: bias! }, x!),
    inputs: [domains.anyNumber, domains.anyNumber, domains.anyNumber],
    shapes: (n) => [[n, width], [width], [width]],
    sizes: [1, 65],
    reference: (x, w, b) =>
      build(x.shape, (i, d) => {
        const row = rowOf(x, i);
        const variance = mean(row.map((v) => (v - mean(row)) ** 2));
        return ((x.at(i, d) - mean(row)) / Math.sqrt(variance + 1e-3)) * w.at(d) + b.at(d);
      }),
    gradient: 2,
    gradientTolerance: 1e-3,
  });
}

describe("norms", () => {
  test("begin with gains of one and biases of zero, and say what they are", async () => {
    const rms = rmsNorm({ features: 3 });
    const layer = layerNorm({ features: 3 });
    await expect(rms.init(key(1)).weight).toBeAllClose([1, 1, 1]);
    await expect(layer.init(key(1)).bias!).toBeAllClose([0, 0, 0]);
    expect(rms.roles).toEqual({ weight: { role: "norm" } });
    expect(layer.roles).toEqual({ weight: { role: "norm" }, bias: { role: "bias" } });
    expect(layerNorm({ features: 3, bias: false }).roles).toEqual({ weight: { role: "norm" } });
  });
});
