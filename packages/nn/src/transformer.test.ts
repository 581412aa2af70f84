import { checkGrads, valueAndGrad } from "@mc/autograd";
import { type MuonClipOptions, muonClip, type Roles as OptimizerRoles } from "@mc/optim";
import {
  compile,
  type Device,
  explain,
  key,
  mul,
  sliceAxis,
  type Tensor,
  tensor,
  treeFromPaths,
  treeMap,
  treeMapWithPath,
  treePaths,
} from "@mc/tensor";
import { oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import type { AttentionLayout, RowRange } from "./attention/layout.ts";
import type { TransformerConfig } from "./config.ts";
import type { Roles } from "./layer.ts";
import { type TransformerBatch, type TransformerParams, transformer } from "./transformer.ts";

beforeAll(() => sharedTestDevice());

const llama: TransformerConfig = {
  vocabSize: 11,
  hiddenSize: 16,
  numLayers: 2,
  attention: { numHeads: 4, numKeyValueHeads: 2 },
};
const gpt: TransformerConfig = {
  vocabSize: 11,
  hiddenSize: 16,
  numLayers: 2,
  attention: { numHeads: 2, bias: true },
  feedForward: { kind: "gelu", bias: true },
  norm: { kind: "layernorm" },
  positions: { kind: "learned", maxPositions: 12 },
  tiedHead: true,
};
const configs: [string, TransformerConfig][] = [
  ["rotary positions, RMSNorm, SwiGLU and an untied head", llama],
  ["learned positions, LayerNorm, GELU, biases and a tied head", gpt],
  [
    "QK-norm, per-head blocks, interleaved pairs and heads of their own size",
    {
      ...llama,
      attention: { numHeads: 2, headDim: 6, qkNorm: true },
      positions: { pairing: "interleaved" },
      muonBlocks: "head",
    },
  ],
];

const ids = (rows: number[][], device?: Device): Tensor => tensor(rows, { dtype: "i32", ...(device && { device }) });
const text = (tokens: number, seed = 0): number[] => range(tokens).map((i) => (i * i * 7 + i * 3 + seed) % 11);
/** Initial matrices are so small that all tokens look alike; these are not. */
const lively = (params: TransformerParams): TransformerParams =>
  treeMap((x: Tensor) => (x.ndim > 1 ? mul(x, 15) : x), params) as TransformerParams;

describe.each(configs)("transformer with %s", (_, config) => {
  const model = transformer(config);

  test("begins near the loss of guessing", async () => {
    const batch = { inputs: ids([text(8)]), labels: ids([text(8, 1)]) };
    expect(Math.abs((await model.loss(model.init(key(1)), batch).value.item()) - Math.log(11))).toBeLessThan(0.05);
  });

  test("does not look ahead", async () => {
    const params = lively(model.init(key(2)));
    const first = model.apply(params, ids([text(9)])).logits;
    const changed = model.apply(params, ids([[...text(5), ...text(4, 2)]])).logits;
    await expect(sliceAxis(changed, 1, 0, 5)).toBeAllClose(sliceAxis(first, 1, 0, 5));
    const [a, b] = [await sliceAxis(changed, 1, 5, 6).data(), await sliceAxis(first, 1, 5, 6).data()];
    expect(Math.max(...range(11).map((i) => Math.abs(a[i]! - b[i]!)))).toBeGreaterThan(1e-2);
  });

  test("keeps packed documents apart: each reads as it does alone", async () => {
    const params = lively(model.init(key(3)));
    const packed = model.apply(params, ids([[...text(5), ...text(4, 2)]]), {
      documents: ids([[0, 0, 0, 0, 0, 1, 1, 1, 1]]),
      positions: ids([[0, 1, 2, 3, 4, 0, 1, 2, 3]]),
    });
    const alone = model.apply(params, ids([text(4, 2)]));
    await expect(sliceAxis(packed.logits, 1, 5)).toBeAllClose(alone.logits, { rtol: 1e-4, atol: 1e-5 });
  });

  test("gives the residual stream and the maxima of each layer", async () => {
    const params = model.init(key(4));
    const { logits, hidden, maxLogits } = model.apply(params, ids([text(6), text(6, 1)]), { hidden: true });
    expect(hidden!.map((h) => h.shape)).toEqual(range(3).map(() => [2, 6, 16]));
    expect(maxLogits.map((m) => m.shape)).toEqual(range(2).map(() => [model.config.attention.numHeads]));
    await expect(model.head(params, hidden!.at(-1)!)).toBeAllClose(logits);
    expect(model.apply(params, ids([text(6)]))).not.toHaveProperty("hidden");
  });

  test("has a role for every parameter and no other, and blocks that cover their rows", () => {
    const leaves = new Map(treePaths<Tensor>(model.init(key(1))));
    expect(Object.keys(model.roles).sort()).toEqual([...leaves.keys()].sort());
    for (const [path, { role, blocks = [] }] of Object.entries(model.roles)) {
      const { shape } = leaves.get(path)!;
      expect(shape.length, path).toBe(role === "norm" || role === "bias" ? 1 : 2);
      const end = blocks.reduce((next, block) => (block.start === next ? next + block.rows : Number.NaN), 0);
      if (blocks.length > 0) expect(end, path).toBe(shape[0]);
    }
  });

  test("has the gradient that central differences give in float64, to second order", async () => {
    const device = await oracleDevice();
    const params = treePaths<Tensor>(lively(model.init(key(6, { device }))));
    const batch = {
      inputs: ids([text(6), text(6, 1)], device),
      labels: ids([text(6, 1), [...text(5, 2), -100]], device),
    };
    const loss = (...leaves: Tensor[]): Tensor => {
      const tree = treeFromPaths(params.map(([path], i) => [path, leaves[i]!] as const));
      return model.loss(tree as TransformerParams, batch).value;
    };
    await checkGrads(
      loss,
      params.map(([, leaf]) => leaf),
      { order: 2, tolerance: 1e-5 },
    );
  });
});

describe("transformer", () => {
  test.each([
    ["MHA with biases", gpt],
    ["GQA", llama],
  ])("attentionLayout names the rows that make each head's logits: %s", async (_, config) => {
    const model = transformer(config);
    const params = treeMapWithPath(
      (path: string, x: Tensor) => (path.endsWith("qkv.bias") ? tensor(range(x.size).map((i) => Math.sin(i))) : x),
      lively(model.init(key(5))),
    ) as TransformerParams;
    const { heads, numHeads, numKeyValueHeads } = model.attentionLayout[0]!;
    const maxima = async (p: TransformerParams): Promise<number[]> => [
      ...(await model.apply(p, ids([text(9)])).maxLogits[0]!.data()),
    ];
    const before = await maxima(params);
    const ratios = async (rows: readonly RowRange[]): Promise<number[]> =>
      (await maxima(scaleRows(params, rows, 2))).map((x, h) => x / before[h]!);
    const doubled = (which: (h: number) => boolean) => range(numHeads).map((h) => expect.closeTo(which(h) ? 2 : 1, 4));
    const group = numHeads / numKeyValueHeads;
    expect(await ratios(heads[1]!.query)).toEqual(doubled((h) => h === 1));
    expect(await ratios(heads[numHeads - 1]!.key)).toEqual(doubled((h) => h >= numHeads - group));
  });

  test("blocks of Muon are q, k and v, or their heads; gate and up", () => {
    const blocks = (muonBlocks: "matrix" | "head") =>
      transformer({ ...llama, muonBlocks }).roles["layers.0.attention.qkv.weight"]!.blocks!.map((b) => b.rows);
    expect(blocks("matrix")).toEqual([16, 8, 8]);
    expect(blocks("head")).toEqual([4, 4, 4, 4, 4, 4, 4, 4]);
    expect(transformer(llama).roles["layers.1.feedForward.gateUp.weight"]!.blocks!.map((b) => b.rows)).toEqual([
      48, 48,
    ]);
  });

  test("its data has the types that @mc/optim and @mc/qkclip take, and the other way round", () => {
    const model = transformer(llama);
    const roles: OptimizerRoles = model.roles;
    const back: Roles = roles;
    const layout: MuonClipOptions["attention"] = model.attentionLayout;
    const layoutBack: readonly AttentionLayout[] = layout;
    expect([back, layoutBack]).toEqual([model.roles, model.attentionLayout]);
  });

  test("learns a batch by heart with muonClip, in one compiled step", async () => {
    const model = transformer({ ...llama, hiddenSize: 32 });
    const optimizer = muonClip({
      learningRate: 2e-2,
      weightDecay: 0,
      tau: 100,
      roles: model.roles,
      attention: model.attentionLayout,
    });
    let params = model.init(key(8));
    let state = optimizer.init(params);
    const step = compile(
      ({
        params,
        state,
        batch,
      }: {
        params: TransformerParams;
        state: ReturnType<typeof optimizer.init>;
        batch: TransformerBatch;
      }) => {
        const { value, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, batch);
        const next = optimizer.update(grads, state, params, { maxLogits: aux.maxLogits });
        return { params: next.params as TransformerParams, state: next.state, loss: value };
      },
      { donate: ["params", "state"] },
    );
    const batch = { inputs: ids([text(12), text(12, 1)]), labels: ids([text(12, 1), text(12, 3)]) };
    let loss: Tensor;
    const losses: number[] = [];
    for (let i = 0; i < 25; i++) {
      ({ params, state, loss } = step({ params, state, batch }));
      losses.push(await loss.item());
    }
    expect(losses[0]!).toBeGreaterThan(2.2);
    expect(losses.at(-1)!).toBeLessThan(0.3);
  });

  test("a layer's forward runs in at most 20 kernels", async () => {
    const kernels = async (numLayers: number): Promise<number> => {
      const model = transformer({ ...llama, numLayers });
      const plan = await explain(
        (p: TransformerParams, x: Tensor) => model.apply(p, x),
        model.init(key(1)),
        ids([text(8)]),
      );
      return plan.kernels.length;
    };
    expect((await kernels(3)) - (await kernels(2))).toBeLessThanOrEqual(20);
  });

  test("dropout is on with a key only, and depends on it", async () => {
    const model = transformer({ ...llama, dropout: 0.3 });
    const params = lively(model.init(key(9)));
    const logits = async (seed?: number) =>
      model.apply(params, ids([text(6)]), seed === undefined ? {} : { key: key(seed) }).logits.data();
    const plain = transformer(llama).apply(params, ids([text(6)])).logits;
    await expect(model.apply(params, ids([text(6)])).logits).toBeAllClose(plain);
    expect(await logits(1)).toEqual(await logits(1));
    expect(await logits(1)).not.toEqual(await logits(2));
    expect(await logits(1)).not.toEqual(await logits());
  });

  test("says what is wrong with a config", () => {
    const broken: [Partial<TransformerConfig>, string][] = [
      [
        { attention: { numHeads: 3 } },
        "transformer: attention.numHeads must divide hiddenSize, got 3 heads for width 16; choose another number of heads or set attention.headDim",
      ],
      [
        { attention: { numHeads: 4, numKeyValueHeads: 3 } },
        "attention: numKeyValueHeads must divide numHeads, got 3 for 4 heads",
      ],
      [{ attention: { numHeads: 16 } }, "headDim must be even, got 1"],
      [{ vocabSize: 0 }, "transformer: vocabSize must be a positive integer, got 0"],
      [
        { positions: { kind: "learned" } },
        "transformer: learned positions need positions.maxPositions, the longest sequence, got none",
      ],
      [{ dropout: 1 }, "transformer: dropout must be in [0, 1), got 1"],
    ];
    for (const [change, message] of broken) expect(() => transformer({ ...llama, ...change })).toThrow(message);
  });

  test("says what is wrong with its input", () => {
    const model = transformer(gpt);
    const params = model.init(key(1));
    expect(() => model.apply(params, ids([text(13)]))).toThrow(
      "transformer: the model has 12 positions, got a sequence of 13 tokens",
    );
    expect(() => model.apply(params, tensor([1, 2], { dtype: "i32" }))).toThrow(
      "transformer: inputIds must be [B, T], got shape [2]",
    );
    expect(() => model.apply(params, tensor([[1, 2]]))).toThrow("transformer: inputIds must be i32, got f32");
  });
});

/** The parameters with some rows multiplied. */
function scaleRows(params: TransformerParams, rows: readonly RowRange[], factor: number): TransformerParams {
  return treeMapWithPath((path: string, x: Tensor) => {
    const ranges = rows.filter((r) => r.path === path);
    if (ranges.length === 0) return x;
    const factors = range(x.shape[0]!).map((i) =>
      ranges.some((r) => i >= r.start && i < r.start + r.rows) ? factor : 1,
    );
    return mul(x, tensor(factors, { shape: [x.shape[0]!, ...x.shape.slice(1).map(() => 1)] }));
  }, params) as TransformerParams;
}
