// Timestamps: asked for, missing, and in more passes than a query set holds.
import { expect, test } from "vitest";
import { DeviceError } from "../errors.ts";
import { connect, matmul, mul, ones, profile, realise, tensor } from "../index.ts";

const roofline = { gflops: 10, gbs: 5 };

test("a GPU without timestamps says what to do, and stays usable", async () => {
  const adapter = await (globalThis.navigator?.gpu ?? (await dawn())).requestAdapter();
  const device = await connect({ gpu: await adapter!.requestDevice(), device: "webgpu", setDefault: false });
  const x = tensor([1, 2], { device });
  const refused = profile((a: typeof x) => mul(a, 2), [x], { roofline });
  await expect(refused).rejects.toThrow(/"timestamp-query".*requiredFeatures/);
  await expect(refused).rejects.toMatchObject({ code: "unsupported" });
  await expect(refused).rejects.toBeInstanceOf(DeviceError);
  expect([...(await mul(x, 3).data())]).toEqual([3, 6]);
});

async function dawn(): Promise<GPU> {
  const { dawnGpu } = await import("../device/webgpu/dawn.ts");
  return dawnGpu();
}

test("variants and dispatches are those that run: a product split along k has two", async () => {
  const device = await connect({
    device: "webgpu",
    setDefault: false,
    variants: { matmul: "tiled-split", elementWise: "wide", reduce: "workgroup" },
  });
  const [a, b] = await realise([ones([8, 64], { device }), ones([64, 8], { device })]);
  const p = await profile(matmul, [a!, b!], { runs: 1, roofline });
  expect(p.kernels.map(({ variant, dispatches }) => ({ variant, dispatches }))).toEqual([
    { variant: "matmul tiled-split", dispatches: 2 },
  ]);
  expect(p.dispatches).toBe(2);
  const q = await profile((x: typeof a) => mul(x!, 2), [a!], { runs: 1, roofline });
  expect(q.kernels[0]!.variant).toBe("loop wide");
});

test("a plan of more dispatches than a query set holds is timed whole", async () => {
  const device = await connect({ device: "webgpu", setDefault: false });
  const x = await realise(ones([4, 4], { device }));
  const chain = (y: typeof x): typeof x => Array.from({ length: 2100 }).reduce((z: typeof x) => matmul(z, y), y);
  const p = await profile(chain, [x], { runs: 1, roofline });
  expect(p.kernels.length).toBe(2100);
  expect(p.kernels.at(-1)!.medianMs).toBeGreaterThanOrEqual(0);
  expect(p.submits).toBe(Math.ceil(2100 / 128));
});
