// Every scalar operation in WGSL against JavaScript, at the arguments where drivers go wrong.
import { beforeAll, describe, expect, test } from "vitest";
import { constantIndex, variableIndex } from "../../compiler/affine.ts";
import type { Value } from "../../compiler/kernel.ts";
import type { DType } from "../../dtype.ts";
import { type ScalarOp, scalarRow } from "../../scalar.ts";
import { connectWebGpu } from "./connect.ts";
import type { WebGpuDevice } from "./device.ts";
import { scalarFunction } from "./fixtures/interpret.ts";
import { runKernel } from "./fixtures/run.ts";

/** Number of arguments; relative error allowed of an f32 result, and absolute error where that is the promise. */
const ops: Record<
  ScalarOp,
  { arity: 1 | 2 | 3; rtol?: number; atol?: number; domain?: (x: number, y: number) => boolean }
> = {
  add: { arity: 2 },
  sub: { arity: 2 },
  mul: { arity: 2 },
  div: { arity: 2, rtol: 3e-7 },
  mod: { arity: 2, rtol: 1e-5, domain: (x, y) => Math.abs(x / y) < 2 ** 23 || !Number.isFinite(x / y) },
  pow: { arity: 2, rtol: 1e-6 },
  min: { arity: 2 },
  max: { arity: 2 },
  neg: { arity: 1 },
  abs: { arity: 1 },
  sign: { arity: 1 },
  floor: { arity: 1 },
  ceil: { arity: 1 },
  trunc: { arity: 1 },
  exp: { arity: 1, rtol: 1e-5 },
  log: { arity: 1, rtol: 3e-7 },
  sqrt: { arity: 1, rtol: 3e-7 },
  rsqrt: { arity: 1, rtol: 3e-7 },
  sin: { arity: 1, rtol: 1e-6, atol: 3e-7, domain: (x) => Math.abs(x) < 1e4 || !Number.isFinite(x) },
  cos: { arity: 1, rtol: 1e-6, atol: 3e-7, domain: (x) => Math.abs(x) < 1e4 || !Number.isFinite(x) },
  tanh: { arity: 1, rtol: 5e-7 },
  sigmoid: { arity: 1, rtol: 1e-5 },
  erf: { arity: 1, rtol: 3e-7, atol: 0 },
  eq: { arity: 2 },
  ne: { arity: 2 },
  lt: { arity: 2 },
  le: { arity: 2 },
  gt: { arity: 2 },
  ge: { arity: 2 },
  and: { arity: 2 },
  or: { arity: 2 },
  not: { arity: 1 },
  isNaN: { arity: 1 },
  isFinite: { arity: 1 },
  select: { arity: 3 },
  bitAnd: { arity: 2 },
  bitOr: { arity: 2 },
  bitXor: { arity: 2 },
  shiftLeft: { arity: 2 },
  shiftRight: { arity: 2 },
  toF32: { arity: 1 },
  toI32: { arity: 1 },
  toU32: { arity: 1 },
  toBool: { arity: 1 },
};

/** Where JavaScript's rows do not know the type they convert from. */
const conversions: Record<string, (x: number) => number> = {
  "abs i32": (x) => Math.abs(x) | 0,
  "toI32 u32": (x) => x | 0,
  "toU32 f32": (x) => (x < 0 ? 0 : Math.min(Math.trunc(x), 4294967295) || 0),
};

const special = [
  0,
  -0,
  Infinity,
  -Infinity,
  Number.NaN,
  1,
  -1,
  0.5,
  -0.5,
  2,
  -2,
  3,
  -3,
  1.5,
  -2.5,
  1e-30,
  -1e-30,
  3e38,
  -3e38,
  1e10,
  16777217,
  88.5,
  89.5,
  -88.5,
  -104,
];
const spread = Array.from(
  { length: 400 },
  (_, i) => (i % 2 ? -1 : 1) * 10 ** (((i * 7919) % 400) / 40 - 6) * (1 + ((i * 31) % 17) / 17),
);
const samples: Record<DType, number[]> = {
  f32: [
    ...special,
    ...spread,
    ...Array.from({ length: 200 }, (_, i) => (i - 100) / 16),
    2147483648,
    -2147483649,
    4294967296,
    0.999,
    1.001,
    1e-7,
  ].map(Math.fround),
  i32: [0, 1, -1, 2, -2, 7, -7, 31, 32, 1000, -1000, 2147483647, -2147483648, 65537, -65537],
  u32: [0, 1, 2, 3, 7, 31, 32, 1000, 65537, 2147483647, 2147483648, 4294967295],
  bool: [0, 1],
};

