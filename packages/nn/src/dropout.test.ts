import { key, ones } from "@mc/tensor";
import { sharedTestDevice } from "@mc/testing";
import { beforeAll, expect, test } from "vitest";
import { dropout } from "./dropout.ts";

beforeAll(() => sharedTestDevice());

test("dropout(key, x, rate) zeroes about the given share and keeps the mean", async () => {
  const y = Array.from(await dropout(key(3), ones([100, 100]), 0.25).data());
  const zeros = y.filter((v) => v === 0).length / y.length;
  expect(zeros).toBeGreaterThan(0.23);
  expect(zeros).toBeLessThan(0.27);
  expect(new Set(y.filter((v) => v !== 0)).size).toBe(1);
  expect(Math.max(...y)).toBeCloseTo(4 / 3, 6);
});

test("dropout(key, x, rate) depends on the key alone", async () => {
  const draw = (seed: number) => dropout(key(seed), ones([64]), 0.5).data();
  expect(await draw(1)).toEqual(await draw(1));
  expect(await draw(1)).not.toEqual(await draw(2));
});

test("dropout(key, x, 0) is x, and rates outside [0, 1) are refused", () => {
  const x = ones([2]);
  expect(dropout(key(1), x, 0)).toBe(x);
  for (const rate of [1, -0.1, Number.NaN])
    expect(() => dropout(key(1), x, rate)).toThrow(`dropout: rate must be in [0, 1), got ${rate}`);
});
