// Loop kernels in WGSL against an interpreter: reductions in every regime, random values, masks, updates in place.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { constantIndex, divideIndex, type Index, moduloIndex, valueIndex } from "../../compiler/affine.ts";
import { collapse } from "../../compiler/collapse.ts";
import type { LoopKernel, Value } from "../../compiler/kernel.ts";
import type { DType, StoredType } from "../../dtype.ts";
import type { ReduceKind } from "../../node.ts";
import { type ScalarOp, scalarRow } from "../../scalar.ts";
import { sizeOf } from "../../shape.ts";
import { connectWebGpu } from "./connect.ts";
import type { WebGpuDevice } from "./device.ts";
import { interpret } from "./fixtures/interpret.ts";
import { affine, randomFloats, randomNumbers } from "./fixtures/kernels.ts";
import { runKernel } from "./fixtures/run.ts";
import type { ReduceVariant } from "./program.ts";
import { chooseWide } from "./wide.ts";

const load = (id: number, source: number, dtype: DType, index: Index, mask?: Value<number>): Value<number> => ({
  kind: "load",
  id,
  dtype,
  source,
  index,
  mask,
});

/** Reduces the last axis (`rows` x `length`, stored by rows) or the first (`length` x `rows`), and scales the result. */
function reduceKernel(
  reduce: ReduceKind,
  dtype: DType,
  rows: number,
  length: number,
  layout: "rows" | "columns",
): LoopKernel {
  const at =
    layout === "rows" ? affine(0, [0, rows, length], [1, length, 1]) : affine(0, [0, rows, 1], [1, length, rows]);
  const out: DType = reduce === "argmax" ? "i32" : dtype;
  return collapse({
    kind: "loop",
    label: reduce,
    shape: [rows],
    reductions: [{ reduce, firstVariable: 1, shape: [length], value: load(1, 0, dtype, at) }],
    stores: [{ target: 1, index: affine(0, [0, rows, 1]), value: { kind: "result", id: 2, dtype: out, reduce: 0 } }],
    bindings: [
      { dtype, size: rows * length, access: "read" },
      { dtype: out, size: rows, access: "write" },
    ],
  });
}

const shapes: readonly (readonly [rows: number, length: number])[] = [
  [1, 1],
  [3, 7],
  [65, 33],
  [4, 257],
  [130, 64],
  [1, 5000],
  [2, 1025],
];

