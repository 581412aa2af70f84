// kernels/memory.ts: kernels that move more than they compute: element-wise work, reductions in each regime, views, look-ups.
import {
  add,
  argmax,
  cast,
  gelu,
  key,
  logsumexp,
  max,
  mean,
  mT,
  mul,
  normal,
  rsqrt,
  scatterAdd,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  swapAxes,
  type Tensor,
  take,
  topK,
  uniform,
} from "@mc/tensor";
import type { Case, Check } from "../lib/case.ts";
import { elementCheck, places, readAt, readElements, relativeError, rowCheck } from "../lib/sample.ts";

const random = (seed: number, shape: number[]): Tensor => normal(key(seed), shape);
const indices = (seed: number, shape: number[], high: number): Tensor =>
  cast(uniform(key(seed), shape, { high }), "i32");

const total = (row: ArrayLike<number>): number =>
  Array.prototype.reduce.call(row, (s, v) => (s as number) + (v as number), 0) as number;
const largest = (row: ArrayLike<number>): number =>
  Array.prototype.reduce.call(row, (s, v) => Math.max(s as number, v as number), Number.NEGATIVE_INFINITY) as number;
const sumOfExp = (row: ArrayLike<number>, top = largest(row)): number =>
  total(Array.from(row, (v) => Math.exp(v - top)));

/** A function of one [rows, columns] array, to be given its own name, bytes and check. */
const unary = (
  name: string,
  [rows, columns]: readonly [number, number],
  run: (x: Tensor) => Tensor,
  bytes: number,
  check: Check,
  tolerance?: number,
): Case => ({
  name,
  shape: [rows, columns],
  inputs: () => [random(1, [rows, columns])],
  run: (x) => run(x!),
  bytes,
  check,
  ...(tolerance !== undefined && { tolerance }),
});

/** Checks sums over the first axis at 24 columns. */
const columnSums: Check = async ({ inputs: [x], outputs: [out] }) => {
  const at = places(x!.shape[1]!, 24);
  const data = await readAt(x!, at, 1);
  const expected = at.map((_, j) => {
    let sum = 0;
    for (let i = j; i < data.length; i += at.length) sum += data[i]!;
    return sum;
  });
  return relativeError(await readElements(out!, at), expected);
};

/** All memory-bound cases over `n` elements (2^24, or less where devices are slow). */
export function memory(n: number): Case[] {
  const wide = [n / 1024, 1024] as const;
  const rowSums = rowCheck((row) => [total(row)]);
  return [
    {
      name: "add",
      shape: [n],
      inputs: () => [random(1, [n]), random(2, [n])],
      run: (a, b) => add(a!, b!),
      bytes: 12 * n,
      check: elementCheck((a, b) => a! + b!),
    },
    {
      name: "a chain of six",
      shape: [n],
      inputs: () => [random(1, [n]), random(2, [n]), random(3, [n])],
      run: (a, b, c) => sub(sqrt(add(square(mul(a!, 0.5)), square(b!))), mul(c!, 2)),
      bytes: 16 * n,
      check: elementCheck((a, b, c) => Math.sqrt((a! / 2) ** 2 + b! ** 2) - 2 * c!),
    },
    {
      name: "bias and gelu",
      shape: wide,
      inputs: () => [random(1, [...wide]), random(2, [1024])],
      run: (x, b) => gelu(add(x!, b!), { approximate: "tanh" }),
      bytes: 8 * n,
      check: async ({ inputs: [x, b], outputs: [out] }) => {
        const at = places(n, 256);
        const [values, bias] = [await readElements(x!, at), await b!.data()];
        const expected = at.map((i, s) => {
          const v = values[s]! + bias[i % 1024]!;
          return 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
        });
        return relativeError(await readElements(out!, at), expected);
      },
    },
    unary(
      "sum of all",
      wide,
      (x) => sum(x),
      4 * n,
      async ({ inputs: [x], outputs: [out] }) => {
        const data = await x!.data();
        // the sum of n random numbers is about sqrt(n): its error is measured against that
        return Math.abs((await out!.item()) - total(data)) / Math.sqrt(n);
      },
    ),
    unary("sum of rows", wide, (x) => sum(x, { axis: 1 }), 4 * n, rowSums),
    unary("sum of short rows", [n / 16, 16], (x) => sum(x, { axis: 1 }), 4 * n, rowSums),
    unary(
      "sum of long rows",
      [16, n / 16],
      (x) => sum(x, { axis: 1 }),
      4 * n,
      rowCheck((row) => [total(row)]),
      1e-4,
    ),
    unary("sum of columns", wide, (x) => sum(x, { axis: 0 }), 4 * n, columnSums),
    unary("sum of long columns", [n / 32, 32], (x) => sum(x, { axis: 0 }), 4 * n, columnSums, 1e-4),
    unary(
      "max of rows",
      wide,
      (x) => max(x, { axis: 1 }),
      4 * n,
      rowCheck((row) => [largest(row)]),
      0,
    ),
    unary(
      "argmax of rows",
      wide,
      (x) => argmax(x, { axis: 1 }),
      4 * n,
      rowCheck((row) => [row.indexOf(largest(row) as never)]),
      0,
    ),
    unary(
      "logsumexp",
      wide,
      (x) => logsumexp(x, { axis: -1 }),
      4 * n,
      rowCheck((row) => [largest(row) + Math.log(sumOfExp(row))]),
    ),
    unary(
      "softmax",
      wide,
      (x) => softmax(x),
      8 * n,
      rowCheck((row) => {
        const [top, all] = [largest(row), sumOfExp(row)];
        return Array.from(row, (v) => Math.exp(v - top) / all);
      }),
    ),
    unary(
      "rms norm",
      wide,
      (x) => mul(x, rsqrt(add(mean(square(x), { axis: -1, keepDims: true }), 1e-6))),
      8 * n,
      rowCheck((row) => {
        const scale = 1 / Math.sqrt(total(Array.from(row, (v) => v * v)) / row.length + 1e-6);
        return Array.from(row, (v) => v * scale);
      }),
    ),
    unary(
      "transpose",
      wide,
      (x) => mul(mT(x), 2),
      8 * n,
      async ({ inputs: [x], outputs: [out] }) => {
        const at = places(n, 256);
        const source = await readElements(
          x!,
          at.map((i) => (i % wide[0]) * 1024 + Math.floor(i / wide[0])),
        );
        return relativeError(
          await readElements(out!, at),
          Array.from(source, (v) => 2 * v),
        );
      },
      0,
    ),
    heads(n),
    ...lookups(n),
  ];
}

