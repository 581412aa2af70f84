import { describe, expect, test } from "vitest";
import { findMismatch, isNaNByBits, relativeError } from "./compare.ts";
import "./matchers.ts";

describe("findMismatch(actual, expected, tolerance)", () => {
  test("finds nothing between equal arrays, NaN and infinities included", () => {
    expect(
      findMismatch([1, Number.NaN, Number.NEGATIVE_INFINITY], [1, Number.NaN, Number.NEGATIVE_INFINITY]),
    ).toBeUndefined();
  });
  test("finds NaN against a number, and infinity against a large number", () => {
    expect(findMismatch([Number.NaN], [1], { rtol: 1e9 })?.count).toBe(1);
    expect(findMismatch([1], [Number.NaN], { rtol: 1e9 })?.count).toBe(1);
    expect(findMismatch([Number.POSITIVE_INFINITY], [1e300], { rtol: 1e9 })?.count).toBe(1);
  });
  test("reports the worst place and how many there are", () => {
    expect(findMismatch([1, 2.1, 4], [1, 2, 3])).toEqual({ index: 2, actual: 4, expected: 3, count: 2 });
  });
  test("allows atol + rtol * |expected|", () => {
    expect(findMismatch([100.9], [100], { rtol: 0.01, atol: 0 })).toBeUndefined();
    expect(findMismatch([101.1], [100], { rtol: 0.01, atol: 0 })).toBeDefined();
    expect(findMismatch([0.5], [0], { rtol: 0, atol: 0.5 })).toBeUndefined();
  });
  test("throws for different lengths", () => {
    expect(() => findMismatch([1], [1, 2])).toThrow("lengths must agree, got 1 and 2");
  });
});

test("isNaNByBits(x) holds for NaN alone", () => {
  expect(
    [Number.NaN, 0, -0, 1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.MIN_VALUE].map(isNaNByBits),
  ).toEqual([true, false, false, false, false, false, false]);
});

test("relativeError(actual, expected, origin) is a ratio of 2-norms", () => {
  expect(relativeError([3, 4.005], [3, 4])).toBeCloseTo(0.001, 12);
  expect(relativeError([1.1], [1.2], [1])).toBeCloseTo(0.5, 12);
  expect(relativeError([1], [1], [1])).toBe(0);
  expect(relativeError([2], [1], [1])).toBe(Number.POSITIVE_INFINITY);
  expect(relativeError([Number.NaN], [1])).toBeNaN();
});

describe("toBeAllClose(expected)", () => {
  test("accepts typed and nested arrays", async () => {
    await expect(new Float32Array([1, 2, 3, 4])).toBeAllClose([
      [1, 2],
      [3, 4],
    ]);
  });
  test("says where the worst difference is and both values", async () => {
    const failing = expect([
      [1, 2],
      [3, 4.5],
    ]).toBeAllClose([
      [1, 2],
      [3, 4],
    ]);
    await expect(failing).rejects.toThrow(
      "1 of 4 elements differ by more than rtol 0.00001, atol 0.000001; worst at 3 [1, 1]: got 4.5, expected 4",
    );
  });
  test("compares shapes where both sides have one", async () => {
    await expect(expect([[1, 2]]).toBeAllClose([[1], [2]])).rejects.toThrow(
      "shapes must agree, got [1, 2] and expected [2, 1]",
    );
  });
});