for (const variant of [undefined, "thread", "workgroup"] as (ReduceVariant | undefined)[]) {
  describe(`reductions ${variant ? `as "${variant}"` : "as chosen"}`, () => {
    let device: WebGpuDevice;
    beforeAll(async () => {
      device = await connectWebGpu({ variants: { reduce: variant } });
    });
    afterAll(() => device.destroy());

    for (const layout of ["rows", "columns"] as const) {
      for (const reduce of ["sum", "max", "min", "argmax"] as const) {
        test(`${reduce} over ${layout} of f32`, async () => {
          const errors = shapes.map(async ([rows, length]) => {
            const kernel = reduceKernel(reduce, "f32", rows, length, layout);
            const x = randomFloats(rows + length, rows * length);
            const [, expected] = interpret(kernel, [x, new Array(rows).fill(0)], true);
            const [, actual] = await runKernel(device, kernel, [x, new Array(rows).fill(0)]);
            return (
              Math.max(...actual!.map((y, i) => Math.abs(y - expected![i]!))) /
              (reduce === "sum" ? Math.sqrt(length) : 1)
            );
          });
          for (const [i, error] of (await Promise.all(errors)).entries())
            expect(error, `[${shapes[i]!.join(", ")}]`).toBeLessThan(reduce === "sum" ? 1e-6 : 1e-12);
        });
      }
    }

    test("NaN wins max, min and argmax, the first among equals is the argmax", async () => {
      for (const length of [5, 300]) {
        const rows = 4;
        const x = new Array<number>(rows * length).fill(-3);
        x[3] = 5; // row 0: twice the same largest
        x[length - 1] = 5;
        x[length + 2] = Number.NaN; // row 1
        x[length + 4] = Number.POSITIVE_INFINITY;
        x.fill(Number.NEGATIVE_INFINITY, 2 * length, 3 * length); // row 2
        x[3 * length] = -0; // row 3: zeros of both signs are equal
        x[3 * length + 1] = 0;
        const run = async (reduce: ReduceKind) =>
          (await runKernel(device, reduceKernel(reduce, "f32", rows, length, "rows"), [x, [0, 0, 0, 0]]))[1];
        expect(await run("argmax")).toEqual([3, 2, 0, 0]);
        expect(await run("max")).toEqual([5, Number.NaN, Number.NEGATIVE_INFINITY, expect.closeTo(0)]);
        expect(await run("min")).toEqual([-3, Number.NaN, Number.NEGATIVE_INFINITY, -3]);
      }
    });

    test("integers wrap and compare as integers", async () => {
      const rows = 2;
      const length = 300;
      const random = randomNumbers(3);
      for (const dtype of ["i32", "u32"] as const) {
        const x = Array.from({ length: rows * length }, () =>
          dtype === "i32" ? (random() * 4294967296) | 0 : (random() * 4294967296) >>> 0,
        );
        for (const reduce of ["sum", "max", "min", "argmax"] as const) {
          const kernel = reduceKernel(reduce, dtype, rows, length, "rows");
          expect((await runKernel(device, kernel, [x, [0, 0]]))[1], `${reduce} ${dtype}`).toEqual(
            interpret(kernel, [x, [0, 0]])[1],
          );
        }
      }
    });

    test("a later reduction uses the result of an earlier one, and the update is in place", async () => {
      // x[r] <- sum_k (y[r, k] - max_k y[r, k]) + x[r]
      const [rows, length] = [37, 100];
      const at = affine(0, [0, rows, length], [1, length, 1]);
      const y = load(1, 0, "f32", at);
      const top: Value<number> = { kind: "result", id: 2, dtype: "f32", reduce: 0 };
      const kernel: LoopKernel = {
        kind: "loop",
        label: "two reductions",
        shape: [rows],
        reductions: [
          { reduce: "max", firstVariable: 1, shape: [length], value: y },
          {
            reduce: "sum",
            firstVariable: 1,
            shape: [length],
            value: { kind: "op", id: 3, dtype: "f32", op: "sub", args: [y, top] },
          },
        ],
        stores: [
          {
            target: 1,
            index: affine(0, [0, rows, 1]),
            value: {
              kind: "op",
              id: 5,
              dtype: "f32",
              op: "add",
              args: [{ kind: "result", id: 4, dtype: "f32", reduce: 1 }, load(6, 1, "f32", affine(0, [0, rows, 1]))],
            },
          },
        ],
        bindings: [
          { dtype: "f32", size: rows * length, access: "read" },
          { dtype: "f32", size: rows, access: "readwrite" },
        ],
      };
      const buffers = [randomFloats(5, rows * length), randomFloats(6, rows)];
      const expected = interpret(kernel, buffers, true)[1]!;
      const actual = (await runKernel(device, kernel, buffers))[1]!;
      expect(Math.max(...actual.map((x, i) => Math.abs(x - expected[i]!)))).toBeLessThan(1e-4);
    });

    test("a sum over nothing is zero", async () => {
      const kernel: LoopKernel = { ...reduceKernel("sum", "f32", 3, 1, "rows") };
      const empty = {
        ...kernel,
        reductions: [
          { ...kernel.reductions[0]!, firstVariable: 1, shape: [0], value: load(1, 0, "f32", affine(0, [1, 0, 1])) },
        ],
      };
      expect(
        (
          await runKernel(
            device,
            { ...empty, bindings: [{ dtype: "f32", size: 0, access: "read" }, kernel.bindings[1]!] },
            [[], [7, 7, 7]],
          )
        )[1],
      ).toEqual([0, 0, 0]);
    });
  });
}

for (const elementWise of ["scalar", "wide"] as const) {
  test(`random expressions over random index arithmetic agree with the interpreter (${elementWise})`, async () => {
    const device = await connectWebGpu({ variants: { elementWise } });
    const kernels = Array.from({ length: 60 }, (_, seed) => randomKernel(seed + 1, elementWise === "wide"));
    if (elementWise === "wide") {
      const wide = kernels.filter(({ kernel }) =>
        chooseWide(kernel, { software: true, workgroupBytes: 16384, variants: { elementWise } }),
      );
      expect(wide.length).toBeGreaterThan(20);
    }
    const results = await Promise.all(kernels.map(({ kernel, buffers }) => runKernel(device, kernel, buffers)));
    for (const [i, { kernel, buffers }] of kernels.entries()) {
      const expected = interpret(kernel, buffers);
      for (const [b, { access, dtype }] of kernel.bindings.entries()) {
        if (access === "read") continue;
        const wrong = results[i]![b]!.findIndex((x, j) => !close(x, expected[b]![j]!, dtype));
        expect(
          wrong < 0 ? "" : `${results[i]![b]![wrong]} at ${wrong} of buffer ${b}, expected ${expected[b]![wrong]}`,
          `seed ${i + 1}`,
        ).toBe("");
      }
    }
    device.destroy();
  });
}

