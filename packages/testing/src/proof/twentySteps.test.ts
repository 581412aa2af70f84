// Twenty steps of a small model: Node and Chromium run the same WGSL, to the letter, and agree; the CPU device agrees with both.
// Hosts run one after the other; each compares itself with those that ran before it.
import { valueAndGrad } from "@mc/autograd";
import { type TransformerParams, transformer } from "@mc/nn";
import { muonClip, type OptimizerState } from "@mc/optim";
import { compile, explain, key, realise, sqrt, square, sum, type Tensor, tensor, treePaths } from "@mc/tensor";
import { expect, test } from "vitest";
import { relativeError } from "../compare.ts";
import { testDevice } from "../host.ts";
import { finishedHosts, host, readRecord, writeRecord } from "./record.ts";

// capabilities held equal: both GPU hosts generate code for a software adapter, whatever they run on
const device = await testDevice({ softwareAdapter: true });

interface Record20 {
  readonly hashes: readonly string[];
  readonly losses: readonly number[];
  /** 2-norm of each parameter after the last step, by path. */
  readonly norms: Readonly<Record<string, number>>;
  readonly clippedHeads: number;
}

async function twentySteps(): Promise<Record20> {
  const model = transformer({
    vocabSize: 48,
    hiddenSize: 32,
    numLayers: 2,
    attention: { numHeads: 4, numKeyValueHeads: 2 },
    initStd: 0.1,
  });
  const optimizer = muonClip({ learningRate: 4e-3, tau: 0.6, roles: model.roles, attention: model.attentionLayout });
  const step = compile(
    ({
      params,
      state,
      inputs,
      labels,
    }: {
      params: TransformerParams;
      state: OptimizerState;
      inputs: Tensor;
      labels: Tensor;
    }) => {
      const { value, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, { inputs, labels });
      return { ...optimizer.update(grads, state, params, { maxLogits: aux.maxLogits }), loss: value };
    },
    { donate: ["params", "state"] },
  );
  let params = await realise(model.init(key(11)));
  let state = optimizer.init(params);
  const ids = (t: number, shift: number): Tensor =>
    tensor(
      Int32Array.from({ length: 48 }, (_, i) => ((i + shift) * (i + shift) + 5 * t) % 48),
      { shape: [2, 24] },
    );
  const hashes = explain(step, { params, state, inputs: ids(0, 0), labels: ids(0, 1) }).kernels.map((k) => k.hash);
  const losses: number[] = [];
  let clippedHeads = 0;
  for (let t = 0; t < 20; t++) {
    const next = step({ params, state, inputs: ids(t, 0), labels: ids(t, 1) });
    ({ params, state } = next);
    losses.push(await next.loss.item());
    clippedHeads += await next.metrics.clippedHeads.item();
  }
  const norms: Record<string, number> = {};
  for (const [path, leaf] of treePaths<Tensor>(params)) norms[path] = await sqrt(sum(square(leaf))).item();
  return { hashes, losses, norms, clippedHeads };
}

test("twenty steps of a small model: hosts with a GPU run identical WGSL and agree to 1e-6, the CPU device to 1e-4", async () => {
  const mine = await twentySteps();
  expect(mine.losses.every(Number.isFinite)).toBe(true);
  expect(mine.losses.at(-1)).toBeLessThan(mine.losses[0]!);
  expect(mine.clippedHeads).toBeGreaterThan(0);
  await writeRecord("twenty-steps", mine);
  for (const other of finishedHosts) {
    const theirs = await readRecord<Record20>("twenty-steps", other);
    const bothGpu = device.kind === "webgpu" && other !== "cpu";
    if (bothGpu) expect(mine.hashes, `WGSL of ${host} and ${other}`).toEqual(theirs.hashes);
    const bound = bothGpu ? 1e-6 : 1e-4;
    expect(relativeError(mine.losses, theirs.losses), `losses of ${host} and ${other}`).toBeLessThan(bound);
    expect(Object.keys(mine.norms)).toEqual(Object.keys(theirs.norms));
    expect(
      relativeError(Object.values(mine.norms), Object.values(theirs.norms)),
      `parameters of ${host} and ${other}`,
    ).toBeLessThan(bound);
    expect(mine.clippedHeads).toBe(theirs.clippedHeads);
  }
});

test("twenty steps twice from one seed give the same numbers to the bit", async () => {
  const [a, b] = [await twentySteps(), await twentySteps()];
  expect(b).toEqual(a);
});