/** [tokens, heads, 64] to [heads, tokens, 64], as attention without strided operands would need it. */
function heads(n: number): Case {
  const [tokens, count, features] = [n / 1024, 16, 64];
  return {
    name: "transpose of heads",
    shape: [tokens, count, features],
    inputs: () => [random(1, [tokens, count, features])],
    run: (x) => mul(swapAxes(x!, 0, 1), 2),
    bytes: 8 * n,
    tolerance: 0,
    check: async ({ inputs: [x], outputs: [out] }) => {
      const at = places(n, 256);
      const from = at.map((i) => {
        const [h, t, f] = [Math.floor(i / (tokens * features)), Math.floor(i / features) % tokens, i % features];
        return (t * count + h) * features + f;
      });
      const source = await readElements(x!, from);
      return relativeError(
        await readElements(out!, at),
        Array.from(source, (v) => 2 * v),
      );
    },
  };
}

/** Rows picked from a table, added into one, and the largest of each row. */
function lookups(n: number): Case[] {
  const width = n >= 2 ** 22 ? 768 : 64;
  const tokens = n >= 2 ** 22 ? 8192 : 512;
  const table = n >= 2 ** 22 ? 50257 : 1009;
  return [
    {
      name: "gather rows",
      shape: [tokens, width, table],
      inputs: () => [random(1, [table, width]), indices(2, [tokens], table)],
      run: (t, i) => take(t!, i!),
      bytes: 8 * tokens * width,
      tolerance: 0,
      check: async ({ inputs: [t, i], outputs: [out] }) => {
        const at = places(tokens, 16);
        const rows = Array.from(await readElements(i!, at));
        return relativeError(await readAt(out!, at), await readAt(t!, rows));
      },
    },
    {
      name: "scatter-add rows",
      shape: [tokens, width, table],
      inputs: () => [indices(2, [tokens, 1], table), random(1, [tokens, width])],
      run: (i, x) => scatterAdd(i!, x!, 0, table),
      bytes: 4 * (tokens * width + table * width),
      check: async ({ inputs: [i, x], outputs: [out] }) => {
        const [index, source] = [await i!.data(), await x!.data()];
        const rows = [...new Set([0, table - 1, ...places(tokens, 16).map((t) => index[t]!)])];
        const expected = rows.flatMap((row) => {
          const sum = new Array<number>(width).fill(0);
          index.forEach((at, t) => {
            if (at === row) for (let f = 0; f < width; f++) sum[f]! += source[t * width + f]!;
          });
          return sum;
        });
        return relativeError(await readAt(out!, rows), expected);
      },
    },
    {
      name: "top 8 of 64",
      shape: [tokens, 64],
      inputs: () => [random(1, [tokens, 64])],
      run: (x) => topK(x!, 8).values,
      bytes: 4 * tokens * 72,
      tolerance: 0,
      check: rowCheck((row) =>
        Array.from(row)
          .sort((a, b) => b - a)
          .slice(0, 8),
      ),
    },
  ];
}
