// Timestamps: missing, and more than a query set holds.
import { expect, test } from "vitest";
import { leavesOf, makePlan } from "../compiler/plan.ts";
import { dawnGpu } from "../device/webgpu/dawn.ts";
import { DeviceError } from "../errors.ts";
import { connect, mul, profile, type Tensor, tensor } from "../index.ts";
import { storageOf } from "./realise.ts";

test("a GPU without timestamps says what to do, and stays usable", async () => {
  const adapter = await (globalThis.navigator?.gpu ?? (await dawnGpu())).requestAdapter();
  const device = await connect({ gpu: await adapter!.requestDevice(), device: "webgpu", setDefault: false });
  const x = tensor([1, 2], { device });
  const refused = profile((a: Tensor) => mul(a, 2), [x], { roofline: { gflops: 10, gbs: 5 } });
  await expect(refused).rejects.toThrow(/"timestamp-query".*requiredFeatures/);
  await expect(refused).rejects.toBeInstanceOf(DeviceError);
  await expect(refused).rejects.toMatchObject({ code: "unsupported" });
  expect([...(await mul(x, 3).data())]).toEqual([3, 6]);
});

test("more launches than a query set has places for are all timed", async () => {
  const device = await connect({ device: "webgpu", setDefault: false });
  const x = tensor([1, 2], { device });
  const y = mul(x, 2).node;
  const plan = makePlan({ device, leaves: leavesOf([y]), outputs: [y] });
  const buffers = [storageOf(x.node), device.allocate("f32", 2)];
  const launches = Array.from({ length: 2100 }, () => plan.launches[0]!);
  const { milliseconds } = await device.time(launches, buffers, { apart: true });
  expect(milliseconds.length).toBe(2100);
  expect(milliseconds.every((ms) => ms >= 0)).toBe(true);
  expect([...(await device.download(buffers[1]!))]).toEqual([2, 4]);
});
