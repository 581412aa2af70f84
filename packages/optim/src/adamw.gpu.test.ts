import { compile, explain, type Tensor, tensor } from "@mc/tensor";
import { oracleDevice, testDevice } from "@mc/testing";
import { expect, test } from "vitest";
import { adamw } from "./adamw.ts";
import type { OptimizerState } from "./types.ts";

const device = await testDevice();

test("AdamW on a large tensor is one kernel in place, four elements a thread; one thread writes the step", async () => {
  const rule = adamw({ learningRate: 0.1 });
  type Step = { params: { w: Tensor }; state: OptimizerState; grads: { w: Tensor } };
  const step = compile(({ params, state, grads }: Step) => rule.update(grads, state, params), {
    donate: ["params", "state"],
  });
  const values = (seed: number) => Float32Array.from({ length: 256 * 260 }, (_, i) => Math.sin(seed * (i + 1)));
  const make = (on: typeof device) => {
    const w = (seed: number) => ({ w: tensor(values(seed), { shape: [256, 260], device: on }) });
    return { params: w(1), grads: w(2) };
  };
  const start = make(device);
  const state = rule.init(start.params);
  const { kernels } = explain(step, { ...start, state });
  expect(kernels.length).toBe(1);
  expect(kernels[0]!.bindings.filter((b) => b.size > 1).map((b) => b.access)).toEqual(
    expect.arrayContaining(["read", "readwrite", "readwrite", "readwrite"]),
  );
  expect(kernels[0]!.code.match(/array<vec4<f32>>/g)?.length).toBe(4);
  expect(kernels[0]!.code).toContain("if (place == 0u) {");

  const oracle = make(await oracleDevice());
  let found = { params: start.params, state };
  let expected = { params: oracle.params, state: rule.init(oracle.params) };
  for (let i = 0; i < 2; i++) {
    found = step({ ...found, grads: start.grads });
    expected = rule.update(oracle.grads, expected.state, expected.params);
  }
  expect(await found.state.step.item()).toBe(2);
  await expect(found.params.w).toBeAllClose(expected.params.w, { rtol: 1e-5, atol: 1e-6 });
});
