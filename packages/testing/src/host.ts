// host.ts: the device that this run of the suite is about. One suite runs on three hosts: the CPU device, WebGPU through Dawn
// in Node, and WebGPU in Chromium; the vitest project names the device in MC_TEST_DEVICE.
import { type ConnectOptions, connect, type Device, setDefaultDevice } from "@mc/tensor";
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
  return forThisFile(await connect({ ...options, device: hostDevice }));
}

/**
 * `testDevice()` with the default options, connected once and the same in every file: kernels that one file has compiled serve
 * the next one.
 */
export async function sharedTestDevice(): Promise<Device> {
  shared ??= connect({ device: hostDevice });
  return forThisFile(await shared);
}

let shared: Promise<Device> | undefined;

const checked = new Set<string>();

/** Makes a device the default, whatever other files left behind, and checks at the file's end that a GPU has worked. */
function forThisFile(device: Device): Device {
  setDefaultDevice(device);
  expect(device.kind, "the host's device").toBe(hostDevice);
  const file = expect.getState().testPath ?? "";
  if (hostDevice === "webgpu" && !checked.has(file)) {
    checked.add(file);
    const before = device.stats().dispatches;
    afterAll(() => {
      expect(device.stats().dispatches, `dispatches on ${device.description}`).toBeGreaterThan(before);
    });
  }
  return device;
}

/** The float64 CPU device: the oracle. Never the default device. */
export function oracleDevice(): Promise<Device> {
  oracle ??= connect({ device: "cpu", precision: "f64", setDefault: false });
  return oracle;
}

let oracle: Promise<Device> | undefined;
