// From timestamps to times of launches, without a GPU; and the names of kernels, which `explain` and `profile` show.
import { describe, expect, test } from "vitest";
import type { LoopKernel } from "../../compiler/kernel.ts";
import { emitLoop } from "./emitLoop.ts";
import { emitMatmul } from "./emitMatmul.ts";
import { affine, matmulKernel } from "./fixtures/kernels.ts";
import type { Program, Variants } from "./program.ts";
import { launchTimes } from "./stopwatch.ts";

describe("launchTimes", () => {
  const stamps = (...nanoseconds: number[]): BigUint64Array =>
    BigUint64Array.from(nanoseconds, (t) => BigInt(t) + 2n ** 62n - (2n ** 62n % 1000n));

  test("apart: a launch's time is the sum of its passes, gaps left out", () => {
    const { milliseconds, step } = launchTimes(stamps(0, 2000, 5000, 9000, 9000, 10000), [1, 2], true);
    expect(milliseconds).toEqual([0.002, 0.005]);
    expect(step).toBe(0.001);
  });

  test("together: from the first begin to the last end", () => {
    expect(launchTimes(stamps(0, 2000, 5000, 9500), [1, 1], false).milliseconds).toEqual([0.0095]);
  });

  test("a clock that was set back gives no negative time, and no passes take none", () => {
    expect(launchTimes(stamps(3000, 1000), [1], true).milliseconds).toEqual([0]);
    expect(launchTimes(stamps(), [0], true)).toEqual({ milliseconds: [0], step: 0 });
    expect(launchTimes(stamps(), [], false)).toEqual({ milliseconds: [0], step: 0 });
  });
});

describe("a program's variant is the kernel that was chosen", () => {
  const named = ({ variant, passes }: Program): [string, number] => [variant, passes.length];
  const product = (software: boolean, variants: Variants, shape = {}): [string, number] =>
    named(emitMatmul(matmulKernel({ m: 64, n: 64, k: 512, ...shape }), { software, workgroupBytes: 16384, variants }));
  const loop = (size: number, length: number, variants: Variants = {}): [string, number] => {
    const index = affine(0, [0, size, length], ...(length > 1 ? ([[1, length, 1]] as const) : []));
    const value = { kind: "load", id: 1, dtype: "f32", source: 0, index, mask: undefined } as const;
    const kernel: LoopKernel = {
      kind: "loop",
      label: "loop",
      shape: [size],
      reductions: length > 1 ? [{ reduce: "sum", firstVariable: 1, shape: [length], value }] : [],
      stores: [
        {
          target: 1,
          index: affine(0, [0, size, 1]),
          value: length > 1 ? { kind: "result", id: 2, dtype: "f32", reduce: 0 } : value,
        },
      ],
      bindings: [
        { dtype: "f32", size: size * length, access: "read" },
        { dtype: "f32", size, access: "write" },
      ],
    };
    return named(emitLoop(kernel, { software: false, workgroupBytes: 16384, variants }));
  };

  test("of products; one split along k has two dispatches", () => {
    expect(product(true, {})).toEqual(["matmul block", 1]);
    expect(product(false, {}, { m: 4, transposeB: true })).toEqual(["matmul vector", 1]);
    expect(product(false, { matmul: "64x64x16/8x8" })).toEqual(["matmul 64x64x16/8x8", 1]);
    expect(product(false, { matmul: "32x32x16/4x4", slices: 2 })).toEqual(["matmul 32x32x16/4x4, 2 slices", 2]);
  });

  test("of loops and reductions", () => {
    expect(loop(64, 1)).toEqual(["loop", 1]);
    expect(loop(1 << 16, 1)).toEqual(["loop wide", 1]);
    expect(loop(64, 64)).toEqual(["reduce workgroup", 1]);
    expect(loop(64, 64, { reduce: "thread" })).toEqual(["reduce thread", 1]);
  });
});
