import { valueAndGrad } from "@mc/autograd";
import { type Device, key, realise, type Tensor, tensor, treeLeaves } from "@mc/tensor";
import { oracleDevice, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { type TransformerConfig, transformer } from "./index.ts";

const device = await testDevice();
const oracle = await oracleDevice();

const base: TransformerConfig = {
  vocabSize: 11,
  hiddenSize: 12,
  numLayers: 2,
  attention: { numHeads: 2 },
  dropout: 0.25,
};
const mixture: TransformerConfig = {
  ...base,
  attention: { kind: "mla", numHeads: 2 },
  feedForward: { kind: "moe", numExperts: 4, numExpertsPerToken: 2, intermediateSize: 8, auxiliary: 0.1 },
};

/** Loss, what attention and routers say, and gradients of a batch with dropout, documents and a label that does not count. */
async function results(config: TransformerConfig, on: Device): Promise<number[][]> {
  const model = transformer(config);
  const ids = (rows: number[][]): Tensor => tensor(rows, { dtype: "i32", device: on });
  const batch = {
    inputs: ids([[1, 2, 3, 4, 5, 6, 7]]),
    labels: ids([[2, 3, 4, -100, 6, 7, 8]]),
    documents: ids([[0, 0, 0, 1, 1, 1, 1]]),
    key: key(5, { device: on }),
  };
  const { value, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(model.init(key(3, { device: on })), batch);
  const leaves = await realise(treeLeaves<Tensor>([value, aux, grads])); // in one plan
  return Promise.all(leaves.map(async (x) => [...(await x.data())]));
}

describe("transformer with checkpoint: true", () => {
  const cases: [string, TransformerConfig, Device][] = [["dense", base, device]];
  if (device.kind === "cpu") cases.push(["dense", base, oracle], ["mixture", mixture, oracle]);
  test.each(cases)("gives the loss and gradients of the one without: %s", async (_, config, on) => {
    const expected = await results(config, on);
    const actual = await results({ ...config, checkpoint: true }, on);
    // the CPU rounds every operation; on a GPU bits depend on how kernels fuse
    if (on.kind === "cpu") expect(actual).toEqual(expected);
    else
      actual.forEach((leaf, i) => {
        const size = Math.hypot(...expected[i]!);
        const error = Math.hypot(...leaf.map((v, j) => v - expected[i]![j]!));
        expect(error).toBeLessThanOrEqual(1e-5 * size + 1e-7);
      });
  });
});
