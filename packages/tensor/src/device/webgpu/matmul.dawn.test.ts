// Every matmul variant in every transpose mode, at sizes on and around the tiles' edges, against a product in doubles.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MatmulKernel, Value } from "../../compiler/kernel.ts";
import { connectWebGpu } from "./connect.ts";
import type { WebGpuDevice } from "./device.ts";
import { chooseMatmul, partsOf } from "./emitMatmul.ts";
import { type MatmulShape, matmulKernel, productOracle, randomFloats } from "./fixtures/kernels.ts";
import { runKernel, runKernels } from "./fixtures/run.ts";
import { coreAndStrips } from "./matmul/ragged.ts";
import type { MatmulVariant, Variants } from "./program.ts";

// software drivers take seconds to compile a kernel with barriers: one tile stands for all, with every way of staging; `bench verify` and `bench sweep` check every one of them on a real GPU
const small: MatmulVariant[] = ["naive", "block"];
const large: [MatmulVariant, slices: number][] = [
  ["vector", 1],
  ["32x32x16/4x4", 1],
  ["32x32x16/4x4", 3],
];
const modes = [
  { transposeA: false, transposeB: false },
  { transposeA: false, transposeB: true },
  { transposeA: true, transposeB: false },
  { transposeA: true, transposeB: true },
];

const op = (id: number, name: "add" | "mul" | "max", ...args: Value<number>[]): Value<number> => ({
  kind: "op",
  id,
  dtype: "f32",
  op: name,
  args,
});
const half: Value<number> = { kind: "constant", id: 3, dtype: "f32", value: 0.5 };
/** max(product / 2 + c, 1/2) */
const epilogue = (product: Value<number>, c: Value<number>) =>
  op(6, "max", op(5, "add", op(4, "mul", product, half), c), half);

// between them, every size as m, n or k: below a tile, on it, and beyond by one to three
const plain: MatmulShape[] = [
  { m: 1, n: 65, k: 130 },
  { m: 3, n: 64, k: 63 },
  { m: 17, n: 7, k: 65 },
  { m: 130, n: 63, k: 64 },
];
// batches that are padded and misaligned, and an epilogue on aligned ones
const batched: MatmulShape[] = [
  { batch: [3], m: 33, n: 34, k: 35, pad: 3, offset: 5 },
  { batch: [2, 2], m: 36, n: 68, k: 20, pad: 4, offset: 8, epilogue },
];
// of a promise that is not kept, so that it shows which half was computed
const mirrored: MatmulShape[] = [
  { batch: [2], m: 70, n: 70, k: 35, symmetric: true },
  { m: 132, n: 132, k: 68, symmetric: true, epilogue },
];

/** The stored results in doubles. */
const expected = (kernel: MatmulKernel, [left, right, , c]: readonly number[][], finished: boolean): number[] =>
  productOracle(kernel, left!, right!).map((sum, i) => (finished ? Math.max(sum / 2 + c![i]!, 0.5) : sum));

/** Largest difference from the product in doubles, relative to sqrt(k). */
async function worstError(device: WebGpuDevice, shape: MatmulShape): Promise<number> {
  const kernel = matmulKernel(shape);
  const buffers = kernel.bindings.map(({ size }, i) => randomFloats(i + 1, size));
  const right = expected(kernel, buffers, shape.epilogue !== undefined);
  const actual = (await runKernel(device, kernel, buffers))[2]!;
  return Math.max(...actual.map((x, i) => Math.abs(x - right[i]!))) / Math.sqrt(shape.k);
}

const modeName = (i: number): string => `${modes[i]!.transposeA ? "A^T" : "A"} ${modes[i]!.transposeB ? "B^T" : "B"}`;
const name = ({ batch = [], m, n, k }: MatmulShape): string => `[${batch.join(", ")}] ${m} x ${k} x ${n}`;

/** Tests of one variant: shapes for each transpose mode, and symmetric ones. */
function prove(title: string, variants: Variants, shapes: (mode: number) => MatmulShape[], symmetric: MatmulShape[]) {
  describe(`matmul as ${title}`, { timeout: 300_000 }, () => {
    let device: WebGpuDevice;
    beforeAll(async () => {
      device = await connectWebGpu({ variants });
    });
    afterAll(() => device.destroy());

    for (const [i, mode] of modes.entries()) {
      test(`${modeName(i)} is right on and off the tile`, async () => {
        for (const shape of shapes(i))
          expect(await worstError(device, { ...shape, ...mode }), name(shape)).toBeLessThan(1e-6);
      });
    }

    test("of a symmetric product one of each pair of elements is computed, and stored twice", async () => {
      for (const [i, shape] of symmetric.entries())
        expect(await worstError(device, { ...shape, ...modes[(i + 1) % 4] }), name(shape)).toBeLessThan(1e-6);
    });

    test("a product over nothing is zero", async () => {
      const kernel = matmulKernel({ m: 3, n: 5, k: 0 });
      const [, , out] = await runKernel(device, kernel, [[], [], new Array(15).fill(7)]);
      expect(out).toEqual(new Array(15).fill(0));
    });
  });
}

