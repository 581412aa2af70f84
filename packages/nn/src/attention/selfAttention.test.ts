import { type Device, key, mul, normal, realise, type Tensor, tensor, treeFromPaths, treePaths } from "@mc/tensor";
import { range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { attentionInLoops, type HostParams, type Variant, variants } from "./fixtures/variants.ts";
import { type SelfAttentionOptions, type SelfAttentionParams, selfAttention, type TokenInfo } from "./selfAttention.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

const [batch, tokens] = [2, 7];
/** Three documents and padding, in other places in each row; positions begin again with each document. */
const documents = [
  [0, 0, 0, 1, 1, 1, -1],
  [5, 5, 5, 5, 5, 2, 2],
];
const restarted = [
  [0, 1, 2, 0, 1, 2, 0],
  [0, 1, 2, 3, 4, 0, 1],
];

/** Initial parameters, with biases, gains and sinks away from zero and one. */
async function paramsOf(options: SelfAttentionOptions, on: Device): Promise<SelfAttentionParams> {
  const leaves = treePaths<Tensor>(selfAttention(options).init(key(3, { device: on })));
  const drawn = leaves.map(([path, leaf], i) => {
    const x = normal(key(10 + i, { device: on }), leaf.shape);
    return [path, leaf.ndim > 1 ? mul(leaf, 2) : x] as const;
  });
  return (await realise(treeFromPaths(drawn))) as SelfAttentionParams;
}

const infoOf = ({ packed }: Variant, on: Device): TokenInfo =>
  packed
    ? {
        documents: tensor(documents, { dtype: "i32", device: on }),
        positions: tensor(restarted, { dtype: "i32", device: on }),
      }
    : {};

const inputOf = (on: Device): Promise<Tensor> => realise(normal(key(4, { device: on }), [batch, tokens, 12]));

async function hostParams(params: SelfAttentionParams): Promise<HostParams> {
  const leaves = await Promise.all(
    treePaths<Tensor>(params).map(async ([path, leaf]) => [path, await leaf.data()] as const),
  );
  return treeFromPaths(leaves) as unknown as HostParams;
}

describe.each(variants.map((variant) => [variant.title, variant] as const))("selfAttention: %s", (_, variant) => {
  const { options, packed } = variant;
  const layer = selfAttention(options);

  test("equals plain loops", async () => {
    const params = await paramsOf(options, device);
    const x = await inputOf(device);
    const { output, maxLogit } = layer.apply(params, x, infoOf(variant, device));
    const rows = (await x.toArray()) as number[][][];
    const host = await hostParams(params);
    const expected = rows.map((row, b) =>
      attentionInLoops(
        {
          x: row,
          positions: packed ? restarted[b]! : range(tokens),
          documents: packed ? documents[b]! : range(tokens).map(() => 0),
        },
        host,
        options,
      ),
    );
    await expect(output).toBeAllClose(
      expected.map((row) => row.output),
      { rtol: 1e-4, atol: 1e-5 },
    );
    const largest = range(4).map((h) => Math.max(...expected.map((row) => row.maxLogit[h]!)));
    await expect(maxLogit).toBeAllClose(largest, { rtol: 1e-4, atol: 1e-5 });
  });
});

describe("selfAttention", () => {
  test("has a role for each parameter; sinks are biases", async () => {
    for (const { options } of variants) {
      const layer = selfAttention(options);
      const leaves = treePaths<Tensor>(layer.init(key(1))).map(([path]) => path);
      expect(Object.keys(layer.roles).sort()).toEqual(leaves.sort());
    }
    expect(selfAttention({ features: 4, numHeads: 2, sinks: true }).roles.sinks).toEqual({ role: "bias" });
  });

  test("a window of one token gives each its own value, whatever the queries", async () => {
    const layer = selfAttention({ features: 4, numHeads: 1, window: 1 });
    const params = layer.init(key(1));
    const twice = { ...params, qkv: { weight: mul(params.qkv.weight, tensor(range(12).map((r) => [r < 8 ? 9 : 1]))) } };
    const x = normal(key(2), [1, 5, 4]);
    await expect(layer.apply(twice, x).output).toBeAllClose(layer.apply(params, x).output);
  });

  test("refuses options out of range", () => {
    const build = (options: object) => () => selfAttention({ features: 4, numHeads: 2, ...options });
    expect(build({ window: 0 })).toThrow("attention: window must be a positive integer, got 0");
    expect(build({ softCap: -1 })).toThrow("attention: softCap must be a positive number, got -1");
    expect(build({ numKeyValueHeads: 3 })).toThrow(
      "attention: numKeyValueHeads must divide numHeads, got 3 for 2 heads",
    );
    expect(build({ headDim: 3, rope: {} })).toThrow("so headDim must be even, got 3");
  });
});
