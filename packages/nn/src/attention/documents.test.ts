// Several documents in one sequence: none sees another, and nothing of the size of [T, T] exists.
import { grad } from "@mc/autograd";
import {
  concat,
  type Device,
  defineFused,
  explain,
  key,
  mul,
  normal,
  realise,
  slice,
  sum,
  type Tensor,
  tensor,
} from "@mc/tensor";
import { hostDevice, oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { alibiSlopes } from "./alibi.ts";
import { type AttentionOptions, attention } from "./attention.ts";
import { attentionBackwardFused, attentionFused } from "./op.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

const heads = 4;
const keyHeads = 2;
const size = 6;
const valueSize = 5;

/** Queries, keys, values, and the cotangents of the output: [1, .., T, ..]. */
interface Operands {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  weights: Tensor;
}

function draw(seed: number, tokens: number, on: Device): Operands {
  const one = (n: number, of: number, features: number) =>
    normal(key(4 * seed + n, { device: on }), [1, of, tokens, features]);
  return {
    q: one(0, heads, size),
    k: one(1, keyHeads, size),
    v: one(2, keyHeads, valueSize),
    weights: one(3, heads, valueSize),
  };
}

const idsOf = (ids: readonly number[], on: Device): Tensor => tensor([[...ids]], { dtype: "i32", device: on });

/** Output, row maxima, log-sum-exps and gradients of the tokens [start, end). */
async function resultsOf(x: Operands, options: AttentionOptions, start: number, end: number): Promise<Tensor[]> {
  const { output, rowMax, rowLogSumExp } = attention(x.q, x.k, x.v, options);
  const gradients = grad((y: Pick<Operands, "q" | "k" | "v">) =>
    sum(mul(attention(y.q, y.k, y.v, options).output, x.weights)),
  )({ q: x.q, k: x.k, v: x.v });
  const all = [output, rowMax, rowLogSumExp, gradients.q, gradients.k, gradients.v];
  const part = (t: Tensor): Tensor =>
    slice(t, [0, 0, start, 0].slice(0, t.ndim), [1, t.shape[1]!, end, t.shape[3]!].slice(0, t.ndim));
  return realise(all.map(part));
}

const variants: [string, (on: Device) => AttentionOptions][] = [
  ["no other option", () => ({})],
  ["a window", () => ({ window: 4 })],
  [
    "a window, a soft cap, slopes and sinks",
    (on) => ({ window: 6, softCap: 1.5, slopes: alibiSlopes(heads), sinks: normal(key(9, { device: on }), [heads]) }),
  ],
  ["no causal mask", () => ({ causal: false })],
];

describe.each(variants)("documents with %s", (_, optionsOn) => {
  test("have the same bits at the same place, whatever the others hold and however long they are", async () => {
    const [start, end, tokens] = [10, 21, 37];
    const mine = draw(0, end - start, device);
    const layouts: ((t: number) => number)[] = [
      (t) => (t < start ? 0 : t < end ? 1 : 2),
      (t) => (t < start ? 0 : t < end ? 1 : 2),
      (t) => (t < 3 ? 7 : t < start ? 4 : t < end ? 1 : t < 30 ? -1 : 0),
    ];
    const bits: number[][] = [];
    for (const [n, layout] of layouts.entries()) {
      const [before, after] = [draw(2 * n + 1, start, device), draw(2 * n + 2, tokens - end, device)];
      const join = (name: keyof Operands): Tensor =>
        concat([mul(before[name], 10 ** n), mine[name], mul(after[name], 10 ** n)], 2);
      const packed = { q: join("q"), k: join("k"), v: join("v"), weights: join("weights") };
      await realise(packed);
      const documents = idsOf(range(tokens).map(layout), device);
      const results = await resultsOf(packed, { ...optionsOn(device), documents }, start, end);
      const data = await Promise.all(results.map((t) => t.data()));
      bits.push(data.flatMap((x) => [...x]));
    }
    expect(bits[0]!.every(Number.isFinite)).toBe(true);
    expect(bits[1]).toEqual(bits[0]); // with Object.is
    expect(bits[2]).toEqual(bits[0]);
  });

  test.each([
    ["the host's device", sharedTestDevice, 1e-5],
    ["float64", oracleDevice, 1e-12],
  ] as const)("equal the documents alone on %s", async (_, connected, tolerance) => {
    const on = await connected();
    const lengths = [9, 14];
    const ends = lengths.map((__, n) => lengths.slice(0, n + 1).reduce((a, b) => a + b));
    const alone = lengths.map((length, n) => draw(n + 20, length, on));
    const join = (name: keyof Operands): Tensor =>
      concat(
        alone.map((x) => x[name]),
        2,
      );
    const packed = { q: join("q"), k: join("k"), v: join("v"), weights: join("weights") };
    await realise([packed, alone]);
    const documents = idsOf(
      lengths.flatMap((length, n) => new Array<number>(length).fill(n)),
      on,
    );
    const options = optionsOn(on);
    for (const [n, length] of lengths.entries()) {
      const expected = await resultsOf(alone[n]!, options, 0, length);
      const actual = await resultsOf(packed, { ...options, documents }, ends[n]! - length, ends[n]!);
      for (const [i, x] of actual.entries())
        await expect(x, `document ${n}, result ${i}`).toBeAllClose(expected[i]!, { rtol: tolerance, atol: tolerance });
    }
  });
});

describe("the plan of attention with documents, forward and backward", () => {
  const tokens = 128;
  const attentionsOf = (options: AttentionOptions) => (x: Operands, documents: Tensor, sinks: Tensor) =>
    grad((y: Pick<Operands, "q" | "k" | "v"> & { sinks: Tensor }) => {
      const given = options.sinks ? { ...options, sinks: y.sinks } : options;
      return sum(mul(attention(y.q, y.k, y.v, { ...given, documents }).output, x.weights));
    })({ q: x.q, k: x.k, v: x.v, sinks });

  /** The largest number of elements that any kernel runs over or binds. */
  const largest = ({ kernels }: ReturnType<typeof explain>): number =>
    Math.max(...kernels.flatMap((k) => [k.shape.reduce((a, b) => a * b, 1), ...k.bindings.map((b) => b.size)]));

  const planOf = async (tokens: number, optionsOn: (on: Device) => AttentionOptions, on: Device) => {
    const x = draw(1, tokens, on);
    const ids = range(tokens).map((t) => Math.floor(t / 50));
    const sinks = normal(key(2, { device: on }), [heads]);
    await realise({ ...x, sinks });
    return explain(attentionsOf(optionsOn(on)), x, idsOf(ids, on), sinks);
  };

  test.each(variants)("holds no [T, T] with %s, and grows with T", async (_, optionsOn) => {
    for (const on of hostDevice === "cpu" ? [device, await oracleDevice()] : [device]) {
      const plan = await planOf(tokens, optionsOn, on);
      expect(plan.kernels.filter((k) => k.kind === "fused").length).toBe(2);
      expect(largest(plan)).toBeLessThan(tokens * tokens);
      const half = await planOf(tokens / 2, optionsOn, on);
      expect(plan.temporaryBytes / half.temporaryBytes).toBeLessThan(2.01);
    }
  });

  test("counts the work of a window by its length", async () => {
    const plans = [tokens / 2, tokens].map((t) => planOf(t, () => ({ window: 8 }), device));
    const [half, whole] = await Promise.all(plans);
    const ofAttention = ({ kernels }: ReturnType<typeof explain>): number =>
      kernels.reduce((total, k) => total + (k.kind === "fused" ? k.flops : 0), 0);
    // eight keys a token but for the first seven; forward q k^T and P v, backward q k^T, dO v^T, P^T dO, dS k and dS^T q
    expect(ofAttention(whole!)).toBe(2 * 4 * (tokens * 8 - 28) * (4 * size + 3 * valueSize));
    expect(ofAttention(whole!) / ofAttention(half!)).toBeLessThan(2.1);
  });

  test("would hold it without kernels, and this test would show it", () => {
    const inPlainOps = { cpu: undefined, webgpu: undefined };
    const forward = defineFused({ ...attentionFused, ...inPlainOps });
    const backward = defineFused({ ...attentionBackwardFused, ...inPlainOps });
    const x = draw(1, tokens, device);
    const documents = idsOf(new Array<number>(tokens).fill(0), device);
    const params = { scale: 1, causal: true };
    const tokensFirst = (y: Tensor) => normal(key(3), [1, tokens, y.shape[1]!, y.shape[3]!]);
    const [q, k, v, dOut] = [x.q, x.k, x.v, x.weights].map(tokensFirst);
    const plan = explain(
      (...args: Tensor[]) => {
        const [q, k, v, dOut, ids] = args as [Tensor, Tensor, Tensor, Tensor, Tensor];
        const [output, , lse] = forward([q, k, v, ids], params);
        return [output!, ...backward([q, k, v, lse!, lse!, dOut, ids], params)];
      },
      q!,
      k!,
      v!,
      dOut!,
      documents,
    );
    expect(largest(plan)).toBeGreaterThanOrEqual(tokens * tokens);
  });
});
