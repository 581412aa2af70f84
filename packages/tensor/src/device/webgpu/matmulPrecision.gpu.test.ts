// What `connect` does with `matmulPrecision`, and what products are then.
import { expect, test } from "vitest";
import { DeviceError } from "../../errors.ts";
import { connect, explain, full, matmul, type Tensor } from "../../index.ts";
import { choosePrecision } from "./matmulPrecision.ts";

const tensor = {
  tile: { rows: 16, columns: 16, depth: 8, down: 2, across: 2, band: 1 },
  slices: 1,
  packed: [],
} as const;

test("without matrix units f16 is refused, and f32 runs only where it is allowed", async () => {
  const refusal = await connect({ device: "webgpu", matmulPrecision: "f16", setDefault: false }).catch(
    (error: unknown) => error,
  );
  const device = await connect({ device: "webgpu", matmulPrecision: ["f16", "f32"], setDefault: false });
  if (device.software) {
    expect(String(refusal)).toMatch(
      /cannot multiply matrices in f16: it lacks the WebGPU features? .*chromium-experimental-subgroup-matrix.*toggles allow_unsafe_apis.*matmulPrecision: \["f16", "f32"\]/,
    );
    expect(device.matmulPrecision).toBe("f32");
  } else if (refusal instanceof Error) expect(refusal).toBeInstanceOf(DeviceError);
});

test("the preferred precision that the adapter offers is chosen, with its matrix unit", () => {
  const features = new Set(["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"]);
  const config = (resultComponentType: string, M: number, N: number, K: number) => ({
    componentType: "f16",
    resultComponentType,
    M,
    N,
    K,
  });
  const limits = { maxComputeWorkgroupStorageSize: 32768, maxComputeInvocationsPerWorkgroup: 128 };
  const facts = (min: number, max: number, ...subgroupMatrixConfigs: object[]) =>
    ({ features, limits, info: { subgroupMinSize: min, subgroupMaxSize: max, subgroupMatrixConfigs } }) as never;
  const nvidia = facts(32, 32, config("f16", 16, 16, 16), config("f32", 16, 8, 16), config("f32", 16, 16, 16));
  expect(choosePrecision(["f16"], nvidia, {})).toEqual({
    precision: "f16",
    unit: { dialect: "subgroup", m: 16, n: 16, k: 16, subgroupSize: 32, subgroups: 4 },
  });
  expect(choosePrecision(["f32", "f16"], nvidia, {}).unit).toBeUndefined();
  expect(() => choosePrecision(["f16"], facts(8, 32, config("f32", 8, 8, 8)), {})).toThrow(
    "no fixed size (from 8 to 32)",
  );
  expect(() => choosePrecision(["f16"], facts(32, 32, config("f16", 8, 8, 8)), {})).toThrow("offers f16 to f16 8x8x8");
  expect(() => choosePrecision(["f16"], facts(64, 64), {})).toThrow("none of it f16 to f32");
  expect(() => choosePrecision(["f16"], facts(64, 64, config("f32", 16, 16, 16)), {})).toThrow(
    "32768 bytes and 128 invocations, too few",
  );
  expect(choosePrecision(["f16", "f32"], facts(32, 32), {})).toEqual({ precision: "f32", unit: undefined });
});

const codeOf = (x: Tensor): string => explain(x).kernels.find((k) => k.kind === "matmul")!.code;

test("products round their operands to f16, unless one is to stay in f32", async () => {
  const device = await connect({
    device: "webgpu",
    matmulPrecision: "f16",
    variants: { matrixUnit: "emulated", tensor },
    setDefault: false,
  });
  expect(device.matmulPrecision).toBe("f16");
  expect(device.description).toContain("matmul f16 to f32 on emulated matrices 8x8x8");
  const x = full([16, 16], 1 + 2 ** -12, { device });
  const y = matmul(x, x);
  const exact = matmul(x, x, { precision: "f32" });
  expect(codeOf(y)).toContain("pack2x16float");
  expect(codeOf(exact)).not.toContain("pack2x16float");
  expect((await y.data())[7]).toBe(16);
  expect((await exact.data())[7]).toBeCloseTo(16 * (1 + 2 ** -12) ** 2, 5);
});
