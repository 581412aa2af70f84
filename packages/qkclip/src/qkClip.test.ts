import { readSafetensors, type Tensor, tensor, zeros } from "@mc/tensor";
import { type FixtureName, loadFixture, loadFixtureJson, oracleDevice, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import type { AttentionHead, AttentionLayout, RowRange } from "./layout.ts";
import { type QkClipOptions, qkClip } from "./qkClip.ts";

await testDevice();
const f64 = await oracleDevice();

const range = (path: string, start: number, rows: number): RowRange => ({ path, start, rows });
const layoutOf = (
  kind: AttentionLayout["kind"],
  heads: AttentionHead[],
  numKeyValueHeads = heads.length,
  layer = 0,
): AttentionLayout => ({
  layer,
  kind,
  numHeads: heads.length,
  numKeyValueHeads,
  qkNorm: false,
  heads,
});
/** Heads of `rows` rows in "q" and "k", `group` of them on each key. */
const simple = (numHeads: number, rows: number, group = 1): AttentionLayout => {
  const heads = Array.from({ length: numHeads }, (_, h) => ({
    query: [range("q", h * rows, rows)],
    key: [range("k", Math.floor(h / group) * rows, rows)],
  }));
  return layoutOf(group === 1 ? "mha" : "gqa", heads, numHeads / group);
};
const filled = (rows: number, cols: number): Tensor =>
  tensor(Array.from({ length: rows }, (_, i) => Array.from({ length: cols }, (_, j) => Math.sin(3 * i + j + 1))));
/** The factor of each row, from a weight before and after. */
async function rowFactors(before: Tensor, after: Tensor): Promise<number[]> {
  const [b, a] = [await before.data(), await after.data()];
  const cols = before.size / before.shape[0]!;
  return Array.from({ length: before.shape[0]! }, (_, i) => a[i * cols]! / b[i * cols]!);
}
const numbers = async (x: Tensor): Promise<number[]> => Array.from(await x.data());

describe("qkClip on heads with keys of their own", () => {
  test("scales queries by gamma^alpha and keys by gamma^(1 - alpha)", async () => {
    const params = { q: filled(6, 3), k: filled(6, 3), v: filled(6, 3) };
    for (const alpha of [0.5, 0.25, 0, 1]) {
      const out = qkClip({ tau: 4, alpha, attention: [simple(3, 2)] }).apply(params, [tensor([64, 4, 8])]);
      const [a, b] = [1 / 16, 1 / 2];
      await expect(await rowFactors(params.q, out.params.q)).toBeAllClose([a, a, 1, 1, b, b].map((g) => g ** alpha));
      await expect(await rowFactors(params.k, out.params.k)).toBeAllClose(
        [a, a, 1, 1, b, b].map((g) => g ** (1 - alpha)),
      );
      expect(out.params.v).toBe(params.v);
      await expect(out.gamma[0] as Tensor).toBeAllClose([a, 1, b]);
      expect(await out.clippedHeads.item()).toBe(2);
    }
  });

  test("scales biases with their weights, and rows inside a fused weight", async () => {
    // c_attn: rows of q, k and v one after the other
    const heads = [0, 1].map((h) => ({
      query: [range("attn.weight", 2 * h, 2), range("attn.bias", 2 * h, 2)],
      key: [range("attn.weight", 4 + 2 * h, 2), range("attn.bias", 4 + 2 * h, 2)],
    }));
    const params = { attn: { weight: filled(12, 4), bias: tensor(Array.from({ length: 12 }, (_, i) => i + 1)) } };
    const out = qkClip({ tau: 1, attention: [layoutOf("mha", heads)] }).apply(params, [tensor([0.5, 4])]);
    const expected = [1, 1, 0.5, 0.5, 1, 1, 0.5, 0.5, 1, 1, 1, 1];
    await expect(await rowFactors(params.attn.weight, out.params.attn.weight)).toBeAllClose(expected);
    await expect(await rowFactors(params.attn.bias, out.params.attn.bias)).toBeAllClose(expected);
  });

  test("keeps heads at or below tau to the bit", async () => {
    const params = { q: filled(8, 5), k: filled(8, 5) };
    const out = qkClip({ tau: 3, attention: [simple(4, 2)] }).apply(params, [tensor([3, 700, -5, 0])]);
    for (const name of ["q", "k"] as const) {
      const [before, after] = [await numbers(params[name]), await numbers(out.params[name])];
      const kept = [...before.keys()].filter((i) => Math.floor(i / 10) !== 1);
      expect(kept.map((i) => after[i])).toEqual(kept.map((i) => before[i]));
    }
    expect(await numbers(out.gamma[0] as Tensor)).toEqual(
      [1, Math.fround(3 / 700), 1, 1].map((v) => expect.closeTo(v, 8)),
    );
  });

  test("ignores and counts maxima that are no finite numbers", async () => {
    const params = { q: filled(5, 2), k: filled(5, 2) };
    const out = qkClip({ tau: 1, attention: [simple(5, 1)] }).apply(params, [
      tensor([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2, -1]),
    ]);
    expect(await numbers(out.gamma[0] as Tensor)).toEqual([1, 1, 1, 0.5, 1]);
    expect(await out.clippedHeads.item()).toBe(1);
    expect(await out.nonFiniteHeads.item()).toBe(3);
    expect((await numbers(out.params.q)).every(Number.isFinite)).toBe(true);
  });

  test("takes tau as a tensor and several layers at once", async () => {
    const second = simple(2, 1).heads.map((head) => ({
      query: [{ ...head.query[0]!, path: "q2" }],
      key: [{ ...head.key[0]!, path: "k2" }],
    }));
    const params = { q: filled(2, 2), k: filled(2, 2), q2: filled(2, 2), k2: filled(2, 2) };
    const clip = qkClip({ tau: tensor(2), attention: [simple(2, 1), layoutOf("mha", second, 2, 1)] });
    const out = clip.apply(params, [tensor([8, 1]), tensor([1, 18])]);
    expect(await Promise.all(out.gamma.map(numbers))).toEqual([
      [0.25, 1],
      [1, expect.closeTo(1 / 9, 6)],
    ]);
    await expect(await rowFactors(params.q, out.params.q)).toBeAllClose([0.5, 1]);
    await expect(await rowFactors(params.k2, out.params.k2)).toBeAllClose([1, 1 / 3]);
    expect(await out.clippedHeads.item()).toBe(2);
  });
});

describe("qkClip on groups of queries that share keys", () => {
  const params = { q: filled(8, 3), k: filled(4, 3) };
  const maxLogits = [tensor([16, 2, 3, 1])];
  const apply = (options: Partial<QkClipOptions>) =>
    qkClip({ tau: 4, attention: [simple(4, 2, 2)], ...options }).apply(params, maxLogits);

  test("gives each query its whole factor and leaves keys alone by default", async () => {
    const out = apply({});
    await expect(await rowFactors(params.q, out.params.q)).toBeAllClose([0.25, 0.25, 1, 1, 1, 1, 1, 1]);
    expect(out.params.k).toBe(params.k);
  });

  test('gives a group the factor of its largest head with "shared"', async () => {
    const out = apply({ groupedQuery: "shared" });
    await expect(await rowFactors(params.q, out.params.q)).toBeAllClose([0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1]);
    await expect(await rowFactors(params.k, out.params.k)).toBeAllClose([0.5, 0.5, 1, 1]);
    await expect(out.gamma[0] as Tensor).toBeAllClose([0.25, 0.25, 1, 1]);
    expect(await out.clippedHeads.item()).toBe(1);
  });
});

describe("qkClip on latent attention", () => {
  test("splits the factor over the plain parts and gives the rotated query all of it", async () => {
    // q_b: per head 2 rows plain, 1 rotated; kv_b: per head 2 rows of keys, 3 of values
    const heads = [0, 1, 2].map((h) => ({
      query: [range("qb", 3 * h, 2)],
      queryRotary: [range("qb", 3 * h + 2, 1)],
      key: [range("kvb", 5 * h, 2)],
    }));
    const params = { qb: filled(9, 4), kvb: filled(15, 4) };
    const out = qkClip({ tau: 1, attention: [layoutOf("mla", heads)] }).apply(params, [tensor([4, 1, 16])]);
    await expect(await rowFactors(params.qb, out.params.qb)).toBeAllClose([
      0.5,
      0.5,
      0.25,
      1,
      1,
      1,
      0.25,
      0.25,
      1 / 16,
    ]);
    const half = [0.5, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.25, 0.25, 1, 1, 1];
    await expect(await rowFactors(params.kvb, out.params.kvb)).toBeAllClose(half);
  });
});

describe("qkClip makes S = min(S, tau)", () => {
  // logits of head h for inputs x: (Wq_h x_i + bq_h) . (Wk_g x_j + bk_g) / sqrt(d), j <= i
  const [inputs, width, d] = [6, 5, 3];
  const x = Array.from({ length: inputs }, (_, i) => Array.from({ length: width }, (_, j) => Math.cos(7 * i + 3 * j)));
  async function maxima(
    params: Record<"q" | "k" | "bq" | "bk", Tensor>,
    heads: number,
    group: number,
  ): Promise<number[]> {
    const [q, k, bq, bk] = await Promise.all([params.q, params.k, params.bq, params.bk].map(numbers));
    const project = (w: number[], b: number[], row: number, v: number[]): number =>
      v.reduce((s, xj, j) => s + w[row * width + j]! * xj, b[row]!);
    return Array.from({ length: heads }, (_, h) => {
      let most = Number.NEGATIVE_INFINITY;
      for (let i = 0; i < inputs; i++) {
        for (let j = 0; j <= i; j++) {
          let dot = 0;
          for (let r = 0; r < d; r++)
            dot += project(q!, bq!, h * d + r, x[i]!) * project(k!, bk!, Math.floor(h / group) * d + r, x[j]!);
          most = Math.max(most, dot / Math.sqrt(d));
        }
      }
      return most;
    });
  }

  test.each([
    { name: "MHA", group: 1, groupedQuery: "query" },
    { name: "MHA with alpha 0.3", group: 1, alpha: 0.3, groupedQuery: "query" },
    { name: "GQA", group: 2, groupedQuery: "query" },
  ] as const)("for every head of a layer given its input: $name", async ({ group, groupedQuery, ...rest }) => {
    const heads = 4;
    const rows = heads * d;
    const make = (n: number, cols: number | null, seed: number): Tensor =>
      tensor(
        Float64Array.from({ length: n * (cols ?? 1) }, (_, i) => 2 * Math.sin(5 * i * seed + seed)),
        { shape: cols === null ? [n] : [n, cols], device: f64 },
      );
    const params = {
      q: make(rows, width, 1),
      k: make(rows / group, width, 2),
      bq: make(rows, null, 3),
      bk: make(rows / group, null, 4),
    };
    const layout = simple(heads, d, group);
    const biased = layout.heads.map((head) => ({
      query: [...head.query, { ...head.query[0]!, path: "bq" }],
      key: [...head.key, { ...head.key[0]!, path: "bk" }],
    }));
    const S = await maxima(params, heads, group);
    const tau = [...S].sort((a, b) => a - b)[1]! * 1.01;
    const clip = qkClip({ tau, groupedQuery, ...rest, attention: [{ ...layout, heads: biased }] });
    const out = clip.apply(params, [tensor(Float64Array.from(S), { device: f64 })]);
    await expect(await maxima(out.params, heads, group)).toBeAllClose(
      S.map((s) => Math.min(s, tau)),
      { rtol: 1e-12 },
    );
    expect(await out.clippedHeads.item()).toBe(2);
  });
});

describe("qkClip on recorded training runs", () => {
  interface Run {
    readonly tau: number;
    readonly clipped_heads: readonly number[];
  }
  test.each(["train_llama_gqa", "train_gpt2"] satisfies FixtureName[])("finds the factors of %s", async (name) => {
    const { tau, clipped_heads } = await loadFixtureJson<Run>(name, "train.json");
    const { tensors } = readSafetensors(await loadFixture(name, "train.safetensors"));
    const attention = [0, 1].map((layer) => ({ ...simple(4, 1), layer }));
    const clip = qkClip({
      tau,
      attention: attention.map((a) => ({
        ...a,
        heads: a.heads.map((head) => ({ query: [{ ...head.query[0]!, path: `q${a.layer}` }], key: [] })),
      })),
    });
    const params = { q0: zeros([4, 1], { device: f64 }), q1: zeros([4, 1], { device: f64 }) };
    for (const [step, clipped] of clipped_heads.entries()) {
      const maxLogits = [0, 1].map((layer) =>
        tensor(tensors[`max_logit.${step}.${layer}`]!.data as Float64Array, { device: f64 }),
      );
      const out = clip.apply(params, maxLogits);
      for (const layer of [0, 1])
        await expect(out.gamma[layer] as Tensor).toBeAllClose(tensors[`gamma.${step}.${layer}`]!.data as Float64Array, {
          rtol: 1e-12,
        });
      expect(await out.clippedHeads.item()).toBe(clipped);
    }
  });
});

describe("qkClip refuses", () => {
  const attention = [simple(2, 1)];
  const params = { q: filled(2, 2), k: filled(2, 2) };

  test("layers with QK-norm, with the reason", () => {
    expect(() => qkClip({ tau: 1, attention: [{ ...simple(2, 1), layer: 3, qkNorm: true }] })).toThrow(
      "qkClip: layer 3 normalises queries and keys after their projection, which undoes any scaling of the weights",
    );
  });

  test("numbers out of range", () => {
    for (const tau of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => qkClip({ tau, attention })).toThrow(
        `qkClip: tau must be a positive finite number or a scalar tensor, got ${tau}`,
      );
    expect(() => qkClip({ tau: 1, alpha: 1.5, attention })).toThrow("qkClip: alpha must lie between 0 and 1, got 1.5");
    expect(() => qkClip({ tau: 1, attention: [] })).toThrow("attention must describe at least one layer");
  });

  test("layouts that do not add up", () => {
    expect(() => qkClip({ tau: 1, attention: [{ ...simple(2, 1), numHeads: 3 }] })).toThrow(
      "qkClip: layer 0 must describe its 3 heads, got 2",
    );
    expect(() => qkClip({ tau: 1, attention: [{ ...simple(4, 1, 2), numKeyValueHeads: 3 }] })).toThrow(
      "must divide into 3 groups",
    );
    const crossed = simple(4, 1, 2);
    expect(() =>
      qkClip({ tau: 1, attention: [{ ...crossed, heads: [0, 2, 1, 3].map((h) => crossed.heads[h]!) }] }),
    ).toThrow("each 2 consecutive heads must share one key");
  });

  test("parameters and maxima that do not fit the layout", () => {
    const clip = qkClip({ tau: 1, attention });
    expect(() => clip.apply({ q: params.q }, [tensor([1, 2])])).toThrow(
      'qkClip: the layout names "k", which is not among the parameters',
    );
    expect(() => clip.apply(params, [])).toThrow("maxLogits must hold the maxima of layer 0, got 0 layers");
    expect(() => clip.apply(params, [tensor([1, 2, 3])])).toThrow("the maxima of layer 0 must have shape [2], got [3]");
    expect(() => clip.apply({ ...params, k: filled(1, 2) }, [tensor([1, 2])])).toThrow(
      'qkClip: "k" has 1 rows, got a head that ends at row 2',
    );
    const overlapping = layoutOf(
      "mha",
      [0, 1].map((h) => ({ query: [range("q", 0, 2)], key: [range("k", h, 1)] })),
    );
    expect(() => qkClip({ tau: 1, attention: [overlapping] }).apply(params, [tensor([1, 2])])).toThrow(
      'row 0 of "q" must belong to one head, got two',
    );
  });
});
