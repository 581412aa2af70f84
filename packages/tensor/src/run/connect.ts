// run/connect.ts: finds a device.
import { CpuDevice } from "../device/cpu/device.ts";
import { initWasm } from "../device/cpu/wasm/index.ts";
import { setDefaultDevice } from "../device/current.ts";
import type { Device } from "../device/device.ts";
import { connectWebGpu, noSuchPrecision, preferences, type WebGpuOptions } from "../device/webgpu/index.ts";
import type { Precision } from "../dtype.ts";
import { DeviceError, ValueError } from "../errors.ts";

/** What to connect to. */
export interface ConnectOptions extends WebGpuOptions {
  /** "webgpu" or "cpu"; default: a GPU where there is a real one, else the CPU. `device.kind` says which it became. */
  readonly device?: "webgpu" | "cpu";
  /** Arithmetic of `f32` tensors on the CPU device: "f64" holds them in doubles, as an oracle. Default "f32". */
  readonly precision?: Precision;
  /** Whether new tensors go to this device by default. Default true. */
  readonly setDefault?: boolean;
}

/**
 * Connects to a device and makes it the default for new tensors. Without `device`, takes a hardware GPU (in a browser through
 * WebGPU, in Node through Dawn, the npm package `webgpu`), else the CPU. Asking for "webgpu" where there is none throws;
 * software adapters count then.
 *
 * @throws DeviceError "not-found" if there is no such device, "unsupported" if it lacks a wanted feature, ValueError for options that do not fit together
 * @example
 * const device = await connect();
 * console.log(device.kind, device.description);
 */
export async function connect(options: ConnectOptions = {}): Promise<Device> {
  const { device: wanted, precision = "f32", setDefault = true, ...webgpu } = options;
  if (precision === "f64" && wanted === "webgpu")
    throw new ValueError(
      'connect: precision "f64" exists on the CPU only; use connect({ device: "cpu", precision: "f64" })',
    );
  if (webgpu.gpu && wanted === "cpu")
    throw new ValueError('connect: `gpu` was given together with device "cpu"; leave one out');
  const device = await open(precision === "f64" ? "cpu" : wanted, precision, webgpu);
  if (setDefault) setDefaultDevice(device);
  return device;
}

async function open(
  wanted: "webgpu" | "cpu" | undefined,
  precision: Precision,
  webgpu: WebGpuOptions,
): Promise<Device> {
  if (wanted !== "cpu") {
    try {
      return await connectWebGpu({ ...webgpu, hardwareOnly: wanted === undefined && !webgpu.gpu });
    } catch (error) {
      if (wanted === "webgpu" || webgpu.gpu || !(error instanceof DeviceError && error.code === "not-found"))
        throw error;
    }
  }
  if (!preferences(webgpu.matmulPrecision).includes("f32")) throw noSuchPrecision("it is the CPU");
  await initWasm();
  return new CpuDevice(precision);
}
