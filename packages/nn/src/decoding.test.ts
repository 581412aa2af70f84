// prefill and decode: token by token with a cache, the logits are those of whole sequences, for every kind of model.
import { compile, type Device, key, mul, realise, type Tensor, tensor, treeLeaves, treeMap, zeros } from "@mc/tensor";
import { hostDevice, oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { attentionInLoops, type HostParams } from "./attention/fixtures/variants.ts";
import type { SelfAttentionOptions, SelfAttentionParams } from "./attention/selfAttention.ts";
import type { TransformerConfig } from "./config.ts";
import { type TransformerParams, transformer } from "./transformer.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

const sizes = { vocabSize: 13, hiddenSize: 16, numLayers: 2 };
const yarn = { kind: "yarn", factor: 4, originalMaxPositions: 8, mscale: 0.8, mscaleAllDim: 1 } as const;
const configs: Record<string, TransformerConfig> = {
  "MHA with rotary positions": { ...sizes, attention: { numHeads: 2 } },
  "GQA, interleaved yarn, windows, soft cap, sinks, QK-norm": {
    ...sizes,
    attention: { numHeads: 4, numKeyValueHeads: 2, window: [3, null], softCap: 2, sinks: true, qkNorm: true },
    positions: { pairing: "interleaved", scaling: yarn },
  },
  "ALiBi, biases, a tied head": {
    ...sizes,
    attention: { numHeads: 4, bias: true },
    positions: { kind: "alibi" },
    tiedHead: true,
  },
  "learned positions, LayerNorm, GELU": {
    ...sizes,
    attention: { numHeads: 2 },
    feedForward: { kind: "gelu", bias: true },
    norm: { kind: "layernorm" },
    positions: { kind: "learned", maxPositions: 9 },
  },
  "sinusoidal positions": { ...sizes, attention: { numHeads: 2, window: 4 }, positions: { kind: "sinusoidal" } },
  "no positions": { ...sizes, attention: { numHeads: 2 }, positions: { kind: "none" } },
  "MLA with compressed queries and yarn": {
    ...sizes,
    attention: { kind: "mla", numHeads: 2, queryRank: 8, valueHeadDim: 6 },
    positions: { scaling: yarn },
  },
  "MLA without query compression, and experts": {
    ...sizes,
    attention: { kind: "mla", numHeads: 2 },
    feedForward: { kind: "moe", numExperts: 4, numExpertsPerToken: 2, numSharedExperts: 1, numDenseLayers: 1 },
  },
};

const i32 = (data: number[] | number[][], on: Device = device): Tensor => tensor(data, { dtype: "i32", device: on });
/** Initial matrices are so small that all tokens look alike; these are not. */
const lively = (params: TransformerParams): TransformerParams =>
  treeMap((x: Tensor) => (x.ndim > 1 ? mul(x, 15) : x), params) as TransformerParams;

const sequences = [
  [1, 2, 3, 4, 5, 6, 7, 8, 9],
  [3, 1, 4, 1, 5, 9, 2, 6, 5],
];
const lengths = [4, 2];
const prompts = [
  [1, 2, 3, 4],
  [3, 1, 0, 0],
];

/** Largest difference of the logits after each token, from each prompt's last token on. */
async function worstDifference(config: TransformerConfig, on: Device): Promise<number> {
  const model = transformer(config);
  const params = await realise(lively(model.init(key(1, { device: on }))));
  const whole = (await model.apply(params, i32(sequences, on)).logits.toArray()) as number[][][];
  let worst = 0;
  const compare = async (logits: Tensor, at: number[]): Promise<void> => {
    const rows = (await logits.toArray()) as number[][];
    rows.forEach((row, b) => {
      row.forEach((value, i) => {
        worst = Math.max(worst, Math.abs(value - whole[b]![at[b]!]![i]!));
      });
    });
  };
  const decode = compile(model.decode, { donate: [3] });
  let { logits, cache } = await realise(model.prefill(params, i32(prompts, on), i32(lengths, on), 9));
  await compare(logits, [3, 1]);
  for (const step of range(5)) {
    const at = lengths.map((length) => length + step);
    const ids = at.map((place, b) => sequences[b]![place]!);
    ({ logits, cache } = decode(params, i32(ids, on), i32(at, on), cache));
    await compare(logits, at);
  }
  return worst;
}

/** Kernels take long to compile on the software adapters of the GPU hosts: a model of each kind of attention is enough there. */
const compiled = [
  "GQA, interleaved yarn, windows, soft cap, sinks, QK-norm",
  "MLA without query compression, and experts",
];
const here = Object.entries(configs).filter(([name]) => hostDevice === "cpu" || compiled.includes(name));

describe.each(here)("prefill and decode with %s", (_, config) => {
  test("give the logits of whole sequences, for prompts of unequal lengths", async () => {
    expect(await worstDifference(config, device)).toBeLessThan(5e-5);
  });
});

// float64 is the CPU's, so the CPU's host is where it is tested
test.each(hostDevice === "cpu" ? here : [])("prefill and decode in float64 to 1e-10 with %s", async (_, config) => {
  expect(await worstDifference(config, await oracleDevice())).toBeLessThan(1e-10);
});

/** The buffer that holds a tensor. */
const handleOf = ({ node: { kind } }: Tensor): unknown => (kind.kind === "buffer" ? kind.storage.handle : undefined);

describe("transformer.decode", () => {
  test.each([
    ["grouped queries", { numHeads: 2, numKeyValueHeads: 1 }],
    ["latent attention", { kind: "mla", numHeads: 2 }],
  ] as const)(
    "compiled with its cache donated, runs 200 tokens on one plan and in flat memory: %s",
    async (_, attention) => {
      const model = transformer({ vocabSize: 7, hiddenSize: 8, numLayers: 1, attention });
      let traces = 0;
      const decode = compile(
        (...args: Parameters<typeof model.decode>) => {
          traces++;
          return model.decode(...args);
        },
        { donate: [3] },
      );
      const params = await realise(model.init(key(1)));
      const prompt = [i32([[1, 2, 3]]), i32([3])] as const;
      let { logits, cache } = await realise(model.prefill(params, ...prompt, 256));
      const memory = treeLeaves<Tensor>(cache).map(handleOf);
      const figures: { live: number; bindGroups: number; created: number }[] = [];
      for (let place = 3; place < 203; place++) {
        logits.dispose();
        using ids = i32([place % 7]);
        using positions = i32([place]);
        ({ logits, cache } = decode(params, ids, positions, cache));
        if (place % 20 === 0) await logits.data();
        if (place === 60 || place === 200)
          figures.push({
            live: device.memory().liveBytes,
            bindGroups: device.stats().bindGroups,
            created: device.stats().buffersCreated,
          });
      }
      treeLeaves<Tensor>(cache).forEach((x, i) => {
        expect(handleOf(x), "each is written where it lay").toBe(memory[i]);
      });
      expect(traces).toBe(1);
      expect(figures[1]!.live).toBeLessThanOrEqual(figures[0]!.live); // the collector may find earlier tests' tensors
      expect(figures[1]!.bindGroups).toBe(figures[0]!.bindGroups);
      if (hostDevice === "webgpu") expect(figures[1]!.created).toBe(figures[0]!.created);
    },
  );

  test("refuses what does not belong together, and caches past the model's positions", () => {
    const model = transformer({ ...sizes, attention: { numHeads: 2 }, positions: { maxPositions: 8 } });
    const params = model.init(key(1));
    const prefill =
      (...args: [ids: number[][], lengths: number[], cacheLength: number]) =>
      () =>
        model.prefill(params, i32(args[0]), i32(args[1]), args[2]);
    expect(prefill([range(9)], [9], 9)).toThrow(
      "transformer: the model has 8 positions, got a sequence of 9 tokens; cut it, or raise positions.maxPositions",
    );
    expect(prefill([[1]], [1], 9)).toThrow("transformer: the model has 8 positions, got a cache of 9 tokens; cut it");
    expect(prefill([[1], [2]], [1], 8)).toThrow("transformer: lengths must be [2], got shape [1]");
    const { cache } = model.prefill(params, i32([[1, 2]]), i32([2]), 8);
    expect(() => model.decode(params, i32([[1]]), i32([2]), cache)).toThrow(
      "transformer: ids must be [B], got shape [1, 1]",
    );
    expect(() => model.decode(params, i32([1]), zeros([1]), cache)).toThrow(
      "transformer: positions must be i32, got f32",
    );
    expect(() => model.decode(params, i32([1]), i32([2]), cache.slice(1))).toThrow(
      "transformer: cache must have an entry for each of the 2 layers, got 1",
    );
    const { cache: longer } = transformer({ ...sizes, attention: { numHeads: 2 } }).prefill(
      params,
      i32([[1]]),
      i32([1]),
      9,
    );
    expect(() => model.decode(params, i32([1]), i32([1]), longer)).toThrow(
      "transformer: the model has 8 positions, got a cache of 9 tokens",
    );
    expect(() =>
      transformer({ ...sizes, attention: { kind: "mla", numHeads: 2 }, positions: { kind: "alibi" } }),
    ).toThrow('transformer: positions of kind "alibi" need attention of kind "mha" or "gqa", got "mla"');
  });
});

describe("what attention adds to the residual stream equals plain loops", () => {
  const documents = [[0, 0, 0, 1, 1, 1, 1, 2, 2]];
  const places = [[0, 1, 2, 0, 1, 2, 3, 0, 1]];
  const packed: Record<string, [config: TransformerConfig, layers: Partial<SelfAttentionOptions>[]]> = {
    "ALiBi, a window in the first layer": [
      { ...sizes, attention: { numHeads: 4, window: [2, null] }, positions: { kind: "alibi" } },
      [{ alibi: true, window: 2 }, { alibi: true }],
    ],
    "sinusoidal positions and a soft cap": [
      { ...sizes, attention: { numHeads: 4, softCap: 1 }, positions: { kind: "sinusoidal" } },
      [{ softCap: 1 }, { softCap: 1 }],
    ],
    "learned positions and sinks": [
      { ...sizes, attention: { numHeads: 4, sinks: true }, positions: { kind: "learned", maxPositions: 9 } },
      [{ sinks: true }, { sinks: true }],
    ],
    "linear scaling and QK-norm": [
      {
        ...sizes,
        attention: { numHeads: 4, numKeyValueHeads: 2, qkNorm: true },
        positions: { scaling: { kind: "linear", factor: 3 } },
      },
      range(2).map(() => ({
        numKeyValueHeads: 2,
        qkNorm: true,
        rope: { theta: 10000, scaling: { kind: "linear", factor: 3 } as const },
      })),
    ],
  };

  test.each(Object.entries(packed))("%s", async (_, [config, layers]) => {
    const model = transformer(config);
    const drawn = lively(model.init(key(2)));
    const params = await realise({
      ...drawn,
      layers: drawn.layers.map((layer) => ({
        ...layer,
        feedForward: treeMap((x: Tensor) => mul(x, 0), layer.feedForward) as typeof layer.feedForward,
      })),
    });
    const options = { documents: i32(documents), positions: i32(places), hidden: true };
    const { hidden } = model.apply(params, i32([sequences[0]!]), options);
    const streams = (await Promise.all(hidden!.map((x) => x.toArray()))) as number[][][][];

    const table = (await params.embedding.weight.toArray()) as number[][];
    const learned = (await params.positions?.weight.toArray()) as number[][] | undefined;
    const placed = sequences[0]!.map((id, t) =>
      table[id]!.map((value, i) => {
        const place = places[0]![t]!;
        if (learned) return value + learned[place]![i]!;
        if (config.positions?.kind !== "sinusoidal") return value;
        const angle = place / 10000 ** ((i - (i % 2)) / 16);
        return value + (i % 2 ? Math.cos(angle) : Math.sin(angle));
      }),
    );
    await expect(streams[0]!).toBeAllClose([placed], { rtol: 1e-5, atol: 1e-5 });

    const normed = (x: number[]): number[] =>
      x.map((value) => value / Math.sqrt(x.reduce((s, v) => s + v * v, 0) / 16 + 1e-6));
    expect(streams.length).toBe(3);
    const [first, second] = streams as [number[][][], number[][][]];
    const host = await hostParams(params.layers[0]!.attention as SelfAttentionParams);
    const sequence = { x: first[0]!.map(normed), positions: places[0]!, documents: documents[0]! };
    const base = { features: 16, numHeads: 4, headDim: 4 };
    const { output } = attentionInLoops(sequence, host, { ...base, ...layers[0] });
    await expect(second).toBeAllClose([first[0]!.map((row, t) => row.map((x, i) => x + output[t]![i]!))], {
      rtol: 1e-4,
      atol: 1e-5,
    });
    // the second layer's output is seen through the last norm, whose gain is one
    const last = await hostParams(params.layers[1]!.attention as SelfAttentionParams);
    const next = attentionInLoops({ ...sequence, x: second[0]!.map(normed) }, last, { ...base, ...layers[1] }).output;
    const sum = second[0]!.map((row, t) => normed(row.map((x, i) => x + next[t]![i]!)));
    await expect(streams[2]!).toBeAllClose([sum], { rtol: 1e-4, atol: 1e-5 });
  });
});

async function hostParams(params: SelfAttentionParams): Promise<HostParams> {
  const read = async (x: Tensor) => x.data();
  const { qkv, output, queryNorm, keyNorm, sinks } = params;
  return {
    qkv: { weight: await read(qkv.weight) },
    output: { weight: await read(output.weight) },
    ...(queryNorm &&
      keyNorm && {
        queryNorm: { weight: await read(queryNorm.weight) },
        keyNorm: { weight: await read(keyNorm.weight) },
      }),
    ...(sinks && { sinks: await read(sinks) }),
  };
}
