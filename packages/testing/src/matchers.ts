// matchers.ts: `expect(tensor).toBeAllClose(...)`.
import type { Tensor } from "@mc/tensor";
import { expect } from "vitest";
import { findMismatch, type Numbers, type Tolerance } from "./compare.ts";

/** What the matcher accepts on either side: a tensor (its shape is compared too), an array, nested arrays or a number. */
export type Comparable = Tensor | Numbers | number | readonly unknown[];

interface AllCloseMatchers<R> {
  /**
   * Every element satisfies `|actual - expected| <= atol + rtol * |expected|` (defaults 1e-6 and 1e-5); NaN equals NaN only,
   * compared by bits. Reads tensors, so it must be awaited.
   *
   * @example
   * await expect(add(x, 1)).toBeAllClose([[2, 3]], { rtol: 1e-6 });
   */
  toBeAllClose(expected: Comparable, tolerance?: Tolerance): Promise<R>;
}

declare module "vitest" {
  // biome-ignore lint/suspicious/noExplicitAny: must repeat vitest's own declaration to extend it
  interface Matchers<T = any> extends AllCloseMatchers<T> {}
}

interface Flat {
  readonly numbers: Numbers;
  readonly shape: readonly number[] | undefined;
}

const isTensor = (value: unknown): value is Tensor =>
  typeof value === "object" && value !== null && "dtype" in value && "data" in value;

async function flatten(value: Comparable): Promise<Flat> {
  if (typeof value === "number") return { numbers: [value], shape: undefined };
  if (isTensor(value)) return { numbers: await value.data(), shape: value.shape };
  if (ArrayBuffer.isView(value)) return { numbers: value as unknown as Numbers, shape: undefined };
  const nested = value as readonly unknown[];
  if (nested.every((v) => typeof v === "number")) return { numbers: nested as readonly number[], shape: undefined };
  const shape: number[] = [];
  for (let level: unknown = nested; Array.isArray(level); level = level[0]) shape.push(level.length);
  return { numbers: (nested as number[][]).flat(Number.POSITIVE_INFINITY) as number[], shape };
}

const coordinates = (index: number, shape: readonly number[]): string => {
  const out: number[] = [];
  let rest = index;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    out.unshift(rest % shape[axis]!);
    rest = Math.floor(rest / shape[axis]!);
  }
  return `[${out.join(", ")}]`;
};

expect.extend({
  async toBeAllClose(received: Comparable, expected: Comparable, tolerance: Tolerance = {}) {
    const [actual, wanted] = await Promise.all([flatten(received), flatten(expected)]);
    const fail = (text: string) => ({ pass: false, message: () => text });
    if (actual.shape && wanted.shape && actual.shape.join() !== wanted.shape.join()) {
      return fail(`shapes must agree, got [${actual.shape.join(", ")}] and expected [${wanted.shape.join(", ")}]`);
    }
    if (actual.numbers.length !== wanted.numbers.length) {
      return fail(`sizes must agree, got ${actual.numbers.length} elements and expected ${wanted.numbers.length}`);
    }
    const found = findMismatch(actual.numbers, wanted.numbers, tolerance);
    if (!found)
      return {
        pass: true,
        message: () => `expected a difference beyond rtol ${tolerance.rtol ?? 1e-5}, atol ${tolerance.atol ?? 1e-6}`,
      };
    const place = actual.shape ? `${found.index} ${coordinates(found.index, actual.shape)}` : `${found.index}`;
    return fail(
      `${found.count} of ${actual.numbers.length} elements differ by more than rtol ${tolerance.rtol ?? 1e-5}, atol ${tolerance.atol ?? 1e-6}; ` +
        `worst at ${place}: got ${found.actual}, expected ${found.expected} (difference ${Math.abs(found.actual - found.expected).toExponential(2)})`,
    );
  },
});
