import { compile, ShapeError, type Tensor, tensor, ValueError } from "@mc/tensor";
import { sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { balanceExperts } from "./balanceExperts.ts";

beforeAll(sharedTestDevice);

const params = () => ({
  norm: tensor([1, 2]),
  layers: [
    { feedForward: { up: tensor([3]) } },
    { feedForward: { router: { weight: tensor([[1], [2], [3]]), bias: tensor([0.5, 0, -0.5]) } } },
    { feedForward: { router: { weight: tensor([[4], [5]]), bias: tensor([0.25, 0.75]) } } },
  ],
});
const loads = (): Tensor[] => [tensor([6, 4, 2], { dtype: "i32" }), tensor([1, 2], { dtype: "i32" })];
const biases = (p: ReturnType<typeof params>): Tensor[] =>
  p.layers.flatMap(({ feedForward }) => (feedForward.router ? [feedForward.router.bias] : []));

describe("balanceExperts(params, loads)", () => {
  test("moves biases by rate * sign(mean load - load) and nothing else", async () => {
    const before = params();
    const after = balanceExperts(before, loads(), { rate: 0.125 });
    await expect(biases(after)[0]!).toBeAllClose([0.375, 0, -0.375]);
    await expect(biases(after)[1]!).toBeAllClose([0.375, 0.625]);
    expect(after.norm).toBe(before.norm);
    expect(after.layers[0]).toBe(before.layers[0]);
    expect(after.layers[1]!.feedForward.router!.weight).toBe(before.layers[1]!.feedForward.router!.weight);
  });

  test("centred, keeps the mean of the biases", async () => {
    const uneven = [tensor([9, 1, 2], { dtype: "i32" }), tensor([3, 3], { dtype: "i32" })];
    const after = balanceExperts(params(), uneven, { rate: 0.3, centred: true });
    // signs -1, 1, 1 with mean 1/3
    await expect(biases(after)[0]!).toBeAllClose([0.1, 0.2, -0.3]);
    await expect(biases(after)[1]!).toBeAllClose([0.25, 0.75]);
  });

  test("takes the rate as a tensor, so that a compiled step need not be compiled again when it changes", async () => {
    const step = compile((p: ReturnType<typeof params>, rate: Tensor) => balanceExperts(p, loads(), { rate }));
    await expect(biases(step(params(), tensor(0.125)))[0]!).toBeAllClose([0.375, 0, -0.375]);
    await expect(biases(step(params(), tensor(0)))[0]!).toBeAllClose([0.5, 0, -0.5]);
  });

  test("leaves mixtures without a selection bias alone", () => {
    const before = { layers: [{ feedForward: { router: { weight: tensor([[1]]) } } }] };
    expect(balanceExperts(before, [tensor([1], { dtype: "i32" })], { rate: 1 })).toEqual(before);
  });

  test("says what is wrong with its arguments", () => {
    expect(() => balanceExperts(params(), loads().slice(1), { rate: 1 })).toThrow(ValueError);
    expect(() => balanceExperts(params(), [...loads()].reverse(), { rate: 1 })).toThrow(ShapeError);
  });
});
