import { checkGrads, grad } from "@mc/autograd";
import {
  add,
  type Device,
  explain,
  key,
  mul,
  normal,
  ones,
  realise,
  sliceAxis,
  stack,
  sum,
  type Tensor,
  tensor,
  zeros,
} from "@mc/tensor";
import { build, domains, type HostArray, oracleDevice, range, sharedTestDevice, testOp } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { type AttentionOptions, attention, maxLogitOf, maxLogitsOf } from "./attention.ts";
import { type PlainOptions, plainAttention } from "./fixtures/plainAttention.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

const numbers = [domains.anyNumber, domains.anyNumber, domains.anyNumber];
const lengths = [1, 7, 63, 64, 65];
const documentsOf = (batch: number, tokens: number, id: (b: number, i: number) => number, on: Device) =>
  tensor(
    Array.from({ length: batch }, (_, b) => range(tokens).map((i) => id(b, i))),
    { dtype: "i32", device: on },
  );

testOp("attention(q, k, v) is the softmax of visible scores times v", {
  op: (q, k, v) => attention(q!, k!, v!).output,
  inputs: numbers,
  shapes: (n) => [
    [2, 2, n, 8],
    [2, 2, n, 8],
    [2, 2, n, 8],
  ],
  sizes: lengths,
  reference: (q, k, v) => plainAttention(q, k, v)[0],
  gradient: 2,
});

testOp("attention(q, k, v) with grouped queries, odd sizes and values of their own size", {
  op: (q, k, v) => attention(q!, k!, v!).output,
  inputs: numbers,
  shapes: (n) => [
    [1, 6, n, 5],
    [1, 2, n, 5],
    [1, 2, n, 3],
  ],
  sizes: lengths,
  reference: (q, k, v) => plainAttention(q, k, v)[0],
  gradient: 2,
});

testOp("attention(q, k, v) without a causal mask", {
  op: (q, k, v) => attention(q!, k!, v!, { causal: false }).output,
  inputs: numbers,
  shapes: (n) => [
    [1, 2, n, 4],
    [1, 1, n, 4],
    [1, 1, n, 4],
  ],
  sizes: lengths,
  reference: (q, k, v) => plainAttention(q, k, v, { sees: () => true })[0],
  gradient: 2,
});

testOp("attention(q, k, v) gives the log-sum-exp of each row, with its gradient", {
  op: (q, k, v) => {
    const { output, rowLogSumExp } = attention(q!, k!, v!);
    return [output, rowLogSumExp];
  },
  inputs: numbers,
  shapes: (n) => [
    [2, 4, n, 8],
    [2, 2, n, 8],
    [2, 2, n, 8],
  ],
  sizes: lengths,
  reference: (q, k, v) => {
    const [out, , lse] = plainAttention(q, k, v);
    return [out, lse];
  },
  gradient: 2,
});

testOp("attention(q, k, v, { documents }) sees one document, and padding sees nothing", {
  op: (q, k, v) => {
    const [batch, , tokens] = q!.shape as [number, number, number];
    return attention(q!, k!, v!, { documents: documentsOf(batch, tokens, documentOf, q!.device) }).output;
  },
  inputs: numbers,
  shapes: (n) => [
    [2, 4, n, 8],
    [2, 2, n, 8],
    [2, 2, n, 8],
  ],
  sizes: lengths,
  reference: (q, k, v) =>
    plainAttention(q, k, v, {
      sees: (b, i, j) => j <= i && documentOf(b, i) === documentOf(b, j) && documentOf(b, i) >= 0,
    })[0],
  gradient: 2,
});

/** Documents of 5 tokens, every third of them padding. */
function documentOf(b: number, i: number): number {
  const document = Math.floor((i + b) / 5);
  return document % 3 === 2 ? -1 : document;
}

