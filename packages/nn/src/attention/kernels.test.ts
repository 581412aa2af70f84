// The attention kernels of the host's device, forward and backward, against what they mean.
import { defineFused, type Device, type FusedOp, key, normal, realise, type Tensor, tensor } from "@mc/tensor";
import { oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { attentionBackwardFused, attentionFused } from "./op.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

/** The op without its kernels: the reference runs. */
const referenceOf = <P>(op: FusedOp<P>) => defineFused({ ...op, cpu: undefined, webgpu: undefined });

const shapes = [
  { tokens: 1, heads: 2, keyHeads: 2, size: 16 },
  { tokens: 7, heads: 4, keyHeads: 2, size: 8 },
  { tokens: 63, heads: 2, keyHeads: 1, size: 4 },
  { tokens: 64, heads: 4, keyHeads: 4, size: 16 },
  { tokens: 65, heads: 6, keyHeads: 2, size: 10 },
  { tokens: 130, heads: 2, keyHeads: 2, size: 64 },
];

describe.each([true, false])("attention kernels, causal %s", (causal) => {
  describe.each([false, true])("documents %s", (withDocuments) => {
    test.each(shapes)("equal the reference at $tokens tokens, $heads/$keyHeads heads of $size", async ({ tokens, heads, keyHeads, size }) => {
      const batch = 2;
      const draw = (seed: number, shape: readonly number[], on: Device) => normal(key(seed, { device: on }), shape);
      const rows = [batch, tokens];
      const ids = range(batch * tokens).map((i) => ((i / 9) | 0) % 4 === 3 ? -1 : (i / 9) | 0);
      const run = (on: Device, plain: boolean): Tensor[] => {
        const qkv = [draw(1, [...rows, heads, size], on), draw(2, [...rows, keyHeads, size], on), draw(3, [...rows, keyHeads, size], on)];
        const documents = withDocuments ? [tensor(ids, { shape: rows, dtype: "i32", device: on })] : [];
        const params = { scale: size ** -0.5, causal };
        const forward = plain ? referenceOf(attentionFused) : defineFused(attentionFused);
        const backward = plain ? referenceOf(attentionBackwardFused) : defineFused(attentionBackwardFused);
        const outputs = forward([...qkv, ...documents], params);
        const delta = draw(5, [batch, heads, tokens], on);
        const dOut = draw(4, [...rows, heads, size], on);
        return [...outputs, ...backward([...qkv, outputs[2]!, delta, dOut, ...documents], { ...params, deltaIsRowDots: false })];
      };
      const oracle = await oracleDevice();
      const expected = run(oracle, true);
      const tolerance = { rtol: 1e-4, atol: 2e-5 };
      for (const [what, actual] of [["kernel", run(device, false)], ["reference", run(device, true)], ["float64 loops", run(oracle, false)]] as const) {
        await realise(actual);
        for (let i = 0; i < 4; i++) await expect(actual[i]!, `${what}, output ${i}`).toBeAllClose(expected[i]!, tolerance);
      }
    });
  });
});
