// Shapes at the edge: scalars, empty tensors, many dimensions, many inputs.
import { grad } from "@mc/autograd";
import * as t from "@mc/tensor";
import { type Tensor, tensor } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { testDevice } from "../host.ts";
import "../matchers.ts";

await testDevice();
const empty = (...shape: number[]): Tensor => tensor(new Float32Array(0), { shape });

describe("scalars", () => {
  const x = (): Tensor => tensor(3);
  test.each<[string, () => Tensor, number]>([
    ["add", () => t.add(x(), x()), 6],
    ["sum", () => t.sum(x()), 3],
    ["max", () => t.max(x()), 3],
    ["mean", () => t.mean(x()), 3],
    ["reshape to [1, 1]", () => t.reshape(x(), [1, 1]), 3],
    ["broadcastTo and sum", () => t.sum(t.broadcastTo(x(), [2, 3])), 18],
    ["where", () => t.where(t.less(x(), 4), x(), 0), 3],
    ["exp(log(x))", () => t.exp(t.log(x())), 3],
    ["a full tensor read back", () => t.full([], 3), 3],
    ["an element of a vector", () => t.reshape(t.sliceAxis(tensor([1, 3, 5]), 0, 1, 2), []), 3],
  ])("%s", async (_, f, expected) => {
    await expect(await f().item()).toBeCloseTo(expected, 5);
  });
  test("the gradient of a scalar function of a scalar", async () => {
    expect(await grad((v: Tensor) => t.mul(v, v))(x()).item()).toBe(6);
  });
});

describe("empty tensors", () => {
  test.each<[string, () => Tensor, number[], number[]]>([
    ["add", () => t.add(empty(0, 3), tensor([1, 2, 3])), [0, 3], []],
    ["sum over the empty axis", () => t.sum(empty(0, 3), { axis: 0 }), [3], [0, 0, 0]],
    ["sum over the other axis", () => t.sum(empty(0, 3), { axis: 1 }), [0], []],
    ["sum of everything", () => t.sum(empty(0)), [], [0]],
    ["matmul over an empty inner axis", () => t.matmul(empty(2, 0), empty(0, 2)), [2, 2], [0, 0, 0, 0]],
    ["matmul with no rows", () => t.matmul(empty(0, 2), t.ones([2, 3])), [0, 3], []],
    ["concat with an empty piece", () => t.concat([empty(0, 2), t.ones([1, 2])]), [1, 2], [1, 1]],
    ["slice to nothing", () => t.sliceAxis(tensor([1, 2]), 0, 1, 1), [0], []],
    ["pad of nothing", () => t.pad(empty(0), [[1, 1]]), [2], [0, 0]],
    ["take of no rows", () => t.take(t.ones([3, 2]), tensor(new Int32Array(0))), [0, 2], []],
    ["scatterAdd of nothing", () => t.scatterAdd(tensor(new Int32Array(0)), empty(0), 0, 3), [3], [0, 0, 0]],
    ["reshape", () => t.reshape(empty(0, 4), [4, 0]), [4, 0], []],
    ["zeros", () => t.zeros([0]), [0], []],
  ])("%s", async (_, f, shape, expected) => {
    const y = f();
    expect(y.shape).toEqual(shape);
    expect(Array.from(await y.data())).toEqual(expected);
  });
  test("max over nothing is a ShapeError", () => {
    expect(() => t.max(empty(0))).toThrow(t.ShapeError);
  });
  test("a compiled function on empty tensors", async () => {
    const f = t.compile((x: Tensor) => ({ y: t.mul(x, 2), total: t.sum(x) }), { donate: true });
    const { y, total } = f(empty(0, 2));
    expect((await y.data()).length).toBe(0);
    expect(await total.item()).toBe(0);
  });
});

describe("many dimensions and many inputs", () => {
  test("six dimensions permuted, flipped and summed", async () => {
    const shape = [2, 3, 1, 2, 3, 2];
    const data = Float32Array.from({ length: 72 }, (_, i) => i);
    const x = tensor(data, { shape });
    const y = t.sum(t.flip(t.transpose(x, [5, 3, 1, 0, 2, 4]), [0, 2]), { axis: [1, 5] });
    const expected: number[] = [];
    for (let f = 1; f >= 0; f--)
      for (let b = 2; b >= 0; b--)
        for (let a = 0; a < 2; a++) {
          let sum = 0;
          for (let d = 0; d < 2; d++) for (let e = 0; e < 3; e++) sum += data[(((a * 3 + b) * 2 + d) * 3 + e) * 2 + f]!;
          expected.push(sum);
        }
    await expect(t.reshape(y, [-1])).toBeAllClose(expected);
  });

  test("products of flipped matrices", async () => {
    const [x, y] = [t.normal(t.key(1), [24, 32]), t.normal(t.key(2), [32, 24])];
    for (const axis of [0, 1, [0, 1]]) {
      const views = [t.flip(x, axis), t.flip(y, axis)] as const;
      const [u, v] = await Promise.all(views.map(async (z) => tensor(await z.data(), { shape: z.shape })));
      await expect(t.matmul(...views)).toBeAllClose(t.matmul(u!, v!));
      await expect(t.matmul(t.mT(views[0]), t.mT(views[1]))).toBeAllClose(t.matmul(t.mT(u!), t.mT(v!)));
    }
  });

  test("a sum of 30 tensors, more than any kernel binds", async () => {
    const xs = Array.from({ length: 30 }, (_, i) => tensor([i, 2 * i]));
    await expect(xs.reduce((a, b) => t.add(a, b))).toBeAllClose([435, 870]);
    await expect(xs.reduce((a, b, i) => (i % 3 ? t.sub(a, t.mul(b, xs[i - 1]!)) : t.maximum(a, b)))).toBeAllClose(
      [0, 1].map((c) =>
        xs.reduce(
          (a, _, i) => (i === 0 ? 0 : i % 3 ? a - i * (c + 1) * (i - 1) * (c + 1) : Math.max(a, i * (c + 1))),
          0,
        ),
      ),
    );
  });

  test("concat and stack of 20 pieces", async () => {
    const pieces = Array.from({ length: 20 }, (_, i) => t.mul(tensor([i, i]), 2));
    await expect(t.concat(pieces)).toBeAllClose(Array.from({ length: 40 }, (_, i) => 2 * Math.floor(i / 2)));
    await expect(t.sum(t.stack(pieces, 1), { axis: 1 })).toBeAllClose([380, 380]);
  });

  test("an element-wise op of one's own with 12 inputs runs, or says that it is over the limit of the device", async () => {
    const xs = Array.from({ length: 12 }, (_, i) => tensor([i, i + 1]));
    const total = t.elementwise("total", xs, (...args) => args.reduce((a, b) => t.scalar.add(a, b)));
    if (total.device.kind === "webgpu") expect(() => total.data()).toThrow(/at most 7 different tensors .* split it/);
    else await expect(total).toBeAllClose([66, 78]);
  });

  test("one long axis past 65535 workgroups of one thread", async () => {
    const n = 70_001;
    const x = t.cast(t.arange(n), "f32");
    await expect(t.sliceAxis(t.mul(t.reshape(x, [n, 1]), tensor([1, 2])), 0, n - 1, n)).toBeAllClose([
      [n - 1, 2 * (n - 1)],
    ]);
    await expect(
      t.sliceAxis(t.sum(t.broadcastTo(t.reshape(x, [n, 1]), [n, 3]), { axis: 1 }), 0, n - 2, n),
    ).toBeAllClose([3 * (n - 2), 3 * (n - 1)]);
  });
});
