// What plans keep in memory: pinned, so that a change of the scheduler that costs memory shows. Planning only; nothing runs.
import { valueAndGrad } from "@mc/autograd";
import { type TransformerBatch, type TransformerConfig, type TransformerParams, transformer } from "@mc/nn";
import { adamw, type OptimizerState } from "@mc/optim";
import { compile, explain, key, matmul, realise, sum, type Tensor, tanh, tensor, zeros } from "@mc/tensor";
import { expect, test } from "vitest";
import { testDevice } from "../host.ts";

await testDevice();

test("a slot serves values of any size, one after the other", async () => {
  const widths = [64, 60, 48, 32, 24, 16, 8];
  const f = (x: Tensor, ...weights: Tensor[]): Tensor => sum(weights.reduce((h, w) => matmul(h, w), x));
  const weights = widths.slice(1).map((n, i) => zeros([widths[i]!, n]));
  const plan = explain(f, await realise(zeros([100, 64])), ...(await realise(weights)));
  // never more than two of them at once
  expect(plan.temporaryBytes).toBeLessThanOrEqual(4 * 100 * (60 + 48) + 1024);
});

test("what is only wanted late is computed late: as many values as are alive at once, not as there are", async () => {
  const count = 12;
  const xs = await realise(Array.from({ length: count }, () => zeros([32, 32])));
  // each term frees itself; the sums are written after all terms
  const f = (...xs: Tensor[]): Tensor =>
    xs.map((x) => matmul(tanh(matmul(x, x)), x)).reduce((a, b) => matmul(a, b)) as Tensor;
  expect(explain(f, ...xs).temporaryBytes).toBeLessThanOrEqual(4 * 32 * 32 * 4);
});

const batchSize = 4;
const tokens = 64;
const hiddenSize = 16;

/** Bytes of intermediates of a training step. */
async function stepBytes(config: Partial<TransformerConfig>): Promise<number> {
  const model = transformer({
    vocabSize: 32,
    hiddenSize,
    numLayers: 2,
    attention: { numHeads: 2 },
    feedForward: { kind: "gelu" },
    ...config,
  });
  const optimizer = adamw({ learningRate: 1e-3 });
  const params = await realise(model.init(key(1)));
  const state = await realise(optimizer.init(params));
  const ids = tensor(new Int32Array(batchSize * tokens), { shape: [batchSize, tokens] });
  const step = compile(
    (given: { params: TransformerParams; state: OptimizerState; batch: TransformerBatch }) => {
      const { value, grads } = valueAndGrad(model.loss, { hasAux: true })(given.params, given.batch);
      return { ...optimizer.update(grads, given.state, given.params), loss: value };
    },
    { donate: ["params", "state"] },
  );
  return explain(step, { params, state, batch: { inputs: ids, labels: ids } }).temporaryBytes;
}

test("a training step keeps 18 values of a layer's width for each layer, with checkpoints one, and small gradients", async () => {
  const unit = 4 * batchSize * tokens * hiddenSize;
  const perLayer = async (checkpoint: boolean): Promise<number> =>
    ((await stepBytes({ numLayers: 3, checkpoint })) - (await stepBytes({ numLayers: 2, checkpoint }))) / unit;
  // gradients of small weights wait for each other, to be one update: 12 x 16 x 16 elements of a layer
  const gradients = (4 * 12 * hiddenSize ** 2) / unit;
  // norms 2, residual stream 2, q k v 3, rotated q k 2, attention 1, MLP 2 x 4, and rows' maxima and the like
  expect(await perLayer(false)).toBeLessThanOrEqual(18.3 + gradients);
  expect(await perLayer(true)).toBeLessThanOrEqual(1 + gradients);
});
