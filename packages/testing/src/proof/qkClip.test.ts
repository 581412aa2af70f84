// QK-Clip is exact for a layer given that layer's input: fed the same recorded input, every head's largest logit becomes
// min(S, tau), and heads that were below tau are not touched.
import {
  type AttentionLayer,
  latentAttention,
  layerNorm,
  resolveConfig,
  rmsNorm,
  type SelfAttentionParams,
  selfAttention,
  type TransformerConfig,
  type TransformerParams,
  transformer,
} from "@mc/nn";
import { muonClip } from "@mc/optim";
import { type Device, key, realise, type Tensor, tensor, treeMap, treePaths } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { hostDevice, oracleDevice, testDevice } from "../host.ts";

const device = await testDevice();
const oracle = await oracleDevice();

const models: Record<string, TransformerConfig> = {
  "multi-head attention with rotary positions": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 3,
    attention: { numHeads: 4 },
    initStd: 0.35,
  },
  "grouped queries": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 3,
    attention: { numHeads: 4, numKeyValueHeads: 2 },
    initStd: 0.35,
  },
  "multi-head attention with biases and learned positions": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 2,
    attention: { numHeads: 4, bias: true },
    norm: { kind: "layernorm" },
    positions: { kind: "learned", maxPositions: 32 },
    initStd: 0.35,
  },
  "sliding windows, one for each layer": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 3,
    attention: { numHeads: 4, window: [2, 5, null] },
    initStd: 0.35,
  },
  ALiBi: {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 2,
    attention: { numHeads: 4 },
    positions: { kind: "alibi" },
    initStd: 0.35,
  },
  "a soft cap far below the logits, sinks, a window, grouped queries and stretched rotations": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 2,
    attention: { numHeads: 4, numKeyValueHeads: 2, bias: true, softCap: 0.5, sinks: true, window: 4 },
    positions: { scaling: { kind: "yarn", factor: 4, originalMaxPositions: 8 } },
    initStd: 0.35,
  },
  "ALiBi with a soft cap, sinks and a window": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 2,
    attention: { numHeads: 4, softCap: 2, sinks: true, window: 5 },
    positions: { kind: "alibi" },
    initStd: 0.35,
  },
  "latent attention with compressed queries": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 3,
    attention: { kind: "mla", numHeads: 4, queryRank: 24, keyValueRank: 16, valueHeadDim: 6 },
    positions: { scaling: { kind: "yarn", factor: 4, originalMaxPositions: 8, mscale: 0.8, mscaleAllDim: 1 } },
    initStd: 0.3,
  },
  "latent attention without query compression": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 2,
    attention: { kind: "mla", numHeads: 4, keyValueRank: 16, nopeHeadDim: 6, ropeHeadDim: 4 },
    initStd: 0.3,
  },
};

/** Largest logits of every layer, each fed the recorded input of that layer. */
async function maximaOn(
  config: TransformerConfig,
  params: TransformerParams,
  hidden: readonly Tensor[],
): Promise<number[][]> {
  const { attention, norm: normConfig, positions, hiddenSize: features } = resolveConfig(config);
  const norm = normConfig.kind === "layernorm" ? layerNorm({ features }) : rmsNorm({ features });
  const { kind, maxPositions: _, ...rotation } = positions;
  const shared = { features, ...(kind === "rope" && { rope: rotation }) };
  return Promise.all(
    params.layers.map(async (p, i) => {
      const layer =
        attention.kind === "mla"
          ? latentAttention({ ...attention, ...shared })
          : selfAttention({ ...attention, ...shared, window: attention.window[i]!, alibi: kind === "alibi" });
      const { apply } = layer as AttentionLayer<unknown>;
      return Array.from(await apply(p.attention, norm.apply(p.attentionNorm, hidden[i]!)).maxLogit.data());
    }),
  );
}

