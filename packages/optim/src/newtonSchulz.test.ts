import { div, mT, mul, readSafetensors, reshape, type Tensor, tensor, zeros } from "@mc/tensor";
import { loadFixture, oracleDevice, relativeError, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { newtonSchulz, type Quintic } from "./newtonSchulz.ts";
import { plainNewtonSchulz } from "./plainNewtonSchulz.ts";

await testDevice();
const f64 = await oracleDevice();
const fixture = readSafetensors(await loadFixture("optim", "optim.safetensors")).tensors;
const stored = (name: string): Tensor =>
  tensor(fixture[name]!.data as Float64Array, { shape: fixture[name]!.shape, device: f64 });

/** The matrix with `values` on its diagonal: newtonSchulz works on each of them alone. */
const diagonal = (values: readonly number[], device = f64): Tensor =>
  tensor(
    values.map((v, i) => values.map((_, j) => (i === j ? v : 0))),
    { device },
  );
const diagonalOf = async (x: Tensor): Promise<number[]> => {
  const n = x.shape[0]!;
  const data = await x.data();
  return Array.from({ length: n }, (_, i) => data[i * n + i]!);
};
/** n values from lo to 1, evenly spaced in their logarithm. */
const logSpaced = (lo: number, n: number): number[] => Array.from({ length: n }, (_, i) => lo ** (1 - i / (n - 1)));

describe("newtonSchulz(x) in float64", () => {
  test("gives the known values of small matrices", async () => {
    const square = tensor(
      [
        [1, 2],
        [3, 4],
      ],
      { device: f64 },
    );
    await expect(newtonSchulz(square)).toBeAllClose(
      [
        [-0.68066100012166, 0.825539607470631],
        [0.741295409452776, 0.259440010032385],
      ],
      { rtol: 1e-12 },
    );
    const wide = tensor(
      [
        [1, 0, 2],
        [-1, 3, 1],
      ],
      { device: f64 },
    );
    const expected = [
      [0.307297144972071, 0.0101851244114154, 0.624779414355556],
      [-0.327667393794901, 0.993187305796117, 0.337852518206316],
    ];
    await expect(newtonSchulz(wide)).toBeAllClose(expected, { rtol: 1e-12 });
    await expect(newtonSchulz(mT(wide))).toBeAllClose(
      [0, 1, 2].map((j) => expected.map((row) => row[j])),
      { rtol: 1e-12 },
    );
    const hybrid = newtonSchulz(square, { schedule: "hybrid" });
    await expect(hybrid).toBeAllClose(
      [
        [-0.514885286182, 0.857776829582],
        [0.857677198477, 0.514387130654],
      ],
      { rtol: 1e-11 },
    );
  });

  test.each([
    ["keller", "keller"],
    ["polar-express", "polar_express"],
    ["hybrid", "hybrid"],
  ] as const)("agrees with NumPy to 1e-9 for %s", async (schedule, name) => {
    for (const matrix of ["square", "wide", "tall"]) {
      const found = await newtonSchulz(stored(`${matrix}.grad0`), { schedule }).data();
      const reference = fixture[`${matrix}.newton_schulz_${name}`]!.data as Float64Array;
      expect(relativeError(found, reference), matrix).toBeLessThan(1e-9);
    }
  });

  test("comes close to the polar factor with the hybrid schedule", async () => {
    for (const matrix of ["wide", "tall"]) {
      const found = await newtonSchulz(stored(`${matrix}.grad0`), { schedule: "hybrid" }).data();
      expect(relativeError(found, fixture[`${matrix}.polar`]!.data as Float64Array), matrix).toBeLessThan(2e-3);
    }
  });

  test.each([
    ["keller", 1e-2, 0.68, 1.135],
    ["polar-express", 1e-3, 0.858, 1.142],
    ["hybrid", 1e-3, 0.999, 1.001],
  ] as const)("brings singular values into the range of %s", async (schedule, lo, least, most) => {
    const values = logSpaced(lo * 2.2, 24);
    const found = await diagonalOf(newtonSchulz(diagonal(values), { schedule }));
    expect(Math.min(...found)).toBeGreaterThan(least);
    expect(Math.max(...found)).toBeLessThan(most);
  });

  test("commutes with transposing and ignores a positive factor", async () => {
    const x = stored("wide.grad0");
    await expect(newtonSchulz(mT(x))).toBeAllClose(mT(newtonSchulz(x)), { rtol: 1e-12, atol: 1e-14 });
    for (const factor of [1e-200, 1e-9, 7, 1e200])
      await expect(newtonSchulz(mul(x, factor))).toBeAllClose(newtonSchulz(x), { rtol: 1e-9, atol: 1e-12 });
  });

  test("is the same in both forms as the plain products, wide, tall and square", async () => {
    const values = Float64Array.from({ length: 3 * 5 * 12 }, (_, i) => Math.sin(i * i + 1));
    for (const shape of [
      [3, 5, 12],
      [3, 12, 5],
      [5, 6, 6],
    ]) {
      const x = tensor(values, { shape, device: f64 });
      for (const schedule of ["keller", "polar-express", "hybrid"] as const) {
        const expected = plainNewtonSchulz(x, { schedule });
        for (const form of ["plain", "gram"] as const)
          await expect(newtonSchulz(x, { schedule, form }), `${form} [${shape}]`).toBeAllClose(expected, {
            rtol: 1e-8,
            atol: 1e-9,
          });
      }
    }
  });

  test("divides by the norm factor before the first step", async () => {
    const once: Quintic[] = [[1, 0, 0]];
    const x = tensor(
      [
        [3, 0],
        [0, 4],
      ],
      { device: f64 },
    );
    await expect(newtonSchulz(x, { schedule: once })).toBeAllClose(
      [
        [0.6, 0],
        [0, 0.8],
      ],
      { rtol: 1e-12 },
    );
    await expect(newtonSchulz(x, { schedule: once, normFactor: 2 })).toBeAllClose(
      [
        [0.3, 0],
        [0, 0.4],
      ],
      { rtol: 1e-12 },
    );
  });
});

describe("newtonSchulz(x) on the device under test", () => {
  test("gives zero for zero, alone and within a batch", async () => {
    await expect(newtonSchulz(zeros([2, 3]))).toBeAllClose(
      [
        [0, 0, 0],
        [0, 0, 0],
      ],
      { atol: 0 },
    );
    const batch = tensor([
      [
        [0, 0],
        [0, 0],
      ],
      [
        [1, 2],
        [3, 4],
      ],
    ]);
    const expected = [
      [
        [0, 0],
        [0, 0],
      ],
      [
        [-0.680661, 0.82554],
        [0.741295, 0.25944],
      ],
    ];
    await expect(newtonSchulz(batch)).toBeAllClose(expected, { rtol: 1e-4 });
  });

  test("keeps its result for elements whose squares would vanish or overflow", async () => {
    const expected = [
      [-0.680661, 0.82554],
      [0.741295, 0.25944],
    ];
    for (const factor of [1e-30, 1e-20, 1e20, 1e30]) {
      await expect(
        newtonSchulz(
          tensor([
            [factor, 2 * factor],
            [3 * factor, 4 * factor],
          ]),
        ),
      ).toBeAllClose(expected, { rtol: 1e-4 });
    }
  });

  test("is within rounding of the plain products in float64, in both forms, at sizes off every tile", async () => {
    const shape = [2, 37, 70];
    const values = Float64Array.from({ length: 2 * 37 * 70 }, (_, i) => Math.sin(i * i + 1));
    const expected = await plainNewtonSchulz(tensor(values, { shape, device: f64 })).data();
    for (const form of ["plain", "gram"] as const) {
      const wide = await newtonSchulz(tensor(values, { shape }), { form }).data();
      expect(relativeError(wide, expected), form).toBeLessThan(1e-4);
      const tall = await mT(newtonSchulz(mT(tensor(values, { shape })), { form })).data();
      expect(relativeError(tall, expected), `${form}, tall`).toBeLessThan(1e-4);
    }
  });

  test("treats leading dimensions as a batch", async () => {
    const values = Float64Array.from({ length: 2 * 3 * 4 * 5 }, (_, i) => Math.sin(i + 1));
    const x = tensor(values, { shape: [2, 3, 4, 5] });
    const flat = newtonSchulz(reshape(x, [6, 4, 5]));
    await expect(newtonSchulz(x)).toBeAllClose(reshape(flat, [2, 3, 4, 5]), { rtol: 1e-5 });
    const third = tensor(values.slice(40, 60), { shape: [4, 5] });
    await expect(newtonSchulz(third)).toBeAllClose((await flat.data()).slice(40, 60), { rtol: 1e-4, atol: 1e-5 });
  });

  test("passes NaN on instead of hiding it", async () => {
    const found = await newtonSchulz(
      div(
        tensor([
          [0, 1],
          [1, 1],
        ]),
        tensor([
          [0, 1],
          [1, 1],
        ]),
      ),
    ).data();
    expect([...found].every((v) => Number.isNaN(v))).toBe(true);
  });

  test("refuses vectors, unknown schedules and bad numbers", () => {
    expect(() => newtonSchulz(zeros([3]))).toThrow("newtonSchulz: needs at least 2 dimensions, got shape [3]");
    expect(() => newtonSchulz(zeros([2, 2]), { schedule: "kellar" as "keller" })).toThrow(
      /schedule must be keller, hybrid, polar-express .* got "kellar"/,
    );
    expect(() => newtonSchulz(zeros([2, 2]), { schedule: [] })).toThrow("at least one triple");
    expect(() => newtonSchulz(zeros([2, 2]), { normFactor: 0.5 })).toThrow(
      "normFactor must be finite and at least 1, got 0.5",
    );
    expect(() => newtonSchulz(zeros([2, 2]), { form: "fast" as "gram" })).toThrow(
      'newtonSchulz: form must be plain or gram, got "fast"',
    );
  });
});
