import { add, compile, exp, floor, matmul, mul, sin, sum, type Tensor, tensor, treeMap } from "@mc/tensor";
import { oracleDevice, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { checkGrads, customGradient, grad, stopGradient, valueAndGrad, vjp } from "./index.ts";

await testDevice();

describe("grad", () => {
  test("gives the gradient by a tensor, and the gradient of the gradient", async () => {
    const cube = (x: Tensor): Tensor => sum(mul(x, mul(x, x)));
    const x = tensor([1, -2]);
    expect(await grad(cube)(x).toArray()).toEqual([3, 12]);
    expect(await grad((y: Tensor) => sum(grad(cube)(y)))(x).toArray()).toEqual([6, -12]);
  });

  test("chooses an argument and leaves the others alone", async () => {
    const product = (a: Tensor, b: Tensor): Tensor => sum(mul(a, b));
    expect(await grad(product, { argument: 1 })(tensor([2]), tensor([5])).toArray()).toEqual([2]);
  });

  test("gives zeros for what the value does not depend on", async () => {
    const { used, unused } = grad((p: { used: Tensor; unused: Tensor }) => sum(p.used))({
      used: tensor([1, 2]),
      unused: tensor([3]),
    });
    expect([await used.toArray(), await unused.toArray()]).toEqual([[1, 1], [0]]);
  });

  test("adds up the paths of a tensor that occurs twice in the tree", async () => {
    const w = tensor([3]);
    const grads = grad((p: { a: Tensor; b: Tensor }) => sum(mul(p.a, p.b)))({ a: w, b: w });
    expect([await grads.a.toArray(), await grads.b.toArray()]).toEqual([[6], [6]]);
  });

  test("explains what the function must return", () => {
    const x = tensor([1, 2]);
    expect(() => grad((y: Tensor) => y)(x)).toThrow(/must return a scalar, got shape \[2\]; take its sum or mean/);
    expect(() => grad((() => 1) as never)(x)).toThrow(/must return a tensor; return \{ value, aux \}/);
    expect(() => grad((y: { n: number }) => sum(tensor([y.n])))({ n: 1 })).toThrow(/holds no tensors/);
  });
});

describe("valueAndGrad", () => {
  test("gives value, gradients in the tree's shape, and the auxiliary outputs", async () => {
    const loss = (p: { w: Tensor[] }, x: Tensor) => {
      const y = mul(p.w[0]!, x);
      return { value: sum(mul(y, p.w[1]!)), aux: { y } };
    };
    const { value, grads, aux } = valueAndGrad(loss, { hasAux: true })({ w: [tensor([2]), tensor([3])] }, tensor([5]));
    expect(await value.item()).toBe(30);
    expect(await Promise.all(treeMap((g: Tensor) => g.item(), grads).w)).toEqual([15, 10]);
    expect(await aux.y.toArray()).toEqual([10]);
  });

  test("works inside of compile as outside", async () => {
    const step = (x: Tensor): Tensor => grad((y: Tensor) => sum(exp(y)))(x);
    const x = tensor([0.5, -1]);
    expect(await compile(step)(x).toArray()).toEqual(await step(x).toArray());
  });
});

describe("vjp", () => {
  test("pulls cotangents of several outputs back to several inputs", async () => {
    const { value, pullback } = vjp((a, b) => [add(a, b), mul(a, b)], tensor([2]), tensor([3]));
    expect(await Promise.all(value.map((v) => v.item()))).toEqual([5, 6]);
    expect(await Promise.all(pullback(tensor([1]), tensor([10])).map((g) => g.item()))).toEqual([31, 21]);
    expect(() => pullback(tensor([1]))).toThrow(/needs 2 cotangents, got 1/);
  });
});

describe("stopGradient and customGradient", () => {
  test("stopGradient(x) is x without a gradient", async () => {
    expect(await grad((x: Tensor) => sum(mul(x, stopGradient(x))))(tensor([3])).toArray()).toEqual([3]);
  });

  test("customGradient(f, rule) computes f and differentiates by the rule", async () => {
    const roundStraightThrough = customGradient(
      (x) => floor(add(x!, 0.5)),
      (_, __, g) => [mul(g, 2)],
    );
    const x = tensor([1.7]);
    expect(await roundStraightThrough(x).toArray()).toEqual([2]);
    expect(await grad((y: Tensor) => sum(roundStraightThrough(y)))(x).toArray()).toEqual([2]);
  });
});

describe("checkGrads", () => {
  test("accepts right gradients to second order and gives the compared numbers", async () => {
    const device = await oracleDevice();
    const a = tensor([0.3, -0.8, 1.1, 0.5], { shape: [2, 2], device });
    const checked = await checkGrads((x) => matmul(sin(x!), x!), [a], { order: 2 });
    expect(checked.map((c) => c.order)).toEqual([1, 2]);
  });

  test("refuses a wrong gradient with both figures", async () => {
    const device = await oracleDevice();
    const wrong = customGradient(
      (x) => mul(x!, x!),
      ([x], _, g) => [mul(g, x!)],
    );
    await expect(checkGrads((x) => wrong(x!), [tensor([0.7], { device })])).rejects.toThrow(
      /gradient of order 1 .* central differences give/,
    );
  });
});
