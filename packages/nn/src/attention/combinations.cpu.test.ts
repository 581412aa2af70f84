// Every combination of attention's options in float64: values against plain loops, gradients of first and second order
// against central differences.
import { checkGrads } from "@mc/autograd";
import { greater, key, normal, realise, type Tensor, tensor, where } from "@mc/tensor";
import { build, type HostArray, oracleDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { alibiSlopes } from "./alibi.ts";
import { type AttentionOptions, attention } from "./attention.ts";
import { plainAttention } from "./fixtures/plainAttention.ts";

const device = await oracleDevice();
const batch = 2;
const tokens = 11;

/** [heads, keyHeads, D, Dv]: equal, grouped with values of their own size, and the odd proportions of MLA. */
const shapes = [
  [2, 2, 4, 4],
  [4, 2, 3, 5],
  [3, 1, 6, 4],
] as const;
const documents = [0, 0, 0, -1, 1, 1, 1, 1, 2, 2, -1];

interface Case {
  causal: boolean;
  documents: boolean;
  window?: number;
  softCap?: number;
  slopes: boolean;
  sinks: boolean;
  shape: (typeof shapes)[number];
}

const onOff = [false, true];
const cases: Case[] = onOff
  .flatMap((causal) =>
    onOff.flatMap((masked) =>
      onOff.flatMap((sinks) =>
        [undefined, 0.7].flatMap((softCap) =>
          (causal ? onOff : [false]).flatMap((slopes) =>
            (causal ? [undefined, 3] : [undefined]).map((window) => {
              return {
                causal,
                documents: masked,
                sinks,
                slopes,
                ...(softCap && { softCap }),
                ...(window && { window }),
              };
            }),
          ),
        ),
      ),
    ),
  )
  .map((options, n) => ({ ...options, shape: shapes[n % 3]! }));

const title = ({ shape: [heads, keyHeads, size, valueSize], ...options }: Case): string => {
  const on = Object.entries(options).flatMap(([name, value]) =>
    value ? [value === true ? name : `${name} ${value}`] : [],
  );
  return `${heads}/${keyHeads} heads of ${size}/${valueSize}: ${on.join(", ") || "no option"}`;
};

async function setUp(c: Case) {
  const [heads, keyHeads, size, valueSize] = c.shape;
  const draw = (seed: number, ...of: number[]): Tensor => normal(key(seed, { device }), of);
  const args = [
    draw(1, batch, heads, tokens, size),
    draw(2, batch, keyHeads, tokens, size),
    draw(3, batch, keyHeads, tokens, valueSize),
    ...(c.sinks ? [draw(4, heads)] : []),
  ];
  await realise(args);
  const ids = tensor([documents, [...documents].reverse()], { dtype: "i32", device });
  const options: AttentionOptions = {
    causal: c.causal,
    ...(c.documents && { documents: ids }),
    ...(c.window && { window: c.window }),
    ...(c.softCap && { softCap: c.softCap }),
    ...(c.slopes && { slopes: alibiSlopes(heads) }),
  };
  const call = (...[q, k, v, sinks]: Tensor[]) => attention(q!, k!, v!, { ...options, ...(sinks && { sinks }) });
  return { args, call };
}

const hostOf = async (x: Tensor): Promise<HostArray> => {
  const data = await x.data();
  return build(x.shape, (...at) => data[at.reduce((index, c, axis) => index * x.shape[axis]! + c, 0)]!);
};

describe("attention in float64", () => {
  test.each(cases.map((c) => [title(c), c] as const))("%s", async (_, c) => {
    const { args, call } = await setUp(c);
    const [q, k, v, sinks] = await Promise.all(args.map(hostOf));
    const idOf = (b: number, i: number): number => documents[b === 0 ? i : tokens - 1 - i]!;
    const expected = plainAttention(q!, k!, v!, {
      sees: (b, i, j) =>
        (!c.causal || (j <= i && j > i - (c.window ?? tokens))) &&
        (!c.documents || (idOf(b, i) === idOf(b, j) && idOf(b, i) >= 0)),
      ...(c.softCap && { softCap: c.softCap }),
      ...(c.slopes && { slopes: alibiSlopes(c.shape[0]) }),
      ...(sinks && { sinks }),
    });
    const { output, rowMax, rowLogSumExp } = call(...args);
    for (const [n, actual] of [output, rowMax, rowLogSumExp].entries())
      await expect(actual).toBeAllClose(expected[n]!.data as Float64Array, { rtol: 1e-12, atol: 1e-12 });
    // padding has a log-sum-exp of -infinity, and no differences
    const finite = (x: Tensor): Tensor => where(greater(x, -1e30), x, 0);
    const differentiable = (...x: Tensor[]): Tensor[] => [call(...x).output, finite(call(...x).rowLogSumExp)];
    await checkGrads(differentiable, args, { order: 2 });
  });
});
