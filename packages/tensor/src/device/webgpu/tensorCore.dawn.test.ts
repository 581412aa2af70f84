// Products on a matrix unit, the unit played by plain loops: every way of staging, every edge and epilogue, against products
// in doubles of operands rounded to f16. The WGSL of real units is checked by Dawn's null backend, which has every feature.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MatmulKernel, Value } from "../../compiler/kernel.ts";
import { narrow, widen } from "../../smallFloats.ts";
import { connectWebGpu } from "./connect.ts";
import { WebGpuDevice } from "./device.ts";
import { type MatmulShape, matmulKernel, productOracle, randomFloats } from "./fixtures/kernels.ts";
import { runKernel } from "./fixtures/run.ts";
import { emulatedUnit, type MatrixUnit } from "./matmul/matrixUnit.ts";
import { emitTensorMatmul, type TensorPlan } from "./matmul/tensorCore.ts";
import { chooseTensorPlan, kindsFor, tensorKinds } from "./matmul/tensorTiles.ts";

const h200: MatrixUnit = {
  dialect: "subgroup",
  m: 16,
  n: 16,
  k: 16,
  subgroupSize: 32,
  subgroups: 32,
};

const modes = [
  { transposeA: false, transposeB: false },
  { transposeA: false, transposeB: true },
  { transposeA: true, transposeB: false },
  { transposeA: true, transposeB: true },
];

const op = (id: number, name: "add" | "max", ...args: Value<number>[]): Value<number> => ({
  kind: "op",
  id,
  dtype: "f32",
  op: name,
  args,
});
const zero: Value<number> = { kind: "constant", id: 3, dtype: "f32", value: 0 };
/** max(product + c, 0) */
const epilogue = (product: Value<number>, c: Value<number>) => op(5, "max", op(4, "add", product, c), zero);

const half = (x: number): number => widen(narrow(Float64Array.of(x), "F16"), "F16")[0]!;

/** The stored results in doubles, the operands rounded to f16. */
function expected(kernel: MatmulKernel, buffers: readonly number[][], finished: boolean): number[] {
  const [left, right] = [kernel.a, kernel.b].map(({ binding }) => buffers[binding]!.map(half));
  return productOracle(kernel, left!, right!).map((sum, i) => (finished ? Math.max(sum + buffers[3]![i]!, 0) : sum));
}

interface Operands {
  /** B is one matrix for all of a batch. */
  readonly broadcast?: boolean;
  /** Operands are stored in f16. */
  readonly stored?: boolean;
}

/** Largest difference from the product in doubles, relative to sqrt(k). */
async function worstError(
  device: WebGpuDevice,
  shape: MatmulShape,
  { broadcast = false, stored = false }: Operands,
): Promise<number> {
  const made = matmulKernel(shape);
  const inHalf = made.bindings.map((b, i) => (i < 2 ? { ...b, dtype: "f16" as const } : b));
  const plain = stored ? { ...made, bindings: inHalf } : made;
  const one = { ...plain, b: { ...plain.a, rowStride: plain.a.columnStride, columnStride: plain.a.rowStride } };
  const square = shape.m === shape.n ? one : plain; // X X^T
  const kernel = broadcast ? { ...plain, b: { ...plain.b, batchStrides: plain.batch.map(() => 0) } } : square;
  const buffers = kernel.bindings.map(({ size }, i) => randomFloats(i + 1, size));
  const right = expected(kernel, buffers, shape.epilogue !== undefined);
  const actual = (await runKernel(device, kernel, buffers))[2]!;
  return Math.max(...actual.map((x, i) => Math.abs(x - right[i]!))) / Math.sqrt(shape.k);
}

