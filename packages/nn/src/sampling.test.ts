import { range } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { randomNumbers, sampleToken } from "./sampling.ts";

/** How often each token comes up in n draws. */
function shares(logits: number[], options: Parameters<typeof sampleToken>[2], n = 4000): number[] {
  const random = randomNumbers(7);
  const counts = logits.map(() => 0);
  for (let i = 0; i < n; i++) counts[sampleToken(logits, random, options)]!++;
  return counts.map((c) => c / n);
}
const logits = [0.4, 0.3, 0.2, 0.1].map(Math.log);
const near = (expected: number[]) => expected.map((x) => expect.closeTo(x, 1));

describe("sampleToken(logits, random, options)", () => {
  test("draws with the probabilities of the softmax", () => {
    expect(shares(logits, {})).toEqual(near([0.4, 0.3, 0.2, 0.1]));
  });

  test("temperature sharpens, and 0 takes the most likely, the first among equals", () => {
    expect(shares(logits, { temperature: 0.5 })).toEqual(near([16 / 30, 9 / 30, 4 / 30, 1 / 30]));
    expect(shares([1, 3, 3, 2], { temperature: 0 }, 10)).toEqual([0, 1, 0, 0]);
  });

  test("topK keeps the k most likely", () => {
    expect(shares(logits, { topK: 2 })).toEqual(near([4 / 7, 3 / 7, 0, 0]));
    expect(shares(logits, { topK: 1 }, 10)).toEqual([1, 0, 0, 0]);
    expect(shares(logits, { topK: 100 })).toEqual(near([0.4, 0.3, 0.2, 0.1]));
  });

  test("topP keeps the most likely that reach the share, at least one", () => {
    expect(shares(logits, { topP: 0.6 })).toEqual(near([4 / 7, 3 / 7, 0, 0]));
    expect(shares(logits, { topP: 0.71 })).toEqual(near([4 / 9, 3 / 9, 2 / 9, 0]));
    expect(shares(logits, { topP: 0.01 }, 10)).toEqual([1, 0, 0, 0]);
  });

  test("topK counts before topP, and the lower token among equals", () => {
    expect(shares(logits, { topK: 2, topP: 0.5 }, 10)).toEqual([1, 0, 0, 0]); // 4/7 is half of what topK left
    expect(shares([1, 2, 1, 2, 1], { topK: 3 }).map((share) => share > 0)).toEqual([true, true, false, true, false]);
    expect(shares([0, 0, 0, 0], { topP: 0.5 })).toEqual(near([0.5, 0.5, 0, 0]));
  });

  test("topP of nearly one keeps all that counts, whatever rounding does", () => {
    const flat = new Array<number>(100).fill(0.1);
    const drawn = shares(flat, { topP: 1 - 1e-16 });
    expect(drawn.filter((share) => share > 0).length).toBeGreaterThan(95);
  });

  test("never draws NaN or -infinity, and takes +infinity at once", () => {
    expect(shares([Number.NaN, 0, Number.NEGATIVE_INFINITY], {}, 50)).toEqual([0, 1, 0]);
    expect(shares([Number.NaN, 0, Number.NEGATIVE_INFINITY, Number.NaN], { topK: 3, topP: 0.9 }, 50)).toEqual([
      0, 1, 0, 0,
    ]);
    expect(shares([5, Number.POSITIVE_INFINITY], {}, 10)).toEqual([0, 1]);
    expect(() => sampleToken([Number.NaN], randomNumbers(1))).toThrow(
      "sample: the logits hold no number above -infinity",
    );
  });

  test("refuses options out of range", () => {
    const sample = (options: object) => () => sampleToken([0], randomNumbers(1), options);
    expect(sample({ temperature: -1 })).toThrow("sample: temperature must be a number of at least 0, got -1");
    expect(sample({ topK: 0 })).toThrow("sample: topK must be a positive integer, got 0");
    expect(sample({ topP: 0 })).toThrow("sample: topP must be in (0, 1], got 0");
    expect(sample({ topP: 1.1 })).toThrow("sample: topP must be in (0, 1], got 1.1");
  });
});

test("randomNumbers(seed) repeats, differs by seed, and fills [0, 1) evenly", () => {
  const draw = (seed: number, n: number): number[] => {
    const random = randomNumbers(seed);
    return range(n).map(() => random());
  };
  expect(draw(1, 5)).toEqual(draw(1, 5));
  expect(draw(1, 5)).not.toEqual(draw(2, 5));
  const numbers = draw(3, 10000);
  expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...numbers)).toBeLessThan(1);
  for (let tenth = 0; tenth < 10; tenth++)
    expect(numbers.filter((x) => Math.floor(x * 10) === tenth).length).toBeGreaterThan(900);
});

test("randomNumbers(seed, stream) gives each stream numbers of its own, stream 0 those of the seed alone", () => {
  const draw = (seed: number, stream?: number): number[] => {
    const random = randomNumbers(seed, stream);
    return range(50).map(() => random());
  };
  expect(draw(1, 0)).toEqual(draw(1));
  expect(draw(1, 3)).toEqual(draw(1, 3));
  const all = range(20).flatMap((seed) => range(20).flatMap((stream) => draw(seed, stream)));
  expect(new Set(all).size).toBeGreaterThan(0.999 * all.length); // 20000 of 2^32 values collide rarely
});