for (const matmul of small) prove(`"${matmul}"`, { matmul }, () => [...plain, ...batched], mirrored);
for (const [matmul, slices] of large) {
  const few = [plain[3]!, batched[0]!, plain[2]!, batched[1]!];
  prove(`"${matmul}", ${slices} slices`, { matmul, slices }, (mode) => [few[mode]!], mirrored.slice(1));
}

describe("products a little larger than what tiles cover", () => {
  test.each(modes)("a core and strips store what the whole does: %o", async (mode) => {
    const device = await connectWebGpu();
    const kernel = matmulKernel({ batch: [2], m: 19, n: 23, k: 37, pad: 3, offset: 5, epilogue, ...mode });
    const buffers = kernel.bindings.map(({ size }, i) => randomFloats(i + 1, size));
    const right = expected(kernel, buffers, true);
    for (const [rows, columns] of [
      [16, 20],
      [19, 22],
      [12, 23],
    ] as const) {
      const [, , out] = await runKernels(device, coreAndStrips(kernel, rows, columns), buffers);
      expect(Math.max(...out!.map((x, i) => Math.abs(x - right[i]!)))).toBeLessThan(1e-5);
    }
    device.destroy();
  });

  test("which are cut, by shape", () => {
    const target = { software: false, workgroupBytes: 32768, variants: {} };
    const cut = (shape: MatmulShape, more = {}) =>
      partsOf(matmulKernel(shape), { ...target, ...more }).map(({ m, n, k }) => [m, n, k].join("x"));
    expect(cut({ m: 2049, n: 2049, k: 2049 })).toEqual(["2048x2048x2049", "1x2049x2049", "2048x1x2049"]);
    // the multiprocessors have room for 32 tiles more, not for 65
    expect(cut({ m: 4097, n: 4096, k: 4096 })).toEqual(["4097x4096x4096"]);
    expect(cut({ m: 4097, n: 4097, k: 4096 })).toEqual(["4097x4096x4096", "4097x1x4096"]);
    expect(cut({ m: 4095, n: 4096, k: 4096 })).toEqual(["4095x4096x4096"]);
    expect(cut({ m: 4104, n: 4104, k: 4096 })).toEqual(["4104x4104x4096"]);
    expect(cut({ m: 2049, n: 2049, k: 2049, symmetric: true })).toEqual(["2049x2049x2049"]);
    expect(cut({ m: 2049, n: 2049, k: 2049 }, { software: true })).toEqual(["2049x2049x2049"]);
    expect(cut({ m: 8192, n: 50257, k: 768 })).toEqual(["8192x50257x768"]);
  });
});

test("the variant depends on the class of device and the shape", () => {
  const chosen = (shape: MatmulShape, software = false, workgroupBytes = 32768) =>
    chooseMatmul(matmulKernel(shape), { software, workgroupBytes, variants: {} });
  expect(chosen({ m: 256, n: 256, k: 256 }, true)).toEqual({ variant: "block", slices: 1 });
  const tile = (variant: MatmulVariant, slices = 1) => ({ variant, slices });
  expect(chosen({ m: 4096, n: 4096, k: 4096 })).toEqual(tile("128x128x16/8x16"));
  expect(chosen({ m: 2048, n: 2048, k: 2048, symmetric: true })).toEqual(tile("64x64x16/8x8"));
  expect(chosen({ m: 1024, n: 1024, k: 1024 })).toEqual(tile("64x64x16/8x8"));
  expect(chosen({ m: 768, n: 768, k: 8192 })).toEqual(tile("128x128x16/8x16", 11));
  expect(chosen({ m: 128, n: 128, k: 2048 })).toEqual(tile("32x32x16/4x4", 16));
  expect(chosen({ m: 128, n: 128, k: 64 })).toEqual(tile("32x32x16/4x4"));
  expect(chosen({ m: 1, n: 4096, k: 4096, transposeB: true })).toEqual(tile("vector"));
  expect(chosen({ m: 4096, n: 1, k: 4096 })).toEqual(tile("vector"));
  // where neighbours in memory are columns, tiles read more at a time
  expect(chosen({ m: 1, n: 4096, k: 4096 })).toEqual(tile("32x32x16/4x4", 8));
  // the largest tile takes a little more than what every device grants
  expect(chosen({ m: 4096, n: 4096, k: 4096 }, false, 16384)).toEqual(tile("64x64x16/8x8"));
});
