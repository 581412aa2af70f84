// host.ts: the device that this run of the suite is about. One suite runs on three hosts: the CPU device, WebGPU through Dawn
// in Node, and WebGPU in Chromium; the vitest project names the device in MC_TEST_DEVICE.
import { type ConnectOptions, connect, type Device } from "@mc/tensor";
import { afterAll, expect } from "vitest";
import { env } from "./env.ts";

/** "cpu" or "webgpu": the device of this host. */
export const hostDevice: "cpu" | "webgpu" = readHostDevice();

function readHostDevice(): "cpu" | "webgpu" {
  const name = env("MC_TEST_DEVICE") ?? "cpu";
  if (name !== "cpu" && name !== "webgpu")
    throw new Error(`testDevice: MC_TEST_DEVICE must be "cpu" or "webgpu", got "${name}"`);
  return name;
}

/**
 * Connects the host's device and makes it the default. On a GPU host it asserts that a GPU answered, and registers a check that
 * the file's tests really dispatched work to it: a suite that silently ran elsewhere fails.
 *
 * @param options passed on to `connect` (`precision` only on the CPU host)
 * @example
 * const device = await testDevice();
 * test("add(x, y) adds", async () => { await expect(add(tensor([1]), 2)).toBeAllClose([3]); });
 */
export async function testDevice(options: Omit<ConnectOptions, "device"> = {}): Promise<Device> {
  const device = await connect({ setDefault: true, ...options, device: hostDevice });
  expect(device.kind, "the host's device").toBe(hostDevice);
  if (hostDevice === "webgpu") {
    afterAll(() => {
      expect(device.stats().dispatches, `dispatches on ${device.description}`).toBeGreaterThan(0);
    });
  }
  return device;
}

/** One device for all tests of a file: `testDevice()` with the default options, connected once. */
export function sharedTestDevice(): Promise<Device> {
  shared ??= testDevice();
  return shared;
}

let shared: Promise<Device> | undefined;

/** The float64 CPU device: the oracle. Never the default device. */
export function oracleDevice(): Promise<Device> {
  oracle ??= connect({ device: "cpu", precision: "f64", setDefault: false });
  return oracle;
}

let oracle: Promise<Device> | undefined;