test("four neighbours share a division by a multiple of four", () => {
  const x = affine(0, [0, 1024, 1]);
  const kernel = (index: Index): LoopKernel => ({
    kind: "loop",
    label: "table",
    shape: [1024],
    reductions: [],
    stores: [{ target: 1, index: x, value: load(1, 0, "f32", index) }],
    bindings: [
      { dtype: "f32", size: 2048, access: "read" },
      { dtype: "f32", size: 1024, access: "write" },
    ],
  });
  const isWide = (index: Index): boolean =>
    chooseWide(kernel(index), { software: false, workgroupBytes: 16384, variants: { elementWise: "wide" } }) !==
    undefined;
  expect(isWide(divideIndex(x, 64))).toBe(true);
  expect(isWide(divideIndex(x, 6))).toBe(false);
  expect(isWide(divideIndex({ ...x, constant: 2 }, 64))).toBe(false);
  expect(isWide(divideIndex({ constant: 0, terms: [...x.terms, ...moduloIndex(x, 3).terms] }, 64))).toBe(false);
});

describe("values", () => {
  let device: WebGpuDevice;
  beforeAll(async () => {
    device = await connectWebGpu();
  });
  afterAll(() => device.destroy());

  test("a masked load reads nothing outside, a flipped index counts backwards, and more points than one row of workgroups", async () => {
    const n = 65535 * 64 + 1000;
    const point: Index = affine(0, [0, n, 1]);
    const index: Value<number> = { kind: "index", id: 1, dtype: "i32", index: affine(-500, [0, n, 1]) };
    const zero: Value<number> = { kind: "constant", id: 2, dtype: "i32", value: 0 };
    const size: Value<number> = { kind: "constant", id: 3, dtype: "i32", value: 10 };
    const op = (id: number, name: ScalarOp, dtype: DType, ...args: Value<number>[]): Value<number> => ({
      kind: "op",
      id,
      dtype,
      op: name,
      args,
    });
    const inside = op(6, "and", "bool", op(4, "ge", "bool", index, zero), op(5, "lt", "bool", index, size));
    const value = op(8, "select", "f32", inside, load(7, 0, "f32", affine(509, [0, n, -1]), inside), {
      kind: "constant",
      id: 9,
      dtype: "f32",
      value: 1,
    });
    const kernel: LoopKernel = {
      kind: "loop",
      label: "pad",
      shape: [n],
      reductions: [],
      stores: [{ target: 1, index: point, value }],
      bindings: [
        { dtype: "f32", size: 10, access: "read" },
        { dtype: "f32", size: n, access: "write" },
      ],
    };
    const out = device.allocate("f32", n);
    const input = device.allocate("f32", 10);
    device.upload(
      input,
      Float32Array.from({ length: 10 }, (_, i) => i + 2),
    );
    device.execute([{ executable: device.prepare(kernel), slots: [0, 1] }], [input, out]);
    const data = await device.download(out);
    expect([...data.subarray(498, 512)]).toEqual([1, 1, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1]);
    expect([data[0], data[n - 1], data.every((x) => x >= 1)]).toEqual([1, 1, true]);
  });
});

const close = (x: number, y: number, dtype: StoredType): boolean =>
  Object.is(x, y) || x === y || (dtype === "f32" && Math.abs(x - y) <= 1e-4 * Math.max(1, Math.abs(y)));

const ops: Record<"f32" | "i32" | "u32" | "bool", ScalarOp[]> = {
  f32: ["add", "sub", "mul", "max", "min", "abs", "neg", "floor", "select", "toF32"],
  i32: ["add", "sub", "mul", "div", "mod", "max", "min", "bitXor", "select", "toI32"],
  u32: ["add", "sub", "mul", "div", "mod", "shiftRight", "bitAnd", "select"],
  bool: ["lt", "ge", "eq", "and", "or", "not"],
};

