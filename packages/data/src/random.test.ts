import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { hostRandom, permutation } from "./random.ts";

const take = (n: number, next: () => number) => Array.from({ length: n }, next);

describe("hostRandom(seed)", () => {
  test("gives the same stream for the same seed, and another for another", () => {
    expect(take(100, hostRandom(7).bits)).toEqual(take(100, hostRandom(7).bits));
    expect(take(100, hostRandom(7).bits)).not.toEqual(take(100, hostRandom(8).bits));
  });

  test("gives the words of sfc32 seeded as in PractRand, recomputed here with BigInt", () => {
    const mask = 0xffffffffn;
    let [a, b, c, counter] = [0n, 123456789n, 0n, 1n];
    const reference = take(32, () => {
      const out = (a + b + counter) & mask;
      counter = (counter + 1n) & mask;
      a = b ^ (b >> 9n);
      b = (c + (c << 3n)) & mask;
      c = ((((c << 21n) | (c >> 11n)) & mask) + out) & mask;
      return Number(out);
    });
    expect(take(20, hostRandom(123456789).bits)).toEqual(reference.slice(12));
  });

  test("goes on from a state saved as JSON", () => {
    const random = hostRandom(5);
    take(17, random.bits);
    const saved = JSON.parse(JSON.stringify(random.state()));
    const rest = take(50, random.bits);
    expect(take(50, hostRandom(saved).bits)).toEqual(rest);
    expect(() => hostRandom([1, 2, 3, 2 ** 32])).toThrow(ValueError);
  });

  test("below(n) reaches every value about equally often", () => {
    const random = hostRandom(3);
    for (const n of [1, 2, 3, 10]) {
      const seen = new Array<number>(n).fill(0);
      for (let i = 0; i < 3000 * n; i++) seen[random.below(n)]! += 1;
      for (const times of seen) expect(Math.abs(times - 3000)).toBeLessThan(300); // over five standard deviations
    }
    expect(random.below(2 ** 32)).toBeLessThan(2 ** 32);
  });

  test.each([-1, 0.5, 2 ** 32, Number.NaN])("refuses the seed %s", (seed) => {
    expect(() => hostRandom(seed)).toThrow(ValueError);
  });

  test.each([0, -1, 1.5, 2 ** 32 + 1])("below refuses %s", (n) => {
    expect(() => hostRandom(0).below(n)).toThrow("below: n must be an integer in [1, 2^32]");
  });
});

describe("permutation(n, random)", () => {
  test("holds every integer below n once, for n from 0 to 65", () => {
    const random = hostRandom(0);
    for (let n = 0; n <= 65; n++) {
      expect([...permutation(n, random)].sort((a, b) => a - b)).toEqual(
        take(
          n,
          (
            (i) => () =>
              i++
          )(0),
        ),
      );
    }
  });

  test("gives all six orders of three about equally often", () => {
    const random = hostRandom(1);
    const seen = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const order = permutation(3, random).join("");
      seen.set(order, (seen.get(order) ?? 0) + 1);
    }
    expect(seen.size).toBe(6);
    for (const times of seen.values()) expect(Math.abs(times - 1000)).toBeLessThan(150);
  });
});
