// The variants of attention on the host's device: windows, soft caps, ALiBi, sinks, alone and together.
import { grad } from "@mc/autograd";
import { type Device, key, mul, normal, ones, sliceAxis, sum, type Tensor, tensor, zeros } from "@mc/tensor";
import { domains, type HostArray, hostDevice, range, sharedTestDevice, testOp } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { alibiSlopes } from "./alibi.ts";
import { type AttentionOptions, attention } from "./attention.ts";
import { plainAttention } from "./fixtures/plainAttention.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

const numbers = [domains.anyNumber, domains.anyNumber, domains.anyNumber];
const sizes = [6, 65];
const grouped = (n: number) => [
  [2, 4, n, 5],
  [2, 2, n, 5],
  [2, 2, n, 3],
];
const all = (results: { output: Tensor; rowLogSumExp: Tensor }) => [results.output, results.rowLogSumExp];
const outputAndLse = ([output, , lse]: readonly HostArray[]) => [output!, lse!];

testOp("attention(q, k, v, { window }) sees the last tokens only", {
  op: (q, k, v) => all(attention(q!, k!, v!, { window: 4 })),
  inputs: numbers,
  shapes: grouped,
  sizes,
  reference: (q, k, v) => outputAndLse(plainAttention(q, k, v, { sees: (_, i, j) => j <= i && j > i - 4 })),
  gradient: 2,
});

testOp("attention(q, k, v, { softCap }) bends the scores", {
  op: (q, k, v) => all(attention(q!, k!, v!, { softCap: 1.5, scale: 1 })),
  inputs: numbers,
  shapes: grouped,
  sizes,
  reference: (q, k, v) => outputAndLse(plainAttention(q, k, v, { softCap: 1.5, scale: 1 })),
  gradient: 2,
});

testOp("attention(q, k, v, { slopes }) takes off the distance", {
  op: (q, k, v) => all(attention(q!, k!, v!, { slopes: [0.5, 0, 0.1, -0.05] })),
  inputs: numbers,
  shapes: grouped,
  sizes,
  reference: (q, k, v) => outputAndLse(plainAttention(q, k, v, { slopes: [0.5, 0, 0.1, -0.05] })),
  gradient: 2,
});

testOp("attention(q, k, v, { sinks }) gives part of the weight away", {
  op: (q, k, v, sinks) => all(attention(q!, k!, v!, { sinks: sinks! })),
  inputs: [...numbers, domains.anyNumber],
  shapes: (n) => [...grouped(n), [4]],
  sizes,
  reference: (q, k, v, sinks) => outputAndLse(plainAttention(q!, k!, v!, { sinks: sinks! })),
  gradient: 2,
});

/** Documents of 7 tokens, every third of them padding. */
const documentOf = (b: number, i: number): number => {
  const document = Math.floor((i + 3 * b) / 7);
  return document % 3 === 1 ? -1 : document;
};
const documentsOf = (q: Tensor): Tensor => {
  const [batch, , tokens] = q.shape as [number, number, number];
  const ids = range(batch).map((b) => range(tokens).map((i) => documentOf(b, i)));
  return tensor(ids, { dtype: "i32", device: q.device });
};

testOp("attention(q, k, v, ...) with all options at once", {
  op: (q, k, v, sinks) =>
    all(
      attention(q!, k!, v!, {
        window: 5,
        softCap: 2,
        slopes: alibiSlopes(4),
        sinks: sinks!,
        documents: documentsOf(q!),
      }),
    ),
  inputs: [...numbers, domains.anyNumber],
  shapes: (n) => [...grouped(n), [4]],
  sizes,
  reference: (q, k, v, sinks) =>
    outputAndLse(
      plainAttention(q!, k!, v!, {
        sees: (b, i, j) => j <= i && j > i - 5 && documentOf(b, i) === documentOf(b, j) && documentOf(b, i) >= 0,
        softCap: 2,
        slopes: alibiSlopes(4),
        sinks: sinks!,
      }),
    ),
  // the log-sum-exp of padding has no gradient to compare with: it is -infinity
  gradient: 0,
});

