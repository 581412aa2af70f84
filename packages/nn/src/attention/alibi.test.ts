import { describe, expect, test } from "vitest";
import { alibiSlopes } from "./alibi.ts";

describe("alibiSlopes", () => {
  test("is a geometric sequence for a power of two", () => {
    expect(alibiSlopes(1)).toEqual([2 ** -8]);
    expect(alibiSlopes(8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((n) => 2 ** -n));
    expect(alibiSlopes(16)[0]).toBe(2 ** -0.5);
    expect(alibiSlopes(16).at(-1)).toBe(2 ** -8);
  });

  test("goes on with every second slope of twice as many heads for other numbers", () => {
    // what get_slopes of the paper's code gives
    expect(alibiSlopes(3)).toEqual([2 ** -4, 2 ** -8, 2 ** -2]);
    expect(alibiSlopes(6)).toEqual([2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3]);
    expect(alibiSlopes(12)).toEqual([...alibiSlopes(8), 2 ** -0.5, 2 ** -1.5, 2 ** -2.5, 2 ** -3.5]);
  });

  test("refuses numbers that are none of heads", () => {
    expect(() => alibiSlopes(0)).toThrow("alibiSlopes: numHeads must be a positive integer, got 0");
    expect(() => alibiSlopes(2.5)).toThrow("alibiSlopes: numHeads must be a positive integer, got 2.5");
  });
});
