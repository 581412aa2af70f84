import { connect, tensor } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { largestLoad, largestLogit, metricsLine, packMetrics, shortest, unpackMetrics } from "./metrics.ts";

describe("packMetrics and unpackMetrics", () => {
  test("give back every figure of a step, the logits as [layer][head]", async () => {
    await connect({ device: "cpu" });
    const packed = packMetrics({
      loss: tensor(2.5),
      learningRate: tensor(0.01),
      clippedHeads: tensor(3, { dtype: "i32" }),
      gradNorm: tensor(1.25),
      maxLogits: [tensor([1, 2, 3]), tensor([4, 5, 6.5])],
      routing: [
        { entropy: tensor(1), dropped: tensor(0, { dtype: "i32" }), load: tensor([6, 2], { dtype: "i32" }) },
        { entropy: tensor(0.5), dropped: tensor(0, { dtype: "i32" }), load: tensor([4, 4], { dtype: "i32" }) },
      ],
    });
    expect(packed.shape).toEqual([18]);
    const metrics = unpackMetrics((await packed.data()) as Float32Array, { layers: 2, heads: 3, experts: 2 });
    expect(metrics).toEqual({
      loss: 2.5,
      learningRate: 0.01,
      clippedHeads: 3,
      gradNorm: 1.25,
      maxLogit: [
        [1, 2, 3],
        [4, 5, 6.5],
      ],
      expertLoad: [
        [0.75, 0.25],
        [0.5, 0.5],
      ],
      routingEntropy: 0.75,
      droppedTokens: 0,
    });
    expect(largestLogit(metrics)).toBe(6.5);
    expect(largestLoad(metrics)).toBe(1.5);
    expect(largestLoad({ expertLoad: [] })).toBeUndefined();
  });
});

describe("shortest(value)", () => {
  test("reads back as the same f32 and has no needless digits", () => {
    for (let i = 0; i < 2000; i++) {
      const value = Math.fround(Math.exp(i / 40 - 25) * (i % 2 === 0 ? 1 : -1));
      expect(Math.fround(shortest(value))).toBe(value);
    }
    expect(shortest(Math.fround(0.01))).toBe(0.01);
    expect(shortest(Math.fround(1 / 3))).toBe(0.33333334);
    expect(shortest(0)).toBe(0);
  });
});

describe("metricsLine(metrics)", () => {
  test("has a step's fields in the documented order, on one line", () => {
    const line = metricsLine({
      step: 1,
      loss: 5.5,
      learningRate: 0.01,
      tokensPerSecond: 1000,
      maxLogit: [
        [1, 2],
        [3, 4],
      ],
      clippedHeads: 0,
      gradNorm: 2,
      seconds: 1.024,
      expertLoad: [[0.5, 0.5]],
      routingEntropy: 0.6,
      droppedTokens: 0,
    });
    expect(line).toBe(
      '{"step":1,"loss":5.5,"learningRate":0.01,"tokensPerSecond":1000,"maxLogit":[[1,2],[3,4]],"clippedHeads":0,"gradNorm":2,"seconds":1.024,"expertLoad":[[0.5,0.5]],"routingEntropy":0.6,"droppedTokens":0}\n',
    );
  });

  test("ends a run with its validation loss", () => {
    const line = metricsLine({ done: true, validationLoss: 1.7, bitsPerByte: 2.45 });
    expect(JSON.parse(line)).toEqual({ done: true, validationLoss: 1.7, bitsPerByte: 2.45 });
  });
});