/** A kernel of random values over two inputs, with gathers, divisions and remainders in its indices. */
function randomKernel(seed: number, fours: boolean): { kernel: LoopKernel; buffers: number[][] } {
  const random = randomNumbers(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const shape = Array.from({ length: 1 + Math.floor(random() * 3) }, () => 1 + Math.floor(random() * 9));
  if (fours) shape[shape.length - 1] = 4 * (1 + Math.floor(random() * 3));
  const points = sizeOf(shape);
  let id = 0;
  const pool: Value<number>[] = [];
  const dtypes: DType[] = ["f32", "i32", "u32", "bool"];
  const size = fours ? 2 * points + 16 : 50;
  const variableSum = (): Index =>
    affine(Math.floor(random() * 3), ...shape.map((d, v) => [v, d, Math.floor(random() * 4)] as const));
  const rowMajor = (offset: number, by: number): Index =>
    affine(offset, ...shape.map((d, v) => [v, d, by * sizeOf(shape.slice(v + 1))] as const));
  const indexIn = (): Index => {
    if (fours && random() < 0.85) {
      const rows = affine(0, ...shape.slice(0, -1).map((d, v) => [v, d, 4] as const));
      return pick([rowMajor(pick([0, 0, 4, 1]), 1), rowMajor(0, 2), rowMajor(points - 1, -1), moduloIndex(rows, 12)]);
    }
    const wide = variableSum();
    const gather = pool.filter((v) => v.dtype === "i32" || v.dtype === "u32");
    const inner = random() < 0.3 ? divideIndex(wide, 1 + Math.floor(random() * 5)) : wide;
    if (gather.length > 0 && random() < 0.3) {
      // an index computed at run time, brought into range by its bits
      const word: Value<number> = pick(gather);
      const unsigned: Value<number> =
        word.dtype === "u32" ? word : { kind: "op", id: id++, dtype: "u32", op: "toU32", args: [word] };
      const masked: Value<number> = {
        kind: "op",
        id: id++,
        dtype: "u32",
        op: "bitAnd",
        args: [unsigned, { kind: "constant", id: id++, dtype: "u32", value: 15 }],
      };
      return valueIndex(masked, 16);
    }
    return moduloIndex(inner, size);
  };
  const leaf = (): Value<number> => {
    const dtype = pick(dtypes);
    if (random() < 0.2)
      return {
        kind: "constant",
        id: id++,
        dtype,
        value: dtype === "bool" ? pick([0, 1]) : dtype === "u32" ? pick([0, 3, 4294967295]) : pick([0, -1, 5, -7]),
      };
    if (dtype === "i32" && random() < 0.3)
      return { kind: "index", id: id++, dtype, index: affine(-5, ...shape.map((d, v) => [v, d, 1 + v] as const)) };
    return load(id++, dtypes.indexOf(dtype), dtype, indexIn());
  };
  for (let i = 0; i < 6; i++) pool.push(leaf());
  for (let i = 0; i < 14; i++) {
    const dtype = pick(dtypes);
    const op = pick(ops[dtype]);
    // arguments of the types that the operation takes
    for (let attempt = 0; attempt < 40; attempt++) {
      const args = Array.from(
        { length: op === "select" ? 3 : ["abs", "neg", "floor", "not", "toF32", "toI32"].includes(op) ? 1 : 2 },
        () => (random() < 0.8 ? pick(pool) : leaf()),
      );
      const types = args.map((a) => a.dtype);
      // conversions of what lies out of range are tested one by one
      if ((op === "toI32" || op === "toF32") && types[0] !== "bool" && types[0] !== "i32") continue;
      if (scalarRow(op).type(types) !== dtype) continue;
      pool.push({ kind: "op", id: id++, dtype, op, args });
      break;
    }
  }
  const stored = pool.slice(-3);
  const at = affine(0, ...shape.map((d, v) => [v, d, sizeOf(shape.slice(v + 1))] as const));
  const kernel: LoopKernel = {
    kind: "loop",
    label: `random ${seed}`,
    shape,
    reductions: [],
    stores: stored.map((value, i) => ({ target: 4 + i, index: at, value })),
    bindings: [
      ...dtypes.map((dtype) => ({ dtype, size, access: "read" as const })),
      ...stored.map(({ dtype }) => ({ dtype, size: points, access: "write" as const })),
    ],
  };
  const integers = (low: number, high: number) =>
    Array.from({ length: size }, () => Math.floor(low + random() * (high - low)));
  const inputs = [
    randomFloats(seed, size).map((x) => Math.fround(x * 8)),
    integers(-1000, 1000),
    integers(0, 2 ** 32),
    integers(0, 2),
  ];
  return {
    kernel: random() < 0.5 ? collapse(kernel) : kernel,
    buffers: [...inputs, ...stored.map(() => new Array<number>(points).fill(0))],
  };
}

test("operations on literals overflow at run time, not in the compiler", async () => {
  const device = await connectWebGpu();
  const constant = (id: number, dtype: DType, value: number): Value<number> => ({ kind: "constant", id, dtype, value });
  const op = (id: number, name: ScalarOp, dtype: DType, a: number, b: number): Value<number> => ({
    kind: "op",
    id,
    dtype,
    op: name,
    args: [constant(id + 100, dtype, a), constant(id + 200, dtype, b)],
  });
  const at = constantIndex(0);
  const values = [
    op(1, "add", "i32", 2147483647, 1),
    op(2, "sub", "u32", 3, 5),
    op(3, "mul", "f32", 3e38, 10),
    op(4, "div", "i32", 7, 0),
    op(5, "div", "f32", 1, 0),
  ];
  const kernel: LoopKernel = {
    kind: "loop",
    label: "literals",
    shape: [],
    reductions: [],
    stores: values.map((value, i) => ({ target: i, index: at, value })),
    bindings: values.map(({ dtype }) => ({ dtype, size: 1, access: "write" as const })),
  };
  expect(
    (
      await runKernel(
        device,
        kernel,
        values.map(() => [0]),
      )
    ).flat(),
  ).toEqual([-2147483648, 4294967294, Infinity, 0, Infinity]);
  device.destroy();
});

test("no number of different indices makes a name that WGSL has already, such as i32", async () => {
  const device = await connectWebGpu();
  const count = 70;
  const x = randomFloats(1, 2 * count);
  const op = (id: number, name: ScalarOp, ...args: Value<number>[]): Value<number> => {
    return { kind: "op", id, dtype: "f32", op: name, args };
  };
  const loads = Array.from({ length: count }, (_, i): Value<number> => {
    return { kind: "load", id: i, dtype: "f32", source: 0, index: affine(i, [0, 2, i + 1]), mask: undefined };
  });
  const step: Value<number> = { kind: "index", id: 2000, dtype: "i32", index: affine(0, [0, 2, 1]) };
  const largest = (step: number): number =>
    Math.max(step, ...Array.from({ length: count }, (_, i) => x[i + step * (i + 1)]!));
  // names are numbered: negations that cancel shift the numbers of what follows
  for (const negations of [0, 2, 4]) {
    let first = loads[0]!;
    for (let i = 0; i < negations; i++) first = op(5000 + i, "neg", first);
    const all = [op(2001, "toF32", step), first, ...loads.slice(1)]; // the last is computed first
    const value = all.reduce((a, b) => op(1000 + b.id, "max", a, b));
    const kernel: LoopKernel = {
      kind: "loop",
      label: "indices",
      shape: [2],
      reductions: [],
      stores: [{ target: 1, index: affine(0, [0, 2, 1]), value }],
      bindings: [
        { dtype: "f32", size: x.length, access: "read" },
        { dtype: "f32", size: 2, access: "write" },
      ],
    };
    const [, out] = await runKernel(device, kernel, [x, [0, 0]]);
    expect(out).toEqual([largest(0), largest(1)]);
  }
  device.destroy();
});

test("constants only: a kernel without points or loads", async () => {
  const device = await connectWebGpu();
  const store = {
    target: 0,
    index: constantIndex(0),
    value: { kind: "constant", id: 1, dtype: "bool", value: 1 } as const,
  };
  const kernel: LoopKernel = {
    kind: "loop",
    label: "one",
    shape: [],
    reductions: [],
    stores: [store],
    bindings: [{ dtype: "bool", size: 1, access: "write" }],
  };
  expect(await runKernel(device, kernel, [[0]])).toEqual([[1]]);
  expect(await runKernel(device, { ...kernel, shape: [0] }, [[0]])).toEqual([[0]]);
  device.destroy();
});
