// How many kernels common programs take: pinned, so that a change of the scheduler that costs dispatches shows.
import { valueAndGrad } from "@mc/autograd";
import { type TransformerParams, transformer } from "@mc/nn";
import { adamw, muon, muonClip, type Optimizer, type OptimizerState } from "@mc/optim";
import { add, compile, explain, gelu, key, mul, ones, realise, type Tensor, tensor } from "@mc/tensor";
import { expect, test } from "vitest";
import { testDevice } from "../host.ts";

await testDevice();

test("gelu(x * w + b) is one kernel", () => {
  const f = (x: Tensor, w: Tensor, b: Tensor): Tensor => gelu(add(mul(x, w), b));
  expect(explain(f, ones([8, 16]), ones([16]), ones([16])).kernels.length).toBe(1);
});

test("AdamW over 100 tensors takes at most 2 dispatches", async () => {
  const shapes = [[16, 16], [16], [64, 16], [16, 64]];
  const tree = (value: number): Record<string, Tensor> =>
    Object.fromEntries(
      Array.from({ length: 100 }, (_, i) => [
        `p${i}`,
        tensor(new Float32Array(shapes[i % 4]!.reduce((a, b) => a * b)).fill(value), { shape: shapes[i % 4] }),
      ]),
    );
  const optimizer = adamw({ learningRate: 1e-3, weightDecay: 0.1 });
  const params = tree(1);
  const state = optimizer.init(params);
  await realise(state);
  const step = compile(
    ({
      params,
      state,
      grads,
    }: {
      params: Record<string, Tensor>;
      state: OptimizerState;
      grads: Record<string, Tensor>;
    }) => optimizer.update(grads, state, params),
    { donate: ["params", "state"] },
  );
  expect(explain(step, { params, state, grads: tree(0.5) }).kernels.length).toBeLessThanOrEqual(2);
});

test("the forward of a Llama layer takes at most 20 kernels", () => {
  const count = (numLayers: number): number => {
    const model = transformer({
      vocabSize: 64,
      hiddenSize: 32,
      numLayers,
      attention: { numHeads: 4, numKeyValueHeads: 2 },
    });
    const inputs = tensor(new Int32Array(2 * 16), { shape: [2, 16] });
    return explain(
      (params: ReturnType<typeof model.init>, ids: Tensor) => model.apply(params, ids),
      model.init(key(1)),
      inputs,
    ).kernels.length;
  };
  expect(count(2) - count(1)).toBeLessThanOrEqual(20);
});

test("QK-Clip takes three kernels beside a step with Muon, whatever the number of layers", () => {
  const model = transformer({
    vocabSize: 32,
    hiddenSize: 16,
    numLayers: 4,
    attention: { numHeads: 2 },
    feedForward: { kind: "gelu" },
  });
  const params = model.init(key(1));
  const ids = tensor(new Int32Array(2 * 8), { shape: [2, 8] });
  const count = (optimizer: Optimizer): number => {
    const state = optimizer.init(params);
    const step = compile(
      ({ params, state }: { params: TransformerParams; state: OptimizerState }) => {
        const { value, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, { inputs: ids, labels: ids });
        const next = optimizer.update(grads, state, params, { maxLogits: aux.maxLogits });
        return { params: next.params, state: next.state, loss: value };
      },
      { donate: true },
    );
    return explain(step, { params, state }).kernels.length;
  };
  const options = { learningRate: 1e-3, roles: model.roles };
  const clip = count(muonClip({ ...options, attention: model.attentionLayout })) - count(muon(options));
  expect(clip).toBeLessThanOrEqual(3);
});