/** Lists of arguments: every pair of the special values, and each sample with a companion. */
function argumentsOf(types: readonly DType[]): number[][] {
  const lists = types.map((t) => samples[t]);
  if (lists.length === 1) return [lists[0]!];
  const few = lists.map((l) => l.slice(0, 25));
  const columns: number[][] = lists.map(() => []);
  const push = (row: number[]) => {
    for (const [i, x] of row.entries()) columns[i]!.push(x);
  };
  for (const a of few[0]!)
    for (const b of few[1]!) push([a, b, ...few.slice(2).map((l) => l[columns[0]!.length % l.length]!)]);
  const longest = Math.max(...lists.map((l) => l.length));
  for (let i = 0; i < longest; i++) push(lists.map((l, k) => l[(i * (k + 1) + k) % l.length]!));
  return columns;
}

const dtypes: DType[] = ["f32", "i32", "u32", "bool"];
const arityOf = (op: ScalarOp) => ops[op].arity;

/** Signatures that the operation accepts. */
function signatures(op: ScalarOp): DType[][] {
  const arity = arityOf(op);
  const candidates =
    arity === 1
      ? dtypes.map((t) => [t])
      : arity === 2
        ? dtypes.map((t) => [t, t])
        : dtypes.map((t) => ["bool" as DType, t, t]);
  return candidates.filter((types) => scalarRow(op).type(types) !== undefined);
}

describe("scalar operations in WGSL", () => {
  let device: WebGpuDevice;
  beforeAll(async () => {
    device = await connectWebGpu();
  });

  for (const op of Object.keys(ops) as ScalarOp[]) {
    for (const types of signatures(op)) {
      test(`${op}(${types.join(", ")}) agrees with JavaScript`, async () => {
        const { rtol = 0, atol = 0, domain } = ops[op];
        const columns = argumentsOf(types);
        const n = columns[0]!.length;
        const dtype = scalarRow(op).type(types)!;
        const args = types.map(
          (t, i): Value<number> => ({
            kind: "load",
            id: i,
            dtype: t,
            source: i,
            index: variableIndex(0, n),
            mask: undefined,
          }),
        );
        const [, ...actual] = [
          null,
          ...(
            await runKernel(
              device,
              {
                kind: "loop",
                label: op,
                shape: [n],
                reductions: [],
                stores: [
                  { target: types.length, index: variableIndex(0, n), value: { kind: "op", id: 10, dtype, op, args } },
                ],
                bindings: [
                  ...types.map((t) => ({ dtype: t, size: n, access: "read" as const })),
                  { dtype, size: n, access: "write" },
                ],
              },
              [...columns, new Array(n).fill(0)],
            )
          )[types.length]!,
        ];
        const f = scalarFunction(op, types[0]!, dtype);
        const wrong: string[] = [];
        for (let i = 0; i < n; i++) {
          const row = columns.map((c) => c[i]!);
          if (domain && !domain(row[0]!, row[1]!)) continue;
          const exact = conversions[`${op} ${types[0]}`]?.(row[0]!) ?? Number(f(...row));
          const expected = dtype === "f32" ? Math.fround(exact) : exact;
          const got = actual[i]!;
          if (Object.is(got, expected) || got === expected) continue;
          // denormals may be flushed, on the way in as well
          const tiny = [...row, expected, got].some((x) => x !== 0 && Math.abs(x) < 1.2e-38);
          if (dtype === "f32" && (tiny || Math.abs(got - expected) <= atol + rtol * Math.abs(expected))) continue;
          wrong.push(`${op}(${row.join(", ")}) = ${got}, expected ${expected}`);
        }
        expect(wrong.slice(0, 10), `${wrong.length} of ${n}`).toEqual([]);
      });
    }
  }

  test("constants of every kind arrive bit for bit", async () => {
    const values = [
      Math.PI,
      -1 / 3,
      1e-20,
      3.4028234663852886e38,
      -0,
      0,
      Infinity,
      -Infinity,
      Number.NaN,
      16777217,
      1e300,
      0.1,
      -1e-7,
    ].map(Math.fround);
    const n = values.length;
    const [got] = await runKernel(
      device,
      {
        kind: "loop",
        label: "constants",
        shape: [],
        reductions: [],
        stores: values.map((value, i) => ({
          target: 0,
          index: constantIndex(i),
          value: { kind: "constant" as const, id: i, dtype: "f32" as const, value },
        })),
        bindings: [{ dtype: "f32", size: n, access: "write" }],
      },
      [new Array(n).fill(7)],
    );
    expect(got).toEqual(values);
  });
});
