// Gradients of the attention layers where their options meet, in float64.
import { checkGrads } from "@mc/autograd";
import { key, mul, normal, realise, type Tensor, tensor, treeFromPaths, treePaths } from "@mc/tensor";
import { oracleDevice } from "@mc/testing";
import { describe, test } from "vitest";
import { variants } from "./fixtures/variants.ts";
import { latentAttention } from "./latentAttention.ts";
import { type AttentionLayer, selfAttention, type TokenInfo } from "./selfAttention.ts";

const device = await oracleDevice();
const yarn = { kind: "yarn", factor: 4, originalMaxPositions: 8, mscale: 0.8, mscaleAllDim: 1 } as const;
const packed: TokenInfo = {
  documents: tensor([[0, 0, 0, 1, 1, -1]], { dtype: "i32", device }),
  positions: tensor([[0, 1, 2, 0, 1, 0]], { dtype: "i32", device }),
};

async function check<P>(layer: AttentionLayer<P>, info: TokenInfo): Promise<void> {
  const leaves = treePaths<Tensor>(layer.init(key(3, { device }))).map(
    ([path, leaf], i) => [path, leaf.ndim > 1 ? mul(leaf, 2) : normal(key(10 + i, { device }), leaf.shape)] as const,
  );
  const args = await realise([normal(key(4, { device }), [1, 6, 12]), ...leaves.map(([, leaf]) => leaf)]);
  const output = (x: Tensor, ...values: Tensor[]): Tensor =>
    layer.apply(treeFromPaths(leaves.map(([path], i) => [path, values[i]!] as const)) as P, x, info).output;
  await checkGrads(output as (...args: Tensor[]) => Tensor, args as Tensor[], { order: 2, tolerance: 1e-5 });
}

describe("gradients in float64, of first and second order, are central differences", () => {
  test.each(variants.map((variant) => [variant.title, variant] as const))("%s", async (_, variant) => {
    await check(selfAttention(variant.options), variant.packed ? packed : {});
  });

  // the gradient of the keys' bias is zero, unless something sees that all logits of a row shift alike
  test.each([
    ["biases alone", {}],
    ["biases and ALiBi", { alibi: true }],
    ["biases and a soft cap", { softCap: 1 }],
    ["biases and sinks", { sinks: true }],
  ])("%s", async (_, options) => {
    await check(selfAttention({ features: 12, numHeads: 2, bias: { qkv: true, output: false }, ...options }), {});
  });

  test.each([
    ["compressed queries, yarn, documents", { queryRank: 8, rope: { theta: 100, scaling: yarn } }, packed],
    ["no query compression, biases, no rotation", { bias: true }, {}],
  ])("latent attention with %s", async (_, options, info) => {
    const sizes = { features: 12, numHeads: 3, keyValueRank: 8, nopeHeadDim: 4, ropeHeadDim: 2, valueHeadDim: 5 };
    await check(latentAttention({ ...sizes, ...options }), info);
  });
});
