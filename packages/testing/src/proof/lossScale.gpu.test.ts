// Gradients below what f16 holds: zero in products on a matrix unit, right where the loss is scaled.
import { valueAndGrad } from "@mc/autograd";
import { dynamicLossScale, lossScaleOf, sgd } from "@mc/optim";
import { compile, matmul, mul, sub, sum, type Tensor, tensor } from "@mc/tensor";
import { expect, test } from "vitest";
import { testDevice } from "../host.ts";
import { random } from "../random.ts";

const tile = { rows: 16, columns: 16, depth: 8, down: 2, across: 2, band: 1 };
await testDevice({
  matmulPrecision: "f16",
  variants: { matrixUnit: "emulated", tensor: { tile, slices: 1, packed: [] } },
});

// the loss is a mean over so many elements that its gradient by y, 2^-28 (y - t), rounds to zero in f16
const weight = 2 ** -28;
const loss = (w: Tensor, x: Tensor, t: Tensor): Tensor => {
  const error = sub(matmul(x, w), t);
  return mul(sum(mul(error, error)), weight / 2);
};
const size = 16;
const values = (seed: number): Tensor => {
  const { next } = random(seed);
  return tensor(
    Float32Array.from({ length: size * size }, () => 2 * next() - 1),
    { shape: [size, size] },
  );
};

test("a gradient that underflows is zero without a loss scale and right with one", async () => {
  const [w, x, t] = [values(1), values(2), values(3)];
  const plain = await valueAndGrad(loss)(w, x, t).grads.data();
  expect([...plain].every((g) => g === 0)).toBe(true);
  const exact = (await f32Gradient(w, x, t)).map((g) => g / weight);
  for (const lossScale of [2 ** 24, tensor(2 ** 24)]) {
    const scaled = await valueAndGrad(loss, { lossScale })(w, x, t).grads.data();
    const errors = [...scaled].map((g, i) => Math.abs(g / weight - exact[i]!));
    expect(Math.max(...errors) / Math.max(...exact.map(Math.abs))).toBeLessThan(2 ** -9);
  }
});

test("training moves only with a loss scale, which finds itself", async () => {
  const [x, t] = [values(2), values(3)];
  const optimizer = dynamicLossScale(sgd({ learningRate: 0.1 / weight }), { initial: 2 ** 24, growthInterval: 4 });
  const step = compile((params: { w: Tensor }, state: ReturnType<typeof optimizer.init>) => {
    const f = (p: { w: Tensor }) => loss(p.w, x, t);
    const { value, grads } = valueAndGrad(f, { lossScale: lossScaleOf(state) })(params);
    return { ...optimizer.update(grads, state, params), value };
  });
  let params = { w: values(1) };
  let state = optimizer.init(params);
  const losses: number[] = [];
  for (let i = 0; i < 10; i++) {
    const next = step(params, state);
    ({ params, state } = next);
    losses.push((await next.value.item()) / weight);
  }
  expect(losses.at(-1)).toBeLessThan(losses[0]! / 2);
});

/** x^T (x w - t) weight, products in f32. */
async function f32Gradient(w: Tensor, x: Tensor, t: Tensor): Promise<number[]> {
  const exact = (p: Tensor): Tensor => {
    const error = sub(matmul(x, p, { precision: "f32" }), t);
    return mul(sum(mul(error, error)), weight / 2);
  };
  return [...(await valueAndGrad(exact)(w).grads.data())];
}
