import { type Tensor, zeros as zerosOn } from "@mc/tensor";
import { oracleDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { type RolePatterns, roles } from "./roles.ts";

// only shapes matter here: nothing is computed
const device = await oracleDevice();
const zeros = (shape: readonly number[]): Tensor => zerosOn(shape, { device });
const layer = () => ({ norm: zeros([4]), wqkv: zeros([12, 4]), wo: zeros([4, 4]), experts: { up: zeros([2, 8, 4]) } });
const params = { embed: zeros([9, 4]), layers: [layer(), layer()], head: { weight: zeros([9, 4]), bias: zeros([9]) } };
const patterns: RolePatterns = {
  embedding: "embed",
  matrix: [{ path: "layers.*.wqkv", blocks: 3 }, "layers.*.wo"],
  experts: {
    path: "**.up",
    blocks: [
      { start: 0, rows: 5 },
      { start: 5, rows: 3 },
    ],
  },
  norm: "layers.*.norm",
  head: "head.weight",
  bias: "**.bias",
};
const blocks = [0, 4, 8].map((start) => ({ start, rows: 4 }));

describe("roles(params, patterns)", () => {
  test("gives every path its role and blocks", () => {
    const found = roles(params, patterns);
    expect(Object.keys(found)).toHaveLength(11);
    expect(found["layers.1.wqkv"]).toEqual({ role: "matrix", blocks });
    expect(found["layers.0.experts.up"]).toEqual({
      role: "experts",
      blocks: [
        { start: 0, rows: 5 },
        { start: 5, rows: 3 },
      ],
    });
    expect(found["head.bias"]).toEqual({ role: "bias" });
  });

  test("knows *, ** and {a,b}", () => {
    const flat = (names: readonly string[]): Record<string, Tensor> =>
      Object.fromEntries(names.map((name) => [name, zeros([1])]));
    expect(Object.keys(roles({ a: flat(["wq", "wk"]), wq: zeros([1]) }, { matrix: ["{a,b}.w{q,k}", "w*"] }))).toEqual([
      "a.wq",
      "a.wk",
      "wq",
    ]);
    expect(Object.keys(roles({ a: { b: { c: zeros([1]) } }, c: zeros([1]) }, { bias: "**.c" }))).toEqual([
      "a.b.c",
      "c",
    ]);
    expect(Object.keys(roles({ a: { b: { c: zeros([1]) } } }, { bias: "a.**" }))).toEqual(["a.b.c"]);
    expect(() => roles({ a: { b: zeros([1]) } }, { bias: "*" })).toThrow('got none for "a.b"');
  });

  test("names what is left out, covered twice, or matches nothing", () => {
    expect(() => roles(params, { ...patterns, norm: "layers.0.norm" })).toThrow(
      'roles: every parameter needs a role, got none for "layers.1.norm" [4]',
    );
    expect(() => roles(params, { ...patterns, norm: ["layers.*.norm", "layers.0.*"] })).toThrow(
      /got several for "layers\.0\.norm" \(norm .*, norm .*\), "layers\.0\.wqkv"/,
    );
    expect(() => roles(params, { ...patterns, router: "layers.*.gate" })).toThrow(
      'got nothing for router "layers.*.gate"',
    );
    expect(() => roles(params, { ...patterns, hed: "head" } as RolePatterns)).toThrow(
      "a role must be one of matrix, experts, embedding, head, norm, bias, router, buffer, got hed",
    );
    expect(() => roles(params, { ...patterns, matrix: [{ path: "layers.*.wqkv", blocks: 5 }, "layers.*.wo"] })).toThrow(
      "must divide into 5 blocks",
    );
  });
});
