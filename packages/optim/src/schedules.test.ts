import { type Tensor, tensor } from "@mc/tensor";
import { testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import type { Schedule } from "./learningRate.ts";
import { constant, cosine, linear, warmupCosine, warmupStableDecay } from "./schedules.ts";

await testDevice();
const at = async (schedule: Schedule, ...steps: number[]): Promise<number[]> =>
  Promise.all(steps.map((t) => schedule(tensor(t) as Tensor).item()));

describe("schedules", () => {
  test("constant(value) never changes", async () => {
    await expect(at(constant(0.25), 1, 100)).resolves.toEqual([0.25, 0.25]);
  });

  test("linear({ from, to, steps }) is a straight line that ends", async () => {
    await expect(await at(linear({ from: 1, to: 0, steps: 10 }), 1, 5, 10, 20)).toBeAllClose([0.9, 0.5, 0, 0]);
  });

  test("cosine({ peak, totalSteps }) falls to a tenth unless told otherwise", async () => {
    await expect(await at(cosine({ peak: 1, totalSteps: 10 }), 5, 10, 11)).toBeAllClose([0.55, 0.1, 0.1]);
    await expect(await at(cosine({ peak: 1, totalSteps: 10, final: 0 }), 5, 10)).toBeAllClose([0.5, 0]);
  });

  test("warmupCosine moves at the first update, peaks at warmupSteps and ends at totalSteps", async () => {
    const schedule = warmupCosine({ peak: 4e-3, warmupSteps: 20, totalSteps: 300, final: 0 });
    await expect(await at(schedule, 1, 10, 20, 160, 300, 400)).toBeAllClose([2e-4, 2e-3, 4e-3, 2e-3, 0, 0], {
      atol: 1e-9,
    });
    await expect(await at(warmupCosine({ peak: 1, warmupSteps: 0, totalSteps: 4 }), 2)).toBeAllClose([0.55]);
  });

  test("warmupStableDecay rises, stays and falls", async () => {
    const line = warmupStableDecay({ peak: 1, warmupSteps: 10, decaySteps: 20, totalSteps: 100, final: 0.2 });
    await expect(await at(line, 5, 10, 50, 80, 90, 100, 101)).toBeAllClose([0.5, 1, 1, 1, 0.6, 0.2, 0.2]);
    const curve = warmupStableDecay({ peak: 1, warmupSteps: 0, decaySteps: 20, totalSteps: 100, decay: "cosine" });
    await expect(await at(curve, 1, 80, 85, 90, 100)).toBeAllClose([1, 1, (1 + Math.SQRT1_2) / 2, 0.5, 0], {
      atol: 1e-6,
    });
  });

  test("bad numbers are refused by name", () => {
    expect(() => constant(Number.NaN)).toThrow("constant: value must be a finite number of at least 0, got NaN");
    expect(() => linear({ from: 1, to: 0, steps: 0 })).toThrow("linear: steps must be a positive finite number, got 0");
    expect(() => warmupCosine({ peak: 1, warmupSteps: 10, totalSteps: 10 })).toThrow(
      "warmupCosine: totalSteps - warmupSteps must be a positive finite number, got 0",
    );
    expect(() => warmupStableDecay({ peak: 1, warmupSteps: 6, decaySteps: 6, totalSteps: 10 })).toThrow("got -2");
  });
});
