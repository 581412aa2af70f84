// Attention with a cache gives what attention of whole sequences gives: for every kind of layer, from prompts of unequal lengths.
import {
  type Device,
  key,
  mul,
  normal,
  realise,
  reshape,
  sliceAxis,
  type Tensor,
  takeAlongAxis,
  tensor,
  treeFromPaths,
  treePaths,
} from "@mc/tensor";
import { hostDevice, oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import type { KeyValueCache, LatentCache } from "./cache.ts";
import { variants } from "./fixtures/variants.ts";
import { type LatentAttentionOptions, latentAttention } from "./latentAttention.ts";
import { type AttentionLayer, selfAttention } from "./selfAttention.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

const [batch, tokens, features] = [2, 7, 12];
const lengths = [3, 1];
const i32 = (data: number[], on: Device): Tensor => tensor(data, { dtype: "i32", device: on });

const latent: LatentAttentionOptions = {
  features,
  numHeads: 3,
  keyValueRank: 8,
  nopeHeadDim: 4,
  ropeHeadDim: 2,
  valueHeadDim: 5,
};
const yarn = { kind: "yarn", factor: 4, originalMaxPositions: 8, betaFast: 2, betaSlow: 0.5 } as const;
const layers: [string, AttentionLayer<unknown>][] = [
  ...variants.map(({ title, options }): [string, AttentionLayer<unknown>] => [
    title,
    selfAttention(options) as AttentionLayer<unknown>,
  ]),
  ...Object.entries({
    "MLA with compressed queries and yarn": {
      queryRank: 8,
      rope: { theta: 100, scaling: { ...yarn, mscale: 0.8, mscaleAllDim: 1 } },
    },
    "MLA without query compression, biases": { rope: {}, bias: true },
    "MLA without rotation": {},
  }).map(([title, options]): [string, AttentionLayer<unknown>] => [
    title,
    latentAttention({ ...latent, ...options }) as AttentionLayer<unknown>,
  ]),
];

/** Initial parameters, with biases, gains and sinks away from zero and one. */
async function paramsOf(layer: AttentionLayer<unknown>, on: Device): Promise<unknown> {
  const leaves = treePaths<Tensor>(layer.init(key(3, { device: on })));
  return realise(
    treeFromPaths(
      leaves.map(([path, leaf], i) => [
        path,
        leaf.ndim > 1 ? mul(leaf, 2) : normal(key(10 + i, { device: on }), leaf.shape),
      ]),
    ),
  );
}

/** Largest difference between decoding and `apply`, over all tokens that were decoded or ended a prompt. */
async function worstDifference(layer: AttentionLayer<unknown>, on: Device): Promise<number> {
  const params = await paramsOf(layer, on);
  const x = await realise(normal(key(4, { device: on }), [batch, tokens, features]));
  const whole = (await layer.apply(params, x).output.toArray()) as number[][][];
  let worst = 0;
  const compare = async (output: Tensor, place: (b: number) => [given: number, token: number]): Promise<void> => {
    const rows = (await output.toArray()) as number[][][];
    for (const b of range(batch)) {
      const [given, token] = place(b);
      rows[b]![given]!.forEach((value, i) => {
        worst = Math.max(worst, Math.abs(value - whole[b]![token]![i]!));
      });
    }
  };
  // the rest of a shorter prompt is padding, here of other tokens
  let { output, cache } = layer.prefill(params, sliceAxis(x, 1, 0, 3), tokens);
  await compare(output, (b) => [lengths[b]! - 1, lengths[b]! - 1]);
  for (const step of range(tokens - Math.max(...lengths))) {
    const at = lengths.map((length) => length + step);
    const rows = takeAlongAxis(x, reshape(i32(at, on), [batch, 1, 1]), 1);
    ({ output, cache } = await realise(layer.decode(params, rows, i32(at, on), cache)));
    await compare(output, (b) => [0, at[b]!]);
  }
  return worst;
}

describe("prefill and decode equal apply", () => {
  const onGpu = layers.filter((_, i) => [7, 11, 14].includes(i) || i >= variants.length); // kernels take long to compile there
  test.each(hostDevice === "cpu" ? layers : onGpu)("%s", async (_, layer) => {
    expect(await worstDifference(layer, device)).toBeLessThan(1e-5);
  });

  // float64 is the CPU's, so the CPU's host is where it is tested
  test.each(hostDevice === "cpu" ? layers : [])("in float64: %s", async (_, layer) => {
    expect(await worstDifference(layer, await oracleDevice())).toBeLessThan(1e-10);
  });
});

describe("the cache", () => {
  test("of grouped queries holds the keys and values of the key heads", () => {
    const layer = selfAttention({ features, numHeads: 4, numKeyValueHeads: 2 });
    const { cache } = layer.prefill(layer.init(key(1)), normal(key(2), [batch, 3, features]), 9);
    expect(treePaths<Tensor>(cache).map(([path, x]) => [path, x.shape])).toEqual([
      ["keys", [batch, 2, 9, 3]],
      ["values", [batch, 2, 9, 3]],
    ]);
  });

  test("of latent attention holds latents and one rotated key a token", () => {
    const layer = latentAttention({ ...latent, rope: {} });
    const { cache } = layer.prefill(layer.init(key(1)), normal(key(2), [batch, 3, features]), 9);
    expect(treePaths<Tensor>(cache).map(([path, x]) => [path, x.shape])).toEqual([
      ["latents", [batch, 9, 8]],
      ["rotaryKeys", [batch, 9, 2]],
    ]);
  });

  test("a position outside of it gives NaN in its row alone, even where sinks take all that is left", async () => {
    const [x, token] = [normal(key(2), [3, 2, features]), normal(key(3), [3, 1, features])];
    const finite = (output: Tensor): Promise<boolean[]> =>
      output
        .data()
        .then((data) => range(3).map((b) => data.slice(b * features, (b + 1) * features).every(Number.isFinite)));
    const heads = selfAttention({ features, numHeads: 2, sinks: true });
    const params = heads.init(key(1));
    const positions = i32([4, -1, 3], device);
    const { output } = heads.decode(params, token, positions, heads.prefill(params, x, 4).cache as KeyValueCache);
    expect(await finite(output)).toEqual([false, false, true]);
    const mla = latentAttention(latent);
    const latentParams = mla.init(key(1));
    const second = mla.decode(latentParams, token, positions, mla.prefill(latentParams, x, 4).cache as LatentCache);
    expect(await finite(second.output)).toEqual([false, false, true]);
  });

  test("refuses prompts that do not fit, and tokens, positions and rows that do not belong together", () => {
    const layer = selfAttention({ features, numHeads: 2 });
    const params = layer.init(key(1));
    const x = normal(key(2), [batch, 3, features]);
    expect(() => layer.prefill(params, x, 2)).toThrow(
      "prefill: cacheLength must be an integer of at least the 3 tokens of the prompt, got 2",
    );
    const { cache } = layer.prefill(params, x, 4);
    const one = sliceAxis(x, 1, 0, 1);
    expect(() => layer.decode(params, x, i32([0, 0], device), cache)).toThrow(
      "decode: x must be one token a row, [B, 1, D], got shape [2, 3, 12]",
    );
    expect(() => layer.decode(params, one, i32([0], device), cache)).toThrow(
      "decode: positions must be i32 [2], one for each row, got i32 [1]",
    );
    expect(() => layer.decode(params, sliceAxis(one, 0, 0, 1), i32([0], device), cache)).toThrow(
      "decode: the cache holds 2 rows, got 1 tokens; make one row for each",
    );
  });
});
