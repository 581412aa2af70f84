import { describe, expect, test } from "vitest";
import { type GemmOperand, type GemmOutput, type GemmShape, gemmReference } from "../gemmReference.ts";
import { gemm, initWasm } from "./index.ts";

const sizes = [0, 1, 3, 4, 5, 7, 8, 63, 64, 65, 127];
const transposes = ["nn", "nt", "tn", "tt"] as const;

/** Numbers in [-1, 1) that are the same in every run. */
function noise(size: number, seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** A dense [rows, columns] matrix, stored by columns if `transposed`. */
function matrix(rows: number, columns: number, transposed: boolean, seed: number): GemmOperand {
  const strides = transposed ? { rowStride: 1, colStride: rows } : { rowStride: columns, colStride: 1 };
  return {
    data: noise(rows * columns, seed),
    offset: 0,
    batchStrides: [],
    ...strides,
  };
}

function output(rows: number, columns: number): GemmOutput {
  return {
    data: noise(rows * columns, 9),
    offset: 0,
    batchStrides: [],
    rowStride: columns,
  };
}

const widen = <V extends { data: Float32Array }>(view: V) => ({
  ...view,
  data: Float64Array.from(view.data),
});
const copy = <V extends { data: Float32Array }>(view: V) => ({
  ...view,
  data: view.data.slice(),
});

/** Runs gemm on copies of `c`; expects the bits of the f32 reference and the values of the f64 one. Returns C. */
function check(a: GemmOperand, b: GemmOperand, c: GemmOutput, shape: GemmShape, stageLimit?: number): Float32Array {
  const actual = copy(c);
  const expected = copy(c);
  const exact = widen(c);
  gemm(a, b, actual, shape, stageLimit);
  gemmReference(a, b, expected, shape);
  gemmReference(widen(a), widen(b), exact, shape);
  expect(actual.data.findIndex((value, i) => !Object.is(value, expected.data[i]))).toBe(-1);
  const tolerance = 3e-6 * Math.sqrt(shape.k + 1);
  const worst = actual.data.reduce((most, value, i) => Math.max(most, Math.abs(value - exact.data[i])), 0);
  expect(worst).toBeLessThan(tolerance);
  return actual.data;
}

describe("gemm(a, b, c, { m, n, k }) equals the reference bit by bit", () => {
  for (const mode of transposes) {
    test(`${mode}: every pair of sizes, each with every third size of k`, () => {
      for (const [i, m] of sizes.entries()) {
        for (const [j, n] of sizes.entries()) {
          for (const k of sizes.filter((_, p) => (i + j + p) % 3 === 0)) {
            const a = matrix(m, k, mode[0] === "t", 1 + m);
            const b = matrix(k, n, mode[1] === "t", 2 + n);
            check(a, b, output(m, n), { batch: [], m, n, k });
          }
        }
      }
    });
    test(`${mode}: accumulates, over several blocks of k`, () => {
      for (const k of [0, 5, 256, 257, 600]) {
        const [a, b] = [matrix(9, k, mode[0] === "t", 1), matrix(k, 11, mode[1] === "t", 2)];
        check(a, b, output(9, 11), {
          batch: [],
          m: 9,
          n: 11,
          k,
          accumulate: true,
        });
      }
    });
  }

  test("several blocks of m and n", () => {
    check(matrix(261, 40, false, 1), matrix(40, 1030, true, 2), output(261, 1030), {
      batch: [],
      m: 261,
      n: 1030,
      k: 40,
    });
  });

  test("cut along every axis because the operands exceed the stage", () => {
    const shapes = [
      { batch: [], m: 5, n: 3, k: 2000 },
      { batch: [], m: 2000, n: 3, k: 5 },
      { batch: [], m: 3, n: 2000, k: 5 },
      { batch: [], m: 20, n: 30, k: 300 },
      { batch: [3, 5], m: 7, n: 8, k: 9 },
    ];
    for (const stageLimit of [100, 3000, 10_000]) {
      for (const { batch, m, n, k } of shapes) {
        const strides = (size: number) => batch.map((_, axis) => size * (axis === 0 ? batch[1] : 1));
        const total = batch.reduce((x, y) => x * y, 1);
        const a = { data: noise(total * m * k), offset: 0, batchStrides: strides(m * k), rowStride: k, colStride: 1 };
        const b = {
          data: noise(total * k * n, 2),
          offset: 0,
          batchStrides: strides(k * n),
          rowStride: 1,
          colStride: k,
        };
        const c = { data: noise(total * m * n, 3), offset: 0, batchStrides: strides(m * n), rowStride: n };
        check(a, b, c, { batch, m, n, k }, stageLimit);
        check(a, b, c, { batch, m, n, k, accumulate: true }, stageLimit);
      }
    }
  });
});

describe("gemm reads and writes strided views", () => {
  test("a window of a wide matrix, near and far apart", () => {
    for (const width of [40, 1000]) {
      const a = {
        data: noise(20 * width),
        offset: 3,
        batchStrides: [],
        rowStride: width,
        colStride: 1,
      };
      const b = {
        data: noise(40 * width, 2),
        offset: 7,
        batchStrides: [],
        rowStride: 1,
        colStride: width,
      };
      const c = {
        data: noise(20 * width, 3),
        offset: 5,
        batchStrides: [],
        rowStride: width,
      };
      const data = check(a, b, c, { batch: [], m: 17, n: 19, k: 30 });
      const outside = (i: number) => i < 5 || Math.floor((i - 5) / width) >= 17 || (i - 5) % width >= 19;
      expect(data.findIndex((value, i) => outside(i) && value !== c.data[i])).toBe(-1);
    }
  });

  test("every third column and every second row", () => {
    const a = {
      data: noise(20 * 90),
      offset: 0,
      batchStrides: [],
      rowStride: 180,
      colStride: 3,
    };
    const b = {
      data: noise(60 * 33, 2),
      offset: 2,
      batchStrides: [],
      rowStride: 66,
      colStride: 3,
    };
    check(a, b, output(10, 11), { batch: [], m: 10, n: 11, k: 30 });
  });

  test("reversed rows and columns", () => {
    const a = {
      data: noise(9 * 13),
      offset: 9 * 13 - 1,
      batchStrides: [],
      rowStride: -13,
      colStride: -1,
    };
    const b = {
      data: noise(13 * 6, 2),
      offset: 12 * 6,
      batchStrides: [],
      rowStride: -6,
      colStride: 1,
    };
    check(a, b, output(9, 6), { batch: [], m: 9, n: 6, k: 13 });
  });

  test("a broadcast row and a broadcast scalar", () => {
    const a = {
      data: noise(30),
      offset: 0,
      batchStrides: [],
      rowStride: 0,
      colStride: 1,
    };
    const b = {
      data: noise(1, 2),
      offset: 0,
      batchStrides: [],
      rowStride: 0,
      colStride: 0,
    };
    check(a, b, output(7, 9), { batch: [], m: 7, n: 9, k: 30 });
  });

  test("heads of one projection: [batch, time, heads, size] walked as [batch, heads, time, size]", () => {
    const [batches, time, heads, size] = [2, 12, 3, 5];
    const strides = { batchStrides: [time * heads * size, size], offset: 0 };
    const q = {
      data: noise(batches * time * heads * size),
      ...strides,
      rowStride: heads * size,
      colStride: 1,
    };
    const kT = {
      data: noise(batches * time * heads * size, 2),
      ...strides,
      rowStride: 1,
      colStride: heads * size,
    };
    const scores = output(batches * heads * time, time);
    const c = { ...scores, batchStrides: [heads * time * time, time * time] };
    check(q, kT, c, { batch: [batches, heads], m: time, n: time, k: size });
    const out = {
      data: noise(batches * time * heads * size, 3),
      ...strides,
      rowStride: heads * size,
    };
    const p = {
      data: scores.data,
      offset: 0,
      batchStrides: c.batchStrides,
      rowStride: time,
      colStride: 1,
    };
    check(p, q, out, { batch: [batches, heads], m: time, n: size, k: time });
  });

  test("batches: of size 1, of size 0, broadcast on either side, far apart", () => {
    const [m, n, k] = [6, 9, 10];
    const cases = [
      { batch: [1, 3, 1], a: [999, m * k, 5], b: [7, 0, 7] }, // folds into rows
      { batch: [3], a: [0], b: [k * n] },
      { batch: [2, 3], a: [3 * m * k, m * k], b: [0, k * n] },
      { batch: [2, 3], a: [0, m * k], b: [k * n, 0] },
      { batch: [2, 3], a: [0, 0], b: [0, 0] },
      { batch: [2, 3], a: [9000, 1000], b: [0, 2500] },
      { batch: [2, 0], a: [0, 0], b: [0, 0] },
    ];
    for (const { batch, a, b } of cases) {
      const total = batch.reduce((x, y) => x * y, 1);
      const batchStrides = batch.map((_, axis) => batch.slice(axis + 1).reduce((x, y) => x * y, m * n));
      check(
        {
          data: noise(20_000),
          offset: 0,
          batchStrides: a,
          rowStride: k,
          colStride: 1,
        },
        {
          data: noise(20_000, 2),
          offset: 0,
          batchStrides: b,
          rowStride: 1,
          colStride: k,
        },
        {
          data: noise(total * m * n, 3),
          offset: 0,
          batchStrides,
          rowStride: n,
        },
        { batch, m, n, k },
      );
    }
  });
});

describe("gemm and numbers that are not finite", () => {
  test("NaN and infinities reach their row and column only, past every edge", () => {
    for (const [m, n, k] of [
      [5, 9, 3],
      [8, 16, 300],
      [1, 1, 1],
      [6, 10, 7],
    ] as const) {
      for (const bad of [Number.NaN, Infinity, -Infinity]) {
        const [a, b] = [matrix(m, k, false, 1), matrix(k, n, false, 2)];
        a.data[(m - 1) * k] = bad;
        const c = output(m, n);
        const expected = copy(c);
        gemm(a, b, c, { batch: [], m, n, k });
        gemmReference(a, b, expected, { batch: [], m, n, k });
        expect(c.data).toEqual(expected.data);
        expect(c.data.every((value, i) => Number.isFinite(value) === i < (m - 1) * n)).toBe(true);
      }
    }
  });

  test("infinity times zero is NaN, as is infinity minus infinity", () => {
    const a = {
      data: Float32Array.of(Infinity, Infinity),
      offset: 0,
      batchStrides: [],
      rowStride: 2,
      colStride: 1,
    };
    const b = {
      data: Float32Array.of(0, 1, 1, -1),
      offset: 0,
      batchStrides: [],
      rowStride: 2,
      colStride: 1,
    };
    const c = output(1, 2);
    gemm(a, b, c, { batch: [], m: 1, n: 2, k: 2 });
    expect(c.data).toEqual(Float32Array.of(Number.NaN, Number.NaN));
  });

  test("denormal products are not flushed", () => {
    const a = {
      data: Float32Array.of(1e-20),
      offset: 0,
      batchStrides: [],
      rowStride: 1,
      colStride: 1,
    };
    const c = output(1, 1);
    gemm(a, a, c, { batch: [], m: 1, n: 1, k: 1 });
    expect(c.data[0]).toBe(Math.fround(1e-40));
  });
});

test("initWasm() can be awaited again and again", async () => {
  await Promise.all([initWasm(), initWasm()]);
  await initWasm();
});