describe("attention", () => {
  const draw = (seed: number, shape: number[], on = device) => normal(key(seed, { device: on }), shape);
  const hostOf = async (x: Tensor): Promise<HostArray> => {
    const data = await x.data();
    return build(x.shape, (...at) => data[at.reduce((index, c, axis) => index * x.shape[axis]! + c, 0)]!);
  };

  test("rowMax and maxLogitOf are the largest scaled scores over visible pairs", async () => {
    const [q, k, v] = [draw(1, [3, 4, 17, 8]), draw(2, [3, 2, 17, 8]), draw(3, [3, 2, 17, 8])];
    for (const [options, sees] of [
      [{}, undefined],
      [
        { documents: documentsOf(3, 17, documentOf, device) },
        (b, i, j) => j <= i && documentOf(b, i) === documentOf(b, j) && documentOf(b, i) >= 0,
      ],
    ] as [AttentionOptions, PlainOptions["sees"]][]) {
      const { rowMax } = attention(q, k, v, options);
      const [, expected] = plainAttention(await hostOf(q), await hostOf(k), await hostOf(v), sees && { sees });
      await expect(rowMax).toBeAllClose(expected.data as Float64Array);
      const heads = range(4).map((h) =>
        Math.max(...range(3).flatMap((b) => range(17).map((i) => expected.at(b, h, i)))),
      );
      await expect(maxLogitOf(rowMax)).toBeAllClose(heads);
    }
  });

  test("maxLogitsOf of several layers is one kernel, and the maxLogitOf of each", async () => {
    const operands = [1, 2, 3].map((seed) => draw(seed, [2, 3, 9, 4]));
    await realise(operands);
    const rows = (tensors: readonly Tensor[]) => tensors.map((q) => attention(q, tensors[0]!, tensors[0]!).rowMax);
    const together = maxLogitsOf(rows(operands));
    for (const [i, rowMax] of rows(operands).entries())
      await expect(together[i]).toBeAllClose(await maxLogitOf(rowMax).data(), { rtol: 0, atol: 0 });
    const { kernels } = explain((...tensors: Tensor[]) => add(stack(maxLogitsOf(rows(tensors))), 1), ...operands);
    expect(kernels.map((kernel) => kernel.kind).filter((kind) => kind === "loop")).toEqual(["loop"]);
  });

  test("maxima are signed, and carry no gradient", async () => {
    const [q, k] = [mul(ones([1, 1, 3, 4]), -1), ones([1, 1, 3, 4])];
    await expect(maxLogitOf(attention(q, k, k).rowMax)).toBeAllClose([-2]);
    const gradient = grad((x: Tensor) =>
      add(sum(attention(x, k, k).rowMax), sum(maxLogitOf(attention(x, k, k).rowMax))),
    )(q);
    await expect(gradient).toBeAllClose(new Float32Array(12), { atol: 0 });
  });

  test("rows that see nothing give zeros without NaN, and gradients of zero", async () => {
    const [q, k, v] = [draw(4, [2, 2, 6, 4]), draw(5, [2, 2, 6, 4]), draw(6, [2, 2, 6, 4])];
    const documents = documentsOf(2, 6, (b, i) => (b === 0 || i < 2 ? -1 : 0), device);
    const result = attention(q, k, v, { documents });
    await expect(sliceAxis(result.output, 0, 0, 1)).toBeAllClose(new Float32Array(48), { atol: 0 });
    await expect(sliceAxis(sliceAxis(result.output, 0, 1, 2), 2, 0, 2)).toBeAllClose(new Float32Array(16), { atol: 0 });
    expect([...(await sliceAxis(result.rowMax, 0, 0, 1).data())]).toEqual(new Array(12).fill(Number.NEGATIVE_INFINITY));
    const gradients = grad((x: { q: Tensor; k: Tensor; v: Tensor }) =>
      sum(attention(x.q, x.k, x.v, { documents }).output),
    )({ q, k, v });
    for (const x of Object.values(gradients)) {
      expect([...(await x.data())].every(Number.isFinite)).toBe(true);
      await expect(sliceAxis(x, 0, 0, 1)).toBeAllClose(new Float32Array(48), { atol: 0 });
    }
  });

  test("rows that see nothing have second derivatives without NaN in float64", async () => {
    const on = await oracleDevice();
    const documents = documentsOf(1, 5, (_, i) => [-1, 0, 0, -1, 1][i]!, on);
    const args = [draw(7, [1, 2, 5, 4], on), draw(8, [1, 1, 5, 4], on), draw(9, [1, 1, 5, 4], on)];
    await checkGrads((q, k, v) => attention(q!, k!, v!, { documents }).output, args, { order: 2 });
  });

  test("a token's result does not depend on later tokens, to the bit", async () => {
    const [q, k, v] = [draw(10, [1, 2, 9, 8]), draw(11, [1, 2, 9, 8]), draw(12, [1, 2, 9, 8])];
    const late = tensor(range(9).map((i) => [i < 5 ? 1 : 100]));
    const changed = attention(mul(q, late), mul(k, late), mul(v, late)).output;
    await expect(sliceAxis(changed, 2, 0, 5)).toBeAllClose(sliceAxis(attention(q, k, v).output, 2, 0, 5), {
      rtol: 0,
      atol: 0,
    });
  });

  test("a NaN shows in the output and the maximum", async () => {
    const x = tensor([[[[1], [Number.NaN], [2]]]]);
    const { output, rowMax } = attention(x, x, ones([1, 1, 3, 1]));
    expect([...(await output.data())].map(Number.isNaN)).toEqual([false, true, true]);
    expect([...(await rowMax.data())].map(Number.isNaN)).toEqual([false, true, true]);
  });

  test("scores of 1e4 do not overflow", async () => {
    const q = mul(ones([1, 1, 3, 4]), 100);
    const { output, rowMax } = attention(q, q, ones([1, 1, 3, 4]));
    await expect(output).toBeAllClose(new Float32Array(12).fill(1));
    await expect(rowMax).toBeAllClose([[[20000, 20000, 20000]]]);
  });

  test("refuses operands that do not belong together", () => {
    const x = (...shape: number[]) => zeros(shape);
    expect(() => attention(x(2, 3), x(2, 3), x(2, 3))).toThrow("attention: q must be [B, H, T, D], got shape [2, 3]");
    expect(() => attention(x(1, 2, 3, 4), x(1, 2, 3, 5), x(1, 2, 3, 4))).toThrow(
      "must agree in B, T and D, got q [1, 2, 3, 4], k [1, 2, 3, 5]",
    );
    expect(() => attention(x(1, 2, 3, 4), x(1, 2, 3, 4), x(1, 1, 3, 4))).toThrow("k and v must agree in B, Hkv and T");
    expect(() => attention(x(1, 3, 3, 4), x(1, 2, 3, 4), x(1, 2, 3, 4))).toThrow(
      "the key heads must divide the query heads",
    );
    expect(() =>
      attention(x(1, 1, 3, 4), x(1, 1, 3, 4), x(1, 1, 3, 4), { documents: zeros([1, 2], { dtype: "i32" }) }),
    ).toThrow("document ids must be [1, 3], got [1, 2]");
    expect(() => attention(x(1, 1, 3, 4), x(1, 1, 3, 4), x(1, 1, 3, 4), { documents: zeros([1, 3]) })).toThrow(
      "document ids must be i32, got f32",
    );
  });
});