// software drivers take seconds to compile a kernel: another way of staging in each mode, on small matrices
const tile = { rows: 16, columns: 16, depth: 8, down: 2, across: 2, band: 2 };
interface Case extends Operands {
  readonly name: string;
  readonly unit?: MatrixUnit;
  readonly plan: TensorPlan;
  readonly shape: MatmulShape;
}
const cases: readonly Case[] = [
  {
    name: "A B, misaligned, in padded batches",
    plan: { tile, slices: 1, packed: [] },
    shape: { batch: [3], m: 33, n: 34, k: 35, pad: 3, offset: 5 },
  },
  {
    name: "A B^T, aligned, several matrices in a block and a step, an epilogue",
    plan: { tile: { rows: 16, columns: 32, depth: 16, down: 1, across: 2, band: 1 }, slices: 1, packed: [] },
    shape: { batch: [2, 2], m: 36, n: 68, k: 20, pad: 4, offset: 8, transposeB: true, epilogue },
  },
  {
    name: "A^T B, both sides packed, the right one for all batches",
    plan: { tile, slices: 1, packed: ["A", "B"] },
    shape: { batch: [2, 3], m: 20, n: 33, k: 47, pad: 1, offset: 3, transposeA: true },
    broadcast: true,
  },
  {
    name: "A^T B^T, one side packed, k in slices, an epilogue",
    plan: { tile, slices: 3, packed: ["B"] },
    shape: { batch: [2], m: 34, n: 37, k: 60, transposeA: true, transposeB: true, epilogue },
  },
  {
    name: "matrices of 16 x 8 x 16, a symmetric product",
    unit: { ...emulatedUnit, m: 16, n: 8, k: 16 },
    plan: { tile: { rows: 32, columns: 16, depth: 16, down: 2, across: 2, band: 8 }, slices: 1, packed: [] },
    shape: { m: 36, n: 36, k: 20, symmetric: true, transposeB: true },
  },
  {
    name: "A B in f16, misaligned, in padded batches",
    plan: { tile, slices: 1, packed: ["A"] },
    shape: { batch: [3], m: 33, n: 34, k: 35, pad: 3, offset: 5 },
    stored: true,
  },
  {
    name: "A B^T in f16, aligned, past the tiles' edges, k in slices",
    plan: { tile: { ...tile, depth: 16 }, slices: 2, packed: [] },
    shape: { batch: [2], m: 36, n: 52, k: 40, pad: 8, offset: 8, transposeB: true, epilogue },
    stored: true,
  },
  {
    name: "A^T B in f16, aligned along the other dimension, one B for all",
    plan: { tile: { ...tile, rows: 32 }, slices: 1, packed: ["B"] },
    shape: { batch: [2, 2], m: 40, n: 24, k: 21, transposeA: true },
    stored: true,
    broadcast: true,
  },
  {
    name: "X X^T, packed once for both sides",
    plan: { tile, slices: 1, packed: ["A", "B"] },
    shape: { m: 21, n: 21, k: 19, transposeB: true },
  },
];

describe("products on an emulated matrix unit", { timeout: 120_000 }, () => {
  let gpu: GPUDevice;
  let host: WebGpuDevice;
  beforeAll(async () => {
    host = await connectWebGpu();
    gpu = host.gpu;
  });
  afterAll(() => host.destroy());
  const deviceFor = (plan: TensorPlan | undefined, unit: MatrixUnit = emulatedUnit): WebGpuDevice =>
    new WebGpuDevice({
      gpu,
      description: "test",
      software: true,
      variants: plan ? { tensor: plan } : {},
      matrixUnit: unit,
    });

  for (const { name, unit, plan, shape, ...operands } of cases) {
    test(name, async () => {
      expect(await worstError(deviceFor(plan, unit), shape, operands)).toBeLessThan(1e-6);
    });
  }

  test("rounding is to the nearest, ties to even, with subnormal numbers", async () => {
    // x I: every element is one rounded number
    const kernel = matmulKernel({ m: 128, n: 8, k: 8 });
    const random = randomFloats(9, 1024);
    const x = random.map((r, i) => {
      const exponent = (i % 42) - 26; // from below the smallest subnormal number to the largest
      return i % 3 === 0
        ? Math.fround(r * 2 ** exponent)
        : Math.sign(r) * (1 + (2 * (i % 512) + 1) / 2048) * 2 ** (exponent - 1);
    });
    const identity = Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? 1 : 0));
    const [, , out] = await runKernel(deviceFor({ tile, slices: 1, packed: [] }), kernel, [
      x,
      identity,
      new Array(1024).fill(0),
    ]);
    expect(out).toEqual(x.map(half).map((v) => v + 0)); // sums begin at +0, so that -0 comes out as 0
  });
});

