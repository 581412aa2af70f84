import {
  add,
  bernoulli,
  compile,
  explain,
  foldIn,
  gelu,
  key,
  matmul,
  mul,
  normal,
  realise,
  sin,
  sum,
  Tensor,
  treeLeaves,
  where,
} from "@mc/tensor";
import { oracleDevice, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { checkGrads, checkpoint, grad, valueAndGrad } from "./index.ts";

const device = await testDevice();
const oracle = await oracleDevice();

interface Block {
  readonly up: Tensor;
  readonly down: Tensor;
}
type Wrap = typeof checkpoint;
const plain: Wrap = (fn) => fn;

/** x + dropout(gelu(x up) down), and something that is not differentiated beside it. */
function block({ up, down }: Block, x: Tensor, info: { key: Tensor; rate: number }): { y: Tensor; largest: Tensor } {
  const inner = gelu(matmul(x, up));
  const kept = bernoulli(info.key, x.shape, 1 - info.rate);
  return { y: add(x, where(kept, matmul(inner, down), 0)), largest: sum(inner) };
}

const blocks = (count: number, width: number, on = device): Block[] =>
  Array.from({ length: count }, (_, i) => ({
    up: normal(foldIn(key(1, { device: on }), i), [width, 4 * width], { std: 0.3 }),
    down: normal(foldIn(key(2, { device: on }), i), [4 * width, width], { std: 0.3 }),
  }));

/** A loss over a stack of blocks, each passed through `wrap`. */
const lossOf = (wrap: Wrap) => (params: readonly Block[], x: Tensor) => {
  const layer = wrap(block);
  let y = x;
  params.forEach((p, i) => {
    y = layer(p, y, { key: foldIn(key(9, { device: x.device }), i), rate: 0.25 }).y;
  });
  return sum(mul(y, sin(y)));
};

const valuesOf = async (tree: unknown): Promise<number[][]> =>
  realise(treeLeaves<unknown>(tree).filter((x) => x instanceof Tensor)).then((leaves) =>
    Promise.all(leaves.map(async (x) => [...(await x.data())])),
  );

describe("checkpoint", () => {
  test.each([
    ["the host's device", device],
    ["float64", oracle],
  ])("gives the same value and gradients, random numbers included: %s", async (_, on) => {
    const params = blocks(2, 5, on);
    const x = normal(key(3, { device: on }), [7, 5]);
    const run = (wrap: Wrap) => valuesOf(compile(valueAndGrad(lossOf(wrap)))(params, x));
    const nested: Wrap = (fn) => checkpoint((...args) => checkpoint(fn)(...args));
    const expected = await run(plain);
    for (const wrap of on === oracle ? [checkpoint, nested] : [checkpoint]) {
      const actual = await run(wrap);
      // the CPU rounds every operation; on a GPU bits depend on how kernels fuse
      if (on.kind === "cpu") expect(actual).toEqual(expected);
      else
        actual.forEach((leaf, i) => {
          leaf.forEach((v, j) => {
            expect(Math.abs(v - expected[i]![j]!)).toBeLessThanOrEqual(1e-5 * (1 + Math.abs(expected[i]![j]!)));
          });
        });
    }
  });

  test("keeps less: intermediates of one block at a time instead of all", () => {
    const params = blocks(6, 16);
    const x = normal(key(3), [128, 16]);
    const bytes = (wrap: Wrap, count: number): number =>
      explain(compile(grad(lossOf(wrap))), params.slice(0, count), x).temporaryBytes;
    const perBlock = (wrap: Wrap): number => (bytes(wrap, 6) - bytes(wrap, 4)) / 2;
    const stream = 4 * 128 * 16; // one [128, 16] value
    expect(perBlock(checkpoint)).toBeLessThanOrEqual(1.1 * stream);
    expect(perBlock(plain)).toBeGreaterThanOrEqual(8 * stream);
  });

  test("has second derivatives", async () => {
    const square = checkpoint((w: Tensor, x: Tensor) => sin(matmul(x, mul(w, w))));
    const args = [normal(key(1, { device: oracle }), [4, 3]), normal(key(2, { device: oracle }), [2, 4])];
    await checkGrads((w, x) => sum(square(w!, x!)), args, { order: 2, tolerance: 1e-6 });
  });

  test("differentiates what the function captures", async () => {
    const run = (wrap: Wrap) =>
      valuesOf(
        grad(({ w, b }: { w: Tensor; b: Tensor }) => {
          const scaled = mul(b, 3);
          return sum(wrap((x: Tensor) => sin(add(mul(x, scaled), b)))(w));
        })({ w: normal(key(4), [6]), b: normal(key(5), [6]) }),
      );
    expect(await run(checkpoint)).toEqual(await run(plain));
  });

  test("takes results that are arguments, and results that nobody uses", async () => {
    const pass = checkpoint((a: Tensor, b: Tensor) => ({ a, both: [mul(a, b), add(a, b)] }));
    const f = (a: Tensor, b: Tensor): Tensor => {
      const { a: same, both } = pass(a, b);
      return sum(mul(same, both[0]!));
    };
    const a = normal(key(6), [5]);
    const b = normal(key(7), [5]);
    await expect(grad(f)(a, b)).toBeAllClose(mul(mul(a, b), 2));
  });

  test("is the function itself where no gradient is taken", async () => {
    const f = (x: Tensor) => ({ twice: mul(x, 2), label: "x" });
    const x = normal(key(8), [3]);
    expect(await valuesOf(checkpoint(f)(x).twice)).toEqual(await valuesOf(f(x).twice));
    expect(checkpoint(f)(x).label).toBe("x");
  });

  test("eager loops find their plan again", async () => {
    const params = blocks(2, 4);
    const x = normal(key(3), [3, 4]);
    const step = async (): Promise<number> => {
      await valuesOf(grad(lossOf(checkpoint))(params, x));
      return device.stats().pipelines;
    };
    const first = await step();
    expect(await step()).toBe(first);
  });
});
