// The attention kernels of the host's device, forward and backward, against what they mean.
import {
  type Device,
  defineFused,
  type FusedOp,
  key,
  mul,
  normal,
  realise,
  slice,
  type Tensor,
  tensor,
} from "@mc/tensor";
import { hostDevice, oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { alibiSlopes } from "./alibi.ts";
import { attentionBackwardFused, attentionFused } from "./op.ts";
import { attentionSizes } from "./sizes.ts";
import { attentionBackwardRows, attentionRows } from "./wgslRows.ts";
import { attentionBackwardTiles, attentionTiles } from "./wgslTiles.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

/** The op without its kernels: the reference runs. */
const referenceOf = <P>(op: FusedOp<P>) => defineFused({ ...op, cpu: undefined, webgpu: undefined });

/** What may compute the ops on the host's device. */
interface Variant {
  forward?: typeof attentionRows;
  backward?: typeof attentionBackwardRows;
  /** On the float64 CPU device, to its precision. */
  exact?: boolean;
}
const variants: Record<string, Variant> =
  hostDevice === "cpu"
    ? { "the CPU's": {}, "the CPU's float64": { exact: true } }
    : {
        "one thread a row": { forward: attentionRows, backward: attentionBackwardRows },
        // the tiled ones run here whatever the adapter: a software driver is slow at them, so few and small cases
        tiled: { forward: attentionTiles, backward: attentionBackwardTiles },
      };

const withVariant = ({ forward, backward }: Variant) => ({
  forward: defineFused({
    ...attentionFused,
    ...(forward && {
      webgpu: ([q, k, v, documents], params) => forward(attentionSizes(q!, k!, v!, documents), params),
    }),
  } as typeof attentionFused),
  backward: defineFused({
    ...attentionBackwardFused,
    ...(backward && {
      webgpu: ([q, k, v, , , , documents], params) => backward(attentionSizes(q!, k!, v!, documents), params),
    }),
  } as typeof attentionBackwardFused),
});

interface Row {
  tokens: number;
  heads: number;
  keyHeads: number;
  size: number;
  valueSize: number;
  causal: boolean;
  documents: boolean;
  window?: number;
  softCap?: number;
  slopes?: boolean;
}
const row = (tokens: number, heads: number, keyHeads: number, size: number, rest: Partial<Row> = {}): Row => ({
  tokens,
  heads,
  keyHeads,
  size,
  valueSize: size,
  causal: true,
  documents: false,
  ...rest,
});
const table = [
  row(1, 2, 2, 16),
  row(7, 4, 2, 8, { documents: true }),
  row(63, 2, 1, 4, { causal: false }),
  row(64, 4, 4, 16),
  row(65, 6, 2, 10, { documents: true }),
  row(65, 2, 2, 6, { valueSize: 5, documents: true, causal: false }),
  row(130, 1, 1, 4),
  row(130, 1, 1, 48),
  row(70, 2, 2, 8, { window: 1 }),
  row(70, 2, 1, 4, { window: 9 }),
  row(130, 1, 1, 8, { window: 64 }),
  row(130, 1, 1, 4, { window: 65, documents: true }),
  row(65, 2, 1, 4, { softCap: 0.8 }),
  row(65, 2, 1, 8, { softCap: 3, causal: false, documents: true }),
  row(65, 4, 2, 8, { slopes: true }),
  row(130, 6, 2, 6, { valueSize: 5, window: 40, softCap: 1, slopes: true, documents: true }),
  row(30, 6, 3, 7, { valueSize: 11, window: 5, softCap: 2, slopes: true }),
  // the sizes of DeepSeek-V3 and Kimi K2
  row(33, 2, 2, 192, { valueSize: 128 }),
  row(20, 2, 2, 192, { valueSize: 128, window: 7, softCap: 1, slopes: true, documents: true }),
];

const title = ({ tokens, heads, keyHeads, size, valueSize, ...options }: Row): string =>
  [
    `${tokens} tokens, ${heads}/${keyHeads} heads of ${size}/${valueSize}`,
    ...Object.entries(options).map(([name, value]) => `${name} ${value}`),
  ].join(", ");

describe.each(Object.entries(variants))("attention by %s kernels", (name, variant) => {
  const rows = name === "tiled" ? table.filter((r) => r.size <= 4 || r.valueSize === 5) : table;
  test.each(rows.map((r) => [title(r), r] as const))("equals the reference: %s", async (_, size) => {
    const oracle = await oracleDevice();
    const expected = run(size, oracle, {
      forward: referenceOf(attentionFused),
      backward: referenceOf(attentionBackwardFused),
    });
    const actual = run(size, variant.exact ? oracle : device, withVariant(variant));
    await realise(actual);
    const tolerance = variant.exact ? { rtol: 1e-11, atol: 1e-12 } : { rtol: 1e-4, atol: 2e-5 };
    for (let i = 0; i < 4; i++) await expect(actual[i]!, `output ${i}`).toBeAllClose(expected[i]!, tolerance);
  });

  test("gives a document the same bits whatever the others hold, NaN included", async () => {
    const on = variant.exact ? await oracleDevice() : device;
    const [tokens, heads, start, end] = [70, 2, 55, 67];
    const ids = range(tokens).map((t) => (t < start ? 0 : t < end ? 1 : 2));
    const documents = tensor([ids], { dtype: "i32", device: on });
    const params = { scale: 0.5, causal: true, window: 40 };
    const { forward, backward } = withVariant(variant);
    const bits = [1, -100, Number.NaN].map(async (others) => {
      const mine = tensor(
        range(tokens).map((t) => (t >= start && t < end ? 1 : others)),
        { shape: [1, tokens, 1, 1], device: on },
      );
      const draw = (seed: number): Tensor => mul(normal(key(seed, { device: on }), [1, tokens, heads, 4]), mine);
      const qkv = await realise([draw(1), draw(2), draw(3)]);
      const [output, rowMax, lse] = forward([...qkv, documents], params) as [Tensor, Tensor, Tensor];
      const [packed] = backward([...qkv, lse, rowMax, draw(4), documents], params) as [Tensor];
      const rows = [rowMax, lse].map((x) => slice(x, [0, 0, start], [1, heads, end]));
      const results = [slice(output, [0, start, 0, 0], [1, end, heads, 4]), slice(packed, [0, start, 0], [1, end, 24])];
      return Promise.all([...rows, ...results].map((x) => x.data()));
    });
    const [same, ...changed] = await Promise.all(bits);
    expect(same!.every((x) => x.every(Number.isFinite))).toBe(true);
    for (const results of changed) expect(results).toEqual(same);
  });
});

/** The three outputs of the forward, and the gradients for random cotangents. */
function run(
  { tokens, heads, keyHeads, size, valueSize, causal, documents, window, softCap, slopes }: Row,
  on: Device,
  ops: ReturnType<typeof withVariant>,
): Tensor[] {
  const batch = 2;
  const draw = (seed: number, ...shape: number[]): Tensor => normal(key(seed, { device: on }), shape);
  const qkv = [
    draw(1, batch, tokens, heads, size),
    draw(2, batch, tokens, keyHeads, size),
    draw(3, batch, tokens, keyHeads, valueSize),
  ];
  const ids = range(batch * tokens).map((i) => (Math.floor(i / 9) % 4 === 3 ? -1 : Math.floor(i / 9)));
  const info = documents ? [tensor(ids, { shape: [batch, tokens], dtype: "i32", device: on })] : [];
  const params = {
    scale: size ** -0.5,
    causal,
    ...(window && { window }),
    ...(softCap && { softCap }),
    ...(slopes && { slopes: alibiSlopes(heads) }),
  };
  const outputs = ops.forward([...qkv, ...info], params);
  const cotangents = [draw(4, batch, heads, tokens), draw(5, batch, tokens, heads, valueSize)];
  return [...outputs, ...ops.backward([...qkv, outputs[2]!, ...cotangents, ...info], params)];
}
