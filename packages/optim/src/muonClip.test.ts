import { type AttentionLayout, qkClip } from "@mc/qkclip";
import { compile, explain, type Tensor, tensor, treePaths, zeros } from "@mc/tensor";
import { testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { adamw } from "./adamw.ts";
import { muon } from "./muon.ts";
import { muonClip } from "./muonClip.ts";
import type { Roles } from "./roles.ts";
import { linear } from "./schedules.ts";
import { sgd } from "./sgd.ts";
import type { OptimizerState } from "./types.ts";

await testDevice();

// two heads of two rows each
const heads = [0, 1].map((h) => ({
  query: [{ path: "q", start: 2 * h, rows: 2 }],
  key: [{ path: "k", start: 2 * h, rows: 2 }],
}));
const attention: AttentionLayout[] = [
  { layer: 0, kind: "mha", numHeads: 2, numKeyValueHeads: 2, qkNorm: false, heads },
];
const roles: Roles = { q: { role: "matrix" }, k: { role: "matrix" }, gate: { role: "router" }, norm: { role: "norm" } };
const wave = (shape: readonly number[], seed: number): Tensor =>
  tensor(
    Float32Array.from({ length: shape.reduce((p, d) => p * d, 1) }, (_, i) => Math.cos(i * 1.7 + seed)),
    { shape },
  );
const makeParams = (seed = 0) => ({
  q: wave([4, 3], seed + 1),
  k: wave([4, 3], seed + 2),
  gate: wave([2, 3], seed + 3),
  norm: wave([3], seed + 4),
});

describe("muonClip", () => {
  test("is muon followed by QK-Clip of the new parameters", async () => {
    const params = makeParams();
    const grads = makeParams(7);
    const maxLogits = [tensor([16, 3])];
    const options = { learningRate: linear({ from: 0.1, to: 0, steps: 10 }), roles };
    const clipped = muonClip({ ...options, tau: 4, attention });
    const next = clipped.update(grads, clipped.init(params), params, { maxLogits });
    const plain = muon(options).update(grads, clipped.init(params), params);
    const expected = qkClip({ tau: 4, attention }).apply(plain.params, maxLogits).params;
    for (const [path, leaf] of treePaths<Tensor>(expected)) {
      await expect(new Map(treePaths<Tensor>(next.params)).get(path) as Tensor, path).toBeAllClose(leaf, {
        rtol: 1e-6,
        atol: 1e-7,
      });
    }
    const ratio = (await next.params.q.data())[0]! / (await plain.params.q.data())[0]!;
    expect(ratio).toBeCloseTo(0.5, 6);
    const { metrics } = next;
    expect(await metrics.clippedHeads.item()).toBe(1);
    expect(await metrics.nonFiniteHeads.item()).toBe(0);
    await expect(metrics.gamma[0] as Tensor).toBeAllClose([0.25, 1]);
    expect(await metrics.learningRate.item()).toBeCloseTo(0.09, 6);
  });

  test("compiled and donated equals uncompiled", async () => {
    const rule = muonClip({ learningRate: linear({ from: 0.1, to: 0, steps: 10 }), tau: 4, roles, attention });
    type Step = {
      params: ReturnType<typeof makeParams>;
      state: OptimizerState;
      grads: ReturnType<typeof makeParams>;
      S: Tensor;
    };
    const run = ({ params, state, grads, S }: Step) => rule.update(grads, state, params, { maxLogits: [S] });
    const step = compile(run, { donate: ["params", "state"] });
    const start = () => ({ params: makeParams(), state: rule.init(makeParams()) });
    let [compiled, plain] = [start(), start()];
    for (let i = 0; i < 5; i++) {
      const given = { grads: makeParams(10 + i), S: tensor([3 * i, 20 - 4 * i]) };
      const [a, b] = [step({ ...compiled, ...given }), run({ ...plain, ...given })];
      await expect(a.metrics.gamma[0] as Tensor).toBeAllClose(b.metrics.gamma[0] as Tensor);
      expect(await a.metrics.clippedHeads.item()).toBe(await b.metrics.clippedHeads.item());
      [compiled, plain] = [a, b];
    }
    for (const [path, leaf] of treePaths<Tensor>(plain.params)) {
      const other = new Map(treePaths<Tensor>(compiled.params)).get(path) as Tensor;
      await expect(other, path).toBeAllClose(leaf, { rtol: 1e-4, atol: 1e-5 });
    }
  });

  test("adds no pass over the weights: at most a kernel a layer for the factors, and one for each number that it reports", () => {
    const params = makeParams();
    const options = { learningRate: 0.1, roles };
    const [plain, clipping] = [muon(options), muonClip({ ...options, attention })];
    const state = plain.init(params);
    const without = explain((_: Tensor) => plain.update(params, state, params), tensor([1, 2]));
    const clipped = explain((S: Tensor) => clipping.update(params, state, params, { maxLogits: [S] }), tensor([1, 2]));
    expect(clipped.kernels.length - without.kernels.length).toBeLessThanOrEqual(1 + 3);
  });

  test("reports the rate that was passed in, and a constant one", async () => {
    const params = makeParams();
    const rule = muonClip({ learningRate: 0.5, roles, attention });
    const maxLogits = [tensor([1, 2])];
    const given = rule.update(params, rule.init(params), params, { maxLogits, learningRate: tensor(0.125) });
    expect(await given.metrics.learningRate.item()).toBe(0.125);
    expect(await rule.update(params, rule.init(params), params, { maxLogits }).metrics.learningRate.item()).toBe(0.5);
  });

  test("routes by role: routers on AdamW unless told otherwise", () => {
    const params = makeParams();
    const by = (rule: ReturnType<typeof muonClip>) => rule.plan(params).rows.map((row) => row.optimizer);
    const options = { learningRate: 1e-3, roles, attention };
    expect(by(muonClip(options))).toEqual(["muon", "muon", "adamw", "adamw"]);
    expect(by(muonClip({ ...options, muonRoles: ["matrix", "router"] }))).toEqual(["muon", "muon", "muon", "adamw"]);
    expect(() => muonClip({ ...options, muonRoles: ["matrices" as "matrix"] })).toThrow("muonRoles must be among");
  });

  test("keeps the state under meaningful names", () => {
    const paths = treePaths(muonClip({ learningRate: 1e-3, roles, attention }).init(makeParams())).map(
      ([path]) => path,
    );
    expect(paths).toEqual([
      "muon.scaleByMuon.momentum.q",
      "muon.scaleByMuon.momentum.k",
      "adamw.scaleByAdam.m.gate",
      "adamw.scaleByAdam.m.norm",
      "adamw.scaleByAdam.v.gate",
      "adamw.scaleByAdam.v.norm",
      "step",
    ]);
  });

  test("teaches when the maxima are missing", () => {
    const params = makeParams();
    const rule = muonClip({ learningRate: 1e-3, roles, attention });
    expect(() => rule.update(params, rule.init(params), params)).toThrow(
      "muonClip: update needs the largest logits of this step's forward, got none; pass them",
    );
  });
});

describe("qkClip behind other optimizers", () => {
  test.each([
    { name: "sgd", rule: sgd({ learningRate: 0.1, momentum: 0.9 }) },
    { name: "adamw", rule: adamw({ learningRate: 0.1 }) },
  ])("scales what $name has made", async ({ rule }) => {
    const params = makeParams();
    const next = rule.update(makeParams(3), rule.init(params), params);
    const { params: clipped } = qkClip({ tau: 1, attention }).apply(next.params, [tensor([0.5, 4])]);
    const [before, after] = [await next.params.k.data(), await clipped.k.data()];
    expect([...after.slice(0, 6)]).toEqual([...before.slice(0, 6)]);
    await expect(after.slice(6)).toBeAllClose(Float32Array.from(before.slice(6), (v) => v / 2));
    expect(clipped.norm).toBe(next.params.norm);
  });
});

describe("plan", () => {
  test("prints a table and totals", () => {
    const fused: Roles = {
      ...roles,
      q: {
        role: "matrix",
        blocks: [
          { start: 0, rows: 2 },
          { start: 2, rows: 2 },
        ],
      },
    };
    const plan = muon({ learningRate: 1, roles: fused }).plan(makeParams());
    expect(String(plan)).toBe(
      [
        "parameter  role    optimizer  shape   blocks      scale",
        "q          matrix  muon       [4, 3]  2 x [2, 3]  0.346",
        "k          matrix  muon       [4, 3]  1 x [4, 3]  0.400",
        "gate       router  adamw      [2, 3]  -           -",
        "norm       norm    adamw      [3]     -           -",
        "4 parameters, 33 elements; 3 matrices orthogonalised in 2 batches",
      ].join("\n"),
    );
    const { rows } = sgd({ learningRate: 1 }).plan({ a: zeros([2]) });
    expect(rows).toEqual([{ parameter: "a", role: "", optimizer: "sgd", shape: [2], blocks: [] }]);
  });
});