describe("variants of attention", () => {
  const draw = (seed: number, shape: number[]) => normal(key(seed, { device }), shape);

  test("rowMax is the largest scaled score, before the soft cap and the slopes", async () => {
    const [q, k] = [draw(1, [2, 2, 70, 4]), draw(2, [2, 2, 70, 4])];
    const { rowMax } = attention(q, k, k, { window: 8 });
    for (const options of [{ softCap: 0.5 }, { slopes: [1, 0.1] }, { softCap: 2, slopes: [1, 0.1], sinks: ones([2]) }])
      await expect(attention(q, k, k, { window: 8, ...options }).rowMax).toBeAllClose(rowMax, { rtol: 1e-6 });
  });

  test("a window of all tokens or more is none, and a window of one copies the values", async () => {
    const [q, k, v] = [draw(3, [1, 2, 9, 4]), draw(4, [1, 2, 9, 4]), draw(5, [1, 2, 9, 3])];
    const plain = attention(q, k, v).output;
    for (const window of [9, 1000])
      await expect(attention(q, k, v, { window }).output).toBeAllClose(plain, { rtol: 0, atol: 0 });
    await expect(attention(q, k, v, { window: 1 }).output).toBeAllClose(v);
  });

  test("a sink of -infinity is none, and one of 80 takes almost everything", async () => {
    const q = draw(6, [1, 2, 9, 4]);
    const sinks = (x: number) => tensor([x, x]);
    await expect(attention(q, q, q, { sinks: sinks(Number.NEGATIVE_INFINITY) }).output).toBeAllClose(
      attention(q, q, q).output,
    );
    await expect(attention(q, q, q, { sinks: sinks(80) }).output).toBeAllClose(new Float32Array(72));
  });

  test("scores of 1e4 do not overflow, and a NaN shows", async () => {
    const q = mul(ones([1, 1, 3, 4]), 100);
    const options = { softCap: 20, slopes: [0.5], sinks: zeros([1]) };
    const { output, rowMax, rowLogSumExp } = attention(q, q, ones([1, 1, 3, 4]), options);
    await expect(output).toBeAllClose(new Float32Array(12).fill(1));
    await expect(rowMax).toBeAllClose([[[20000, 20000, 20000]]]);
    await expect(rowLogSumExp).toBeAllClose([
      [[20, 20 + Math.log1p(Math.exp(-0.5)), 20 + Math.log1p(Math.exp(-0.5) + Math.exp(-1))]],
    ]);
    const x = tensor([[[[1], [Number.NaN], [2]]]]);
    for (const given of [{ softCap: 20 }, { slopes: [0.5] }]) {
      const broken = attention(x, x, ones([1, 1, 3, 1]), given);
      expect([...(await broken.output.data())].map(Number.isNaN)).toEqual([false, true, true]);
      expect([...(await broken.rowMax.data())].map(Number.isNaN)).toEqual([false, true, true]);
    }
  });

  const masked: [string, AttentionOptions][] = [
    ["all of them", { window: 2, softCap: 1, slopes: [0.5, 0.25] }],
    ["a soft cap and no causal mask", { softCap: 1, causal: false }],
    ["sinks", {}],
    ["a window", { window: 2 }],
    ["a soft cap", { softCap: 1 }],
    ["slopes", { slopes: [0.5, 0.25] }],
  ];
  test.each(hostDevice === "cpu" ? masked : masked.slice(0, 3))(
    "rows that see nothing give zeros and gradients of zero with %s",
    async (name, options) => {
      const wanted = name === "sinks" || name === "all of them";
      // batch row 0 is padding, and the first two tokens of batch row 1
      const ids = range(2).map((b) => range(6).map((i) => (b === 0 || i < 2 ? -1 : 0)));
      const documents = tensor(ids, { dtype: "i32" });
      const call = (x: { q: Tensor; k: Tensor; v: Tensor; sinks: Tensor }) =>
        attention(x.q, x.k, x.v, { ...options, documents, ...(wanted && { sinks: x.sinks }) });
      const args = {
        q: draw(7, [2, 2, 6, 4]),
        k: draw(8, [2, 2, 6, 4]),
        v: draw(9, [2, 2, 6, 3]),
        sinks: tensor([0.5, -1]),
      };
      const { output, rowMax, rowLogSumExp } = call(args);
      await expect(sliceAxis(output, 0, 0, 1)).toBeAllClose(new Float32Array(36), { atol: 0 });
      await expect(sliceAxis(sliceAxis(output, 0, 1, 2), 2, 0, 2)).toBeAllClose(new Float32Array(12), { atol: 0 });
      for (const rows of [rowMax, rowLogSumExp])
        expect([...(await sliceAxis(rows, 0, 0, 1).data())]).toEqual(new Array(12).fill(Number.NEGATIVE_INFINITY));
      expect([...(await output.data())].every(Number.isFinite)).toBe(true);
      const gradients = grad((x: typeof args) => sum(mul(call(x).output, draw(10, [2, 2, 6, 3]))))(args);
      for (const [at, x] of Object.entries(gradients)) {
        expect([...(await x.data())].every(Number.isFinite), at).toBe(true);
        if (at === "sinks") continue;
        await expect(sliceAxis(x, 0, 0, 1)).toBeAllClose(new Float32Array(x.size / 2), { atol: 0 });
        await expect(sliceAxis(sliceAxis(x, 0, 1, 2), 2, 0, 2)).toBeAllClose(new Float32Array(x.size / 6), { atol: 0 });
      }
      const ofSinks = [...(await gradients.sinks.data())];
      expect(ofSinks.every((g) => (wanted ? g !== 0 : g === 0))).toBe(true);
    },
  );

  test("refuses options that mean nothing", () => {
    const q = zeros([1, 2, 3, 4]);
    const refused = (options: AttentionOptions) => expect(() => attention(q, q, q, options));
    for (const window of [0, -1, 2.5, Number.NaN])
      refused({ window }).toThrow(`attention: window must be a positive integer, got ${window}`);
    refused({ window: 2, causal: false }).toThrow("attention: a window must have causal: true, got causal: false");
    for (const softCap of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e39, 1e-50])
      refused({ softCap }).toThrow(`attention: softCap must be a positive number, got ${softCap}`);
    refused({ slopes: [1, 1], causal: false }).toThrow("attention: slopes must have causal: true, got causal: false");
    refused({ slopes: [1] }).toThrow(
      "attention: slopes must be one finite number for each query head, got 1 for 2 heads",
    );
    refused({ slopes: [1, Number.NaN] }).toThrow("slopes must be one finite number for each query head, got [1, NaN]");
    refused({ sinks: zeros([3]) }).toThrow("attention: sinks must be [2], one for each query head, got shape [3]");
    refused({ sinks: zeros([1, 2]) }).toThrow(
      "attention: sinks must be [2], one for each query head, got shape [1, 2]",
    );
    refused({ sinks: zeros([2], { dtype: "i32" }) }).toThrow("attention: sinks must be f32, got i32");
  });
});
