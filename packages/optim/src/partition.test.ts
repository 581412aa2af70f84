import { type Tensor, tensor, treePaths, zeros } from "@mc/tensor";
import { testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { adamw } from "./adamw.ts";
import { chain } from "./chain.ts";
import { muon } from "./muon.ts";
import { muonClip } from "./muonClip.ts";
import { optimizer } from "./optimizer.ts";
import { type Group, partition } from "./partition.ts";
import type { Roles } from "./roles.ts";
import { scaleByAdam } from "./scaleByAdam.ts";
import { scaleByLearningRate } from "./scaleByLearningRate.ts";
import { trace } from "./trace.ts";

await testDevice();
const roles: Roles = { w: { role: "matrix" }, "b.0": { role: "bias" } };
const params = { w: tensor([[1, 2]]), b: [tensor([3])] };
const fast: Group = { roles: ["matrix"], transform: chain(trace(), scaleByLearningRate(1)) };
const slow: Group = { roles: ["bias", "norm"], transform: chain(scaleByAdam(), scaleByLearningRate(0.1)) };

describe("partition(roles, groups)", () => {
  test("sends each parameter to the transform of its role", async () => {
    const split = optimizer("split", partition(roles, { fast, slow }));
    const next = split.update({ w: tensor([[10, 20]]), b: [tensor([5])] }, split.init(params), params);
    await expect(next.params.w).toBeAllClose([[-9, -18]]);
    await expect(next.params.b[0] as Tensor).toBeAllClose([2.9]);
  });

  test("keeps the state of each group under its name", () => {
    const paths = treePaths(partition(roles, { fast, slow }).init(params)).map(([path]) => path);
    expect(paths).toEqual(["fast.trace.momentum.w", "slow.scaleByAdam.m.b.0", "slow.scaleByAdam.v.b.0"]);
  });

  test("says in a plan which group takes which parameter", () => {
    const { rows } = optimizer("split", partition(roles, { fast, slow })).plan(params);
    expect(rows.map((row) => [row.parameter, row.role, row.optimizer])).toEqual([
      ["w", "matrix", "fast"],
      ["b.0", "bias", "slow"],
    ]);
  });

  test("leaves buffers alone, without state, and so do the recipes that know roles", async () => {
    const withBuffer: Roles = { ...roles, "b.0": { role: "buffer" } };
    const layout = { layer: 0, kind: "mha", numHeads: 1, numKeyValueHeads: 1, qkNorm: false } as const;
    const rows = [{ path: "w", start: 0, rows: 1 }];
    const optimizers = [
      optimizer("split", partition(withBuffer, { fast })),
      adamw({ learningRate: 1, weightDecay: 0.5, roles: withBuffer }),
      muon({ learningRate: 1, weightDecay: 0.5, roles: withBuffer }),
      muonClip({ learningRate: 1, roles: withBuffer, attention: [{ ...layout, heads: [{ query: rows, key: [] }] }] }),
    ];
    for (const each of optimizers) {
      const state = each.init(params);
      expect(treePaths(state).filter(([path]) => path.endsWith("b.0"))).toEqual([]);
      const extras = { maxLogits: [tensor([200])] };
      const next = each.update({ w: tensor([[10, 20]]), b: [tensor([5])] }, state, params, extras);
      await expect(next.params.b[0] as Tensor).toBeAllClose([3]);
      expect(await next.params.w.toArray()).not.toEqual([[1, 2]]);
      expect(each.plan(params).rows.map((row) => row.optimizer)[1]).toBe("none");
    }
  });

  test("names parameters without a role, roles without a group, and roles in two groups", () => {
    const both = partition(roles, { fast, slow });
    expect(() => both.init({ ...params, extra: zeros([2]) })).toThrow(
      'partition: every parameter needs a role, got none for "extra"',
    );
    expect(() => partition(roles, { fast }).init(params)).toThrow(
      'partition: every role needs a group, got none for "b.0" (bias)',
    );
    expect(() => partition(roles, { fast, slow: { ...slow, roles: ["matrix"] } })).toThrow(
      'role "matrix" must be in one group, got "fast" and "slow"',
    );
  });
});

describe("chain(...transforms)", () => {
  test("numbers links of one name and leaves out links without state", () => {
    const paths = treePaths(chain(trace(), scaleByLearningRate(1), trace()).init({ w: params.w })).map(
      ([path]) => path,
    );
    expect(paths).toEqual(["trace.momentum.w", "trace2.momentum.w"]);
    expect(() => chain()).toThrow("chain: needs at least one transform, got none");
  });
});
