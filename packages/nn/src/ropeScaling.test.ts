import { key, mul, normal, sliceAxis, sum, tensor } from "@mc/tensor";
import { range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { rope } from "./rope.ts";
import { type RopeScaling, ropeFrequencies, ropeMagnitude, yarnMscale } from "./ropeScaling.ts";

beforeAll(() => sharedTestDevice());

const size = 64;
const theta = 10000;
const plain = range(size / 2).map((i) => theta ** (-i / (size / 2)));
/** Turns of each pair over so many tokens. */
const turnsIn = (tokens: number): number[] => plain.map((f) => (tokens * f) / (2 * Math.PI));

describe("ropeFrequencies(size, theta, scaling)", () => {
  test("linear: every wavelength times the factor", () => {
    const scaled = ropeFrequencies(size, theta, { kind: "linear", factor: 4 });
    expect(scaled).toEqual(plain.map((f) => expect.closeTo(f / 4, 15)));
  });

  describe.each([
    ["betas as by default", {}, 32, 1],
    ["betas given", { betaFast: 8, betaSlow: 2 }, 8, 2],
  ])("yarn with %s", (_, betas, fast, slow) => {
    const yarn = (more: object) =>
      ropeFrequencies(size, theta, { kind: "yarn", factor: 16, originalMaxPositions: 4096, ...betas, ...more });
    /** How much of the way each frequency went towards f / factor. */
    const shares = (frequencies: number[]) => frequencies.map((f, i) => (plain[i]! - f) / (plain[i]! - plain[i]! / 16));
    const turns = turnsIn(4096);

    test("without truncation, keeps pairs that turn fast, stretches those that turn slowly, and goes in a line between", () => {
      const got = shares(yarn({ truncate: false }));
      // turns fall geometrically from pair to pair: the logarithm says how far a pair is on the way
      const line = turns.map((t) => Math.log(fast / t) / Math.log(fast / slow));
      expect(got).toEqual(line.map((s) => expect.closeTo(Math.min(Math.max(s, 0), 1), 10)));
      turns.forEach((t, i) => {
        if (t >= fast) expect(got[i]).toBe(0);
        if (t <= slow) expect(got[i]).toBeCloseTo(1, 12);
      });
    });

    test("with truncation, the ramp begins at the last whole pair above and ends at the first below", () => {
      const got = shares(yarn({}));
      const begin = turns.findLastIndex((t) => t >= fast);
      const end = turns.findIndex((t) => t <= slow);
      expect(got).toEqual(
        range(size / 2).map((i) => expect.closeTo(Math.min(Math.max((i - begin) / (end - begin), 0), 1), 10)),
      );
    });
  });

  test("yarn: equal borders make a step, as in Kimi K2 (both betas 1, base 50000)", () => {
    const scaling = { kind: "yarn", factor: 32, originalMaxPositions: 4096, betaFast: 1, betaSlow: 1 } as const;
    const base = range(32).map((i) => 50000 ** (-i / 32));
    const turns = base.map((f) => (4096 * f) / (2 * Math.PI));
    expect(ropeFrequencies(64, 50000, scaling)).toEqual(
      base.map((f, i) => expect.closeTo(turns[i]! > 1 ? f : f / 32, 15)),
    );
    expect(ropeFrequencies(64, 50000, { ...scaling, truncate: false }).every(Number.isFinite)).toBe(true);
  });

  test("llama3: short wavelengths stay, long ones are stretched, those between by the share of turns", () => {
    const llama = {
      kind: "llama3",
      factor: 8,
      originalMaxPositions: 8192,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
    };
    const expected = turnsIn(8192).map((turns, i) => {
      const f = plain[i]!;
      if (turns > 4) return f;
      if (turns < 1) return f / 8;
      const smooth = (turns - 1) / 3;
      return (1 - smooth) * (f / 8) + smooth * f;
    });
    expect(ropeFrequencies(size, theta, llama as RopeScaling)).toEqual(expected.map((f) => expect.closeTo(f, 15)));
    expect(expected.filter((f, i) => f !== plain[i] && f !== plain[i]! / 8).length).toBeGreaterThan(3);
  });

  test("refuses scalings out of range", () => {
    const scaled = (scaling: object) => () => ropeFrequencies(8, theta, scaling as RopeScaling);
    expect(scaled({ kind: "linear", factor: 0.5 })).toThrow("rope: scaling.factor must be at least 1, got 0.5");
    expect(scaled({ kind: "dynamic", factor: 2 })).toThrow(
      'rope: scaling.kind must be linear, yarn or llama3, got "dynamic"',
    );
    expect(scaled({ kind: "yarn", factor: 2 })).toThrow(
      "rope: scaling.originalMaxPositions must be a positive integer, got undefined",
    );
    expect(scaled({ kind: "yarn", factor: 2, originalMaxPositions: 64, betaFast: 1, betaSlow: 2 })).toThrow(
      "rope: scaling.betaFast must be at least betaSlow and both positive, got 1 and 2",
    );
    expect(
      scaled({ kind: "llama3", factor: 2, originalMaxPositions: 64, lowFrequencyFactor: 4, highFrequencyFactor: 4 }),
    ).toThrow("rope: scaling.highFrequencyFactor must be above lowFrequencyFactor, got 4 and 4");
  });
});

describe("ropeMagnitude(scaling)", () => {
  const yarn = (more: object): number =>
    ropeMagnitude({ kind: "yarn", factor: 40, originalMaxPositions: 4096, ...more });

  test("is YaRN's 0.1 ln(factor) + 1, a ratio of two of them, or what is given", () => {
    expect(yarn({})).toBeCloseTo(0.1 * Math.log(40) + 1, 12);
    expect(yarn({ mscale: 0.8, mscaleAllDim: 1 })).toBeCloseTo(
      (0.08 * Math.log(40) + 1) / (0.1 * Math.log(40) + 1),
      12,
    );
    expect(yarn({ mscale: 1, mscaleAllDim: 1 })).toBe(1); // DeepSeek-V3
    expect(yarn({ mscale: 0.8 })).toBeCloseTo(0.1 * Math.log(40) + 1, 12); // one alone counts for nothing, as in transformers
    expect(yarn({ attentionFactor: 1.25, mscale: 2, mscaleAllDim: 1 })).toBe(1.25);
    expect(yarnMscale(1, 5)).toBe(1);
  });

  test("is 1 for the others", () => {
    expect(ropeMagnitude()).toBe(1);
    expect(ropeMagnitude({ kind: "linear", factor: 8 })).toBe(1);
  });
});

describe("rope with scaling", () => {
  test("linear: position p of the stretched model is position p / factor of the other", async () => {
    const x = normal(key(1), [1, 1, 9, 8]);
    const stretched = rope(x, { scaling: { kind: "linear", factor: 4 } });
    const at = (y: typeof x, t: number) => sliceAxis(y, 2, t, t + 1);
    const positions = tensor(
      [
        range(9)
          .map((t) => t / 4)
          .map(Math.trunc),
      ],
      { dtype: "i32" },
    );
    await expect(at(stretched, 8)).toBeAllClose(at(rope(x, { positions }), 8));
    await expect(at(stretched, 4)).toBeAllClose(at(rope(x, { positions }), 4));
  });

  test("yarn: vectors grow by its magnitude", async () => {
    const x = normal(key(2), [1, 2, 5, 8]);
    const length = (y: typeof x) => sum(mul(y, y), { axis: -1 });
    for (const pairing of ["half", "interleaved"] as const) {
      const y = rope(x, { pairing, scaling: { kind: "yarn", factor: 4, originalMaxPositions: 8 } });
      await expect(length(y)).toBeAllClose(mul(length(x), (0.1 * Math.log(4) + 1) ** 2));
    }
  });
});
