import { ValueError } from "@mc/tensor";
import { random, range } from "@mc/testing";
import { expect, test } from "vitest";
import { gateScale } from "./gateScale.ts";

test("gateScale(experts, active) is Moonlight's and Kimi K2's published factor", () => {
  expect(gateScale(64, 6)).toBe(2.446);
  expect(gateScale(384, 8)).toBe(2.827);
});

test("gateScale of one expert is 1: there is nothing to average", () => {
  expect(gateScale(1, 1)).toBe(1);
  expect(gateScale(16, 1)).toBe(1);
});

test.each([
  [8, 2],
  [16, 4],
  [6, 6],
])("gateScale(%i, %i) agrees with random draws", (numExperts, k) => {
  const draw = random(1);
  const draws = 20_000;
  let total = 0;
  for (let i = 0; i < draws; i++) {
    const scores = range(numExperts).map(() => 1 / (1 + Math.exp(-draw.normal())));
    const best = scores.sort((a, b) => b - a).slice(0, k);
    total += best.reduce((a, b) => a + b) / Math.hypot(...best);
  }
  expect(Math.abs(gateScale(numExperts, k) - total / draws)).toBeLessThan(4e-3);
});

test("gateScale says what is wrong with its arguments", () => {
  expect(() => gateScale(0, 1)).toThrow(ValueError);
  expect(() => gateScale(4, 5)).toThrow("gateScale: numExpertsPerToken must be at most numExperts, got 5 of 4");
});