// Kernels take long to compile on the software adapters of the GPU hosts: those models whose parts the others have are for the CPU.
const forCpu = [
  "grouped queries",
  "sliding windows, one for each layer",
  "ALiBi",
  "latent attention without query compression",
];
const here = Object.entries(models).filter(([name]) => hostDevice === "cpu" || !forCpu.includes(name));
const devices = [
  ...(hostDevice === "cpu" ? ([["in float64", oracle, 1e-10]] as const) : []),
  ["on the host's device", device, 1e-5],
] as const;

describe.each(here)("QK-Clip on %s", (_, config) => {
  test.each(devices)(
    "gives S = min(S, tau) for every head %s, and leaves the others alone to the bit",
    async (_, on, tolerance) => {
      await check(config, on, tolerance);
    },
  );
});

async function check(config: TransformerConfig, on: Device, tolerance: number): Promise<void> {
  const model = transformer(config);
  // biases are born zero: give them something to clip
  const params = treeMap((x: Tensor) => x, await realise(model.init(key(5, { device: on }))));
  for (const layer of params.layers) {
    const { qkv } = layer.attention as Partial<SelfAttentionParams>;
    const bias = qkv?.bias;
    if (qkv && bias)
      qkv.bias = tensor(
        Float32Array.from({ length: bias.size }, (_, i) => Math.sin(i) / 2),
        { device: on },
      );
  }
  const inputs = tensor(
    Int32Array.from({ length: 24 }, (_, i) => (7 * i * i + i) % 40),
    { shape: [2, 12], device: on },
  );
  const { hidden, maxLogits } = model.apply(params, inputs, { hidden: true });
  const before = await maximaOn(config, params, hidden!);
  // the layers alone measure what the model measured
  const measured = await Promise.all(maxLogits.map(async (s) => Array.from(await s.data())));
  for (const [i, row] of measured.entries())
    for (const [h, s] of row.entries()) expect(Math.abs(s - before[i]![h]!)).toBeLessThan(1e-4);
  // half of the heads are above tau
  const sorted = before.flat().sort((a, b) => a - b);
  const tau = (sorted[sorted.length / 2 - 1]! + sorted[sorted.length / 2]!) / 2;

  const optimizer = muonClip({
    learningRate: 0,
    weightDecay: 0.1,
    tau,
    roles: model.roles,
    attention: model.attentionLayout,
  });
  const grads = treeMap((x: Tensor) => x, params);
  const next = optimizer.update(grads, optimizer.init(params), params, {
    maxLogits: before.map((row) => tensor(row, { device: on })),
  });
  const after = await maximaOn(config, next.params, hidden!);
  for (const [i, row] of before.entries()) {
    for (const [h, s] of row.entries())
      expect(
        Math.abs(after[i]![h]! - Math.min(s, tau)),
        `layer ${i} head ${h}: S ${s} became ${after[i]![h]}`,
      ).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(s)));
  }
  expect(await next.metrics.clippedHeads.item()).toBe(before.flat().filter((s) => s > tau).length);

  // rows of clipped heads may change; everything else is the same to the bit
  const mayChange = new Map<string, Set<number>>();
  for (const layout of model.attentionLayout) {
    layout.heads.forEach((head, h) => {
      if (before[layout.layer]![h]! <= tau) return;
      const ranges = [...head.query, ...(head.queryRotary ?? []), ...(layout.kind === "gqa" ? [] : head.key)];
      for (const { path, start, rows } of ranges)
        for (let r = start; r < start + rows; r++) mayChange.set(path, (mayChange.get(path) ?? new Set()).add(r));
    });
  }
  const old = new Map(treePaths<Tensor>(params));
  for (const [path, leaf] of treePaths<Tensor>(next.params)) {
    const [a, b] = await Promise.all([leaf.data(), old.get(path)!.data()]);
    const width = leaf.size / leaf.shape[0]!;
    const changed = new Set(Array.from(a, (v, i) => (v === b[i] ? -1 : Math.floor(i / width))).filter((r) => r >= 0));
    expect(
      [...changed].filter((r) => !mayChange.get(path)?.has(r)),
      `${path}: rows that changed although no clipped head owns them`,
    ).toEqual([]);
  }
}
