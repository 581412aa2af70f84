// kernels/layers.ts: the fused ops of a decoder, forward and backward: attention and cross entropy.
import { valueAndGrad, vjp } from "@mc/autograd";
import { attention, crossEntropy } from "@mc/nn";
import { cast, key, normal, type Tensor, take, uniform } from "@mc/tensor";
import { attentionOracle } from "../lib/attentionOracle.ts";
import type { Case } from "../lib/case.ts";
import { indexTensor, places, readAt, relativeError } from "../lib/sample.ts";

interface AttentionSizes {
  readonly batch: number;
  readonly heads: number;
  readonly tokens: number;
  readonly features: number;
}

/** Attention and its gradient, each against one head in doubles. */
function attentionCases({ batch, heads, tokens, features }: AttentionSizes): Case[] {
  const shape = [batch, heads, tokens, features];
  const size = batch * heads * tokens * features;
  const pairs = (batch * heads * tokens * (tokens + 1)) / 2;
  const random = (seed: number): Tensor => normal(key(seed), shape);
  const lastHead = async (x: Tensor): Promise<ArrayLike<number>> =>
    take(take(x, indexTensor([batch - 1], x.device)), indexTensor([heads - 1], x.device), 1).data();
  const forward = (q: Tensor, k: Tensor, v: Tensor): Tensor => attention(q, k, v).output;
  return [
    {
      name: "attention forward",
      shape,
      inputs: () => [random(1), random(2), random(3)],
      run: (q, k, v) => forward(q!, k!, v!),
      flops: 4 * pairs * features,
      bytes: 16 * size,
      check: async ({ inputs, outputs: [out] }) => {
        const [q, k, v] = await Promise.all(inputs.map(lastHead));
        return relativeError(await lastHead(out!), attentionOracle(q!, k!, v!, tokens, features).o);
      },
    },
    {
      // the backward kernel recomputes the scores; the forward that it needs is timed with it
      name: "attention forward and backward",
      shape,
      inputs: () => [random(1), random(2), random(3), random(4)],
      run: (q, k, v, dO) => vjp(forward as (...primals: Tensor[]) => Tensor, q!, k!, v!).pullback(dO!),
      flops: 14 * pairs * features,
      bytes: 32 * size,
      check: async ({ inputs, outputs }) => {
        const [q, k, v, dO] = await Promise.all(inputs.map(lastHead));
        const { dq, dk, dv } = attentionOracle(q!, k!, v!, tokens, features, dO!);
        const errors = [dq, dk, dv].map(async (d, i) => relativeError(await lastHead(outputs[i]!), d));
        return Math.max(...(await Promise.all(errors)));
      },
    },
  ];
}

/** Mean cross entropy over rows, and its gradient with it. */
function crossEntropyCase(rows: number, classes: number): Case {
  return {
    name: "cross entropy and gradient",
    shape: [rows, classes],
    inputs: () => [normal(key(1), [rows, classes]), cast(uniform(key(2), [rows], { high: classes }), "i32")],
    run: (logits, labels) => {
      const { value, grads } = valueAndGrad((x: Tensor) => crossEntropy(x, labels!))(logits!);
      return [value, grads];
    },
    // the logits are read, and read again for the gradient, which is written
    bytes: 12 * rows * classes,
    check: async ({ inputs: [logits, labels], outputs: [, gradient] }) => {
      const at = places(rows, 8);
      const [x, right, actual] = [await readAt(logits!, at), await readAt(labels!, at), await readAt(gradient!, at)];
      const expected = at.flatMap((_, r) => {
        const row = Array.from(x.subarray(r * classes, (r + 1) * classes));
        const top = row.reduce((a, b) => Math.max(a, b));
        const all = row.reduce((s, v) => s + Math.exp(v - top), 0);
        return row.map((v, c) => (Math.exp(v - top) / all - (c === right[r] ? 1 : 0)) / rows);
      });
      return relativeError(actual, expected);
    },
  };
}

/** Fused ops at the sizes of GPT-2 124M; `small`: at sizes for slow devices. */
export const layers = (small: boolean): Case[] => [
  ...attentionCases(
    small ? { batch: 1, heads: 2, tokens: 128, features: 32 } : { batch: 8, heads: 12, tokens: 1024, features: 64 },
  ),
  small ? crossEntropyCase(64, 1009) : crossEntropyCase(2048, 50257),
];
