import { compile, tensor, ValueError } from "@mc/tensor";
import { testDevice } from "@mc/testing";
import { expect, test } from "vitest";
import { adamw } from "./adamw.ts";
import { dynamicLossScale, lossScaleOf } from "./dynamicLossScale.ts";

await testDevice();

test("the scale grows after enough finite updates; a gradient that is not finite halves it and changes nothing else", async () => {
  const optimizer = dynamicLossScale(adamw({ learningRate: 0.1 }), { initial: 8, growthInterval: 2 });
  const plain = adamw({ learningRate: 0.1 });
  let params = { w: tensor([1, -2]), b: tensor([0.5]) };
  let state = optimizer.init(params);
  let expected = params;
  let expectedState = plain.init(params);
  const step = compile((p: typeof params, s: typeof state, g: typeof params) => optimizer.update(g, s, p));
  const good = { w: tensor([0.25, -1]), b: tensor([3]) };
  const scales: unknown[] = [];
  for (const grads of [good, good, { ...good, b: tensor([Number.NaN]) }, { ...good, w: tensor([1, Infinity]) }, good]) {
    const finite = grads === good;
    const next = step(params, state, grads);
    ({ params, state } = next);
    if (finite) ({ params: expected, state: expectedState } = plain.update(grads, expectedState, expected));
    expect(await next.lossScale.skipped.item()).toBe(finite ? 0 : 1);
    scales.push(await lossScaleOf(state).item());
    await expect(params.w).toBeAllClose(await expected.w.data());
    await expect(params.b).toBeAllClose(await expected.b.data());
    expect(await state.step.item()).toBe(await expectedState.step.item());
  }
  expect(scales).toEqual([8, 16, 8, 4, 4]);
});

test("options out of range and states without a scale are refused", () => {
  const inner = adamw({ learningRate: 0.1 });
  expect(() => dynamicLossScale(inner, { initial: 3 })).toThrow("initial must be a power of two from 1 to 2^24, got 3");
  expect(() => dynamicLossScale(inner, { growthInterval: 0 })).toThrow(
    "growthInterval must be a positive whole number",
  );
  expect(() => lossScaleOf(inner.init({ w: tensor([1]) }))).toThrow(ValueError);
});