test("real units: WGSL and pipelines as Dawn compiles them", async () => {
  const { create } = (await import("webgpu")) as unknown as { create(options: string[]): GPU };
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = (await gpu.requestAdapter())!;
  const requiredFeatures = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
  const device = await adapter.requestDevice({ requiredFeatures });
  const unit = h200;
  const small = { rows: 64, columns: 64, depth: 16, down: 2, across: 2, band: 8 };
  const compile = async (
    unit: MatrixUnit,
    plan: TensorPlan,
    shape: MatmulShape,
    pipelines: boolean,
    stored = false,
  ): Promise<void> => {
    const plain = matmulKernel(shape);
    const kernel = stored
      ? { ...plain, bindings: plain.bindings.map((b) => ({ ...b, dtype: "f16" as const })) }
      : plain;
    const { code, passes } = emitTensorMatmul(kernel, unit, plan);
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code });
    const { messages } = await module.getCompilationInfo();
    expect(messages.map((m) => m.message)).toEqual([]);
    if (pipelines)
      for (const { entry } of passes)
        await device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: entry } });
    expect((await device.popErrorScope())?.message).toBeUndefined();
  };
  const ragged: MatmulShape = { batch: [2], m: 130, n: 71, k: 100, epilogue };
  for (const mode of modes) {
    await compile(unit, { tile: small, slices: 2, packed: [] }, { ...ragged, ...mode }, true);
    await compile(unit, { tile: small, slices: 1, packed: ["A", "B"] }, { ...ragged, ...mode }, true);
    const plain = { batch: [2], m: 136, n: 72, k: 104, ...mode }; // operands and result in f16
    await compile(unit, { tile: small, slices: 2, packed: [] }, plain, true, true);
  }
  // the null device has less workgroup memory than the tiles of large products take: their text is checked
  for (const { tile } of tensorKinds)
    for (const packed of [[], ["A"], ["A", "B"]] as const)
      await compile(unit, { tile, slices: 1, packed }, { m: 512, n: 512, k: 512 }, false);
  await compile({ ...unit, n: 8 }, { tile: small, slices: 1, packed: [] }, ragged, true);
  await compile({ ...unit, m: 8, n: 8, k: 8 }, { tile: small, slices: 1, packed: [] }, ragged, true);
  device.destroy();
  expect(gpu).toBeDefined(); // Dawn ends the process if its instance is collected while a device lives
});

test("the plan depends on the shape, and on the memory of a workgroup", () => {
  const chosen = (shape: MatmulShape, workgroupBytes = 49152) =>
    chooseTensorPlan(matmulKernel(shape), h200, workgroupBytes);
  const [large, square, , small] = tensorKinds.map(({ tile }) => tile);
  const packed = ["A", "B"];
  expect(chosen({ m: 4096, n: 4096, k: 4096 })).toEqual({ tile: large, slices: 1, packed });
  expect(chosen({ m: 2048, n: 2048, k: 2048 })).toEqual({ tile: large, slices: 1, packed });
  expect(chosen({ m: 1024, n: 1024, k: 1024 })).toEqual({ tile: small, slices: 1, packed: [] });
  expect(chosen({ m: 3072, n: 768, k: 8192 })).toEqual({ tile: large, slices: 5, packed });
  expect(chosen({ m: 64, n: 64, k: 65536 })).toEqual({ tile: small, slices: 128, packed: [] });
  expect(chosen({ m: 8, n: 4096, k: 4096 })).toBeUndefined();
  expect(chosen({ m: 1, n: 4096, k: 4096 })).toBeUndefined();
  // operands too large to keep a copy of
  expect(chosen({ m: 8192, n: 8192, k: 65536 })?.packed).toEqual([]);
  expect(chosen({ m: 4096, n: 4096, k: 4096 }, 32768)).toEqual({ tile: square, slices: 1, packed });
  expect(kindsFor(h200, 16384)).toEqual([]);
});
