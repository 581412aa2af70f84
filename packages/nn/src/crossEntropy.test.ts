import { checkGrads, grad } from "@mc/autograd";
import { key, mul, normal, ones, sum, type Tensor, tensor, zeros } from "@mc/tensor";
import { domains, hostArray, oracleDevice, sharedTestDevice, testOp } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { crossEntropy } from "./crossEntropy.ts";

beforeAll(() => sharedTestDevice());

testOp("crossEntropy(logits, labels) is the mean of logsumexp - logit of the label", {
  op: (logits, labels) => crossEntropy(logits!, labels!),
  inputs: [domains.anyNumber, domains.indicesInto(7)],
  shapes: (n) => [[n, 7], [n]],
  sizes: [1, 63, 64, 65],
  reference: (x, labels) => {
    let total = 0;
    for (let i = 0; i < x.shape[0]!; i++) {
      let sum = 0;
      for (let c = 0; c < 7; c++) sum += Math.exp(x.at(i, c));
      total += Math.log(sum) - x.at(i, labels.at(i));
    }
    return hostArray([], [total / x.shape[0]!]);
  },
  gradient: 2,
});

describe("crossEntropy", () => {
  const i32 = (values: number[]) => tensor(values, { dtype: "i32" });

  test("ignores labels of -100 in value and gradient", async () => {
    const logits = normal(key(1), [4, 5]);
    const some = crossEntropy(logits, i32([1, -100, 3, -100]));
    const kept = tensor([[...(await logits.data()).slice(0, 5)], [...(await logits.data()).slice(10, 15)]]);
    expect(await some.item()).toBeCloseTo(await crossEntropy(kept, i32([1, 3])).item(), 6);
    const gradient = (await grad((x: Tensor) => crossEntropy(x, i32([1, -100, 3, -100])))(
      logits,
    ).toArray()) as number[][];
    expect(gradient[1]).toEqual([0, 0, 0, 0, 0]);
    expect(gradient[3]).toEqual([0, 0, 0, 0, 0]);
    expect(gradient[0]!.reduce((s, g) => s + g, 0)).toBeCloseTo(0, 6);
  });

  test("takes another label to ignore, and gives 0 when all are ignored", async () => {
    expect(await crossEntropy(zeros([2, 3]), i32([0, 1]), { ignoreLabel: 0 }).item()).toBeCloseTo(Math.log(3), 6);
    const ignored = i32([-100, -100]);
    expect(await crossEntropy(ones([2, 3]), ignored).item()).toBe(0);
    await expect(grad((x: Tensor) => crossEntropy(x, ignored))(ones([2, 3]))).toBeAllClose(new Float32Array(6), {
      atol: 0,
    });
  });

  test("stays finite for logits of 1e4, and is NaN for a label outside the vocabulary", async () => {
    expect(await crossEntropy(tensor([[1e4, 0, -1e4]]), i32([0])).item()).toBeCloseTo(0, 6);
    expect(await crossEntropy(tensor([[1e4, 0, -1e4]]), i32([2])).item()).toBeCloseTo(2e4, 0);
    const gradient = await grad((x: Tensor) => crossEntropy(x, i32([2])))(tensor([[1e4, 0, -1e4]])).data();
    expect([...gradient]).toEqual([1, 0, -1]);
    for (const label of [3, -1]) expect(await crossEntropy(zeros([1, 3]), i32([label])).item()).toBeNaN();
  });

  test("has second derivatives with ignored rows in float64", async () => {
    const device = await oracleDevice();
    const labels = tensor([2, -100, 0], { dtype: "i32", device });
    const x = normal(key(5, { device }), [3, 4]);
    await checkGrads((logits) => crossEntropy(logits, labels), [x], { order: 2 });
    await checkGrads((logits) => sum(mul(logits, crossEntropy(logits, labels))), [x], { order: 2 });
  });

  test("refuses labels of another shape", () => {
    expect(() => crossEntropy(zeros([2, 3]), i32([0]))).toThrow(
      "crossEntropy: labels must have the shape of the logits without the last axis, got [2, 3] and [1]",
    );
  });
});
