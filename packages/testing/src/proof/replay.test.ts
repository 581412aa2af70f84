// A plan that is replayed must not have frozen anything: rates, batches, step counts, random keys.
import { valueAndGrad } from "@mc/autograd";
import { type TransformerParams, transformer } from "@mc/nn";
import { muonClip, type OptimizerState } from "@mc/optim";
import { compile, type Device, foldIn, key, realise, type Tensor, tensor, treePaths } from "@mc/tensor";
import { expect, test } from "vitest";
import { hostDevice, oracleDevice, testDevice } from "../host.ts";
import "../matchers.ts";

const device = await testDevice();

async function run(
  on: Device,
  compiled: boolean,
  steps: number,
): Promise<{ losses: number[]; params: TransformerParams; clipped: number }> {
  const model = transformer({
    vocabSize: 24,
    hiddenSize: 16,
    numLayers: 1,
    attention: { numHeads: 2 },
    feedForward: { intermediateSize: 24 },
    dropout: 0.1,
    initStd: 0.3,
  });
  const optimizer = muonClip({
    learningRate: 1,
    weightDecay: 0.1,
    tau: 1,
    roles: model.roles,
    attention: model.attentionLayout,
  });
  const step = ({
    params,
    state,
    inputs,
    labels,
    learningRate,
    count,
  }: {
    params: TransformerParams;
    state: OptimizerState;
    inputs: Tensor;
    labels: Tensor;
    learningRate: Tensor;
    count: Tensor;
  }) => {
    const dropoutKey = foldIn(tensor(new Uint32Array([0, 7]), { device: on }), count);
    const { value, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, {
      inputs,
      labels,
      key: dropoutKey,
    });
    return { ...optimizer.update(grads, state, params, { maxLogits: aux.maxLogits, learningRate }), loss: value };
  };
  const fn = compiled ? compile(step, { donate: ["params", "state"] }) : step;
  let params = await realise(model.init(key(3, { device: on })));
  let state = optimizer.init(params);
  const losses: number[] = [];
  let clipped = 0;
  for (let i = 0; i < steps; i++) {
    const ids = (shift: number): Tensor =>
      tensor(
        Int32Array.from({ length: 20 }, (_, k) => (k * k + 3 * i + shift) % 24),
        { shape: [2, 10], device: on },
      );
    const next = fn({
      params,
      state,
      inputs: ids(0),
      labels: ids(1),
      learningRate: tensor(0.01 / (1 + i), { device: on }),
      count: tensor(i, { dtype: "i32", device: on }),
    });
    ({ params, state } = next);
    await realise(next);
    losses.push(await next.loss.item());
    clipped += await next.metrics.clippedHeads.item();
  }
  return { losses, params, clipped };
}

// float64 is the same on every host: the CPU host checks it
const runs = [
  ["on the host's device", device, 1e-4] as const,
  ...(hostDevice === "cpu" ? [["in float64", await oracleDevice(), 1e-10] as const] : []),
];

test.each(runs)(
  "a compiled step replayed 50 times with changing rate, batch, step and key equals the uncompiled run %s",
  async (_, on, rtol) => {
    const steps = 50;
    const replayed = await run(on, true, steps);
    const plain = await run(on, false, steps);
    expect(plain.clipped).toBeGreaterThan(0);
    expect(replayed.clipped).toBe(plain.clipped);
    await expect(replayed.losses).toBeAllClose(plain.losses, { rtol, atol: 0 });
    const expected = new Map(treePaths<Tensor>(plain.params));
    for (const [path, leaf] of treePaths<Tensor>(replayed.params))
      await expect(leaf, path).toBeAllClose(expected.get(path)!, { rtol, atol: rtol });
    // the rates were used: later steps move less than the first
    expect(new Set(replayed.losses).size).toBe(steps);
  },
);
