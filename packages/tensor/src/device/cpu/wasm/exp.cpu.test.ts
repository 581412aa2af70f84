import { expect, test } from "vitest";
import { exp } from "./index.ts";

const bits = new Int32Array(1);
const asFloat = new Float32Array(bits.buffer);

function exponential(...values: number[]): number[] {
  const to = new Float32Array(values.length);
  exp(Float32Array.from(values), to);
  return [...to];
}

/** Distance between two floats of the same sign, in units of the last place. */
function ulps(x: number, y: number): number {
  asFloat[0] = x;
  const first = bits[0];
  asFloat[0] = y;
  return Math.abs(first - bits[0]);
}

test("exp(from, to) is within 1 ulp of the exact value over its whole range, denormals included", () => {
  const from = new Float32Array(1_000_003).map((_, i) => -105 + (i / 1_000_003) * 195);
  const to = new Float32Array(from.length);
  exp(from, to);
  expect(Math.max(...Array.from({ length: 1000 }, (_, block) => worst(from, to, block)))).toBeLessThanOrEqual(1);

  function worst(x: Float32Array, y: Float32Array, block: number): number {
    let most = 0;
    for (let i = block; i < x.length; i += 1000) most = Math.max(most, ulps(y[i], Math.fround(Math.exp(x[i]))));
    return most;
  }
});

test("exp of NaN, infinities, zeros, tiny numbers and the edges of the range", () => {
  expect(exponential(Number.NaN, Infinity, -Infinity, 0, -0)).toEqual([Number.NaN, Infinity, 0, 1, 1]);
  expect(exponential(1e-45, -1e-45, 1e-10, 1)).toEqual([1, 1, 1, Math.fround(Math.E)]);
  expect(exponential(88.72284, 3e38, -3e38, -104.5)).toEqual([Infinity, Infinity, 0, 0]);
  expect(Number.isFinite(exponential(88.72283)[0])).toBe(true);
  expect(exponential(-103.5)[0]).toBe(2 ** -149);
});

test("exp of arrays of every small size and in place leaves the rest alone", () => {
  for (const size of [0, 1, 3, 4, 5, 7, 8, 63, 64, 65]) {
    const data = new Float32Array(size + 2).fill(1);
    exp(data.subarray(1, size + 1), data.subarray(1, size + 1));
    expect(data[0]).toBe(1);
    expect(data[size + 1]).toBe(1);
    expect(data.subarray(1, size + 1).every((value) => value === Math.fround(Math.E))).toBe(true);
  }
});
