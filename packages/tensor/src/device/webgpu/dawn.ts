// device/webgpu/dawn.ts: WebGPU in Node through Dawn, the npm package "webgpu", imported on demand.
import { DeviceError } from "../../errors.ts";

interface Dawn {
  create(options: string[]): GPU;
  readonly globals: object;
}

/** Dawn ends the process if what `create` returned is collected while a device lives, so it is kept here. */
const instances = new Map<string, GPU>();

/** True in Node (and in hosts that imitate it). */
export const isNode = (): boolean => typeof process !== "undefined" && typeof process.versions?.node === "string";

/** Features of Dawn to switch on and off, by name: "allow_unsafe_apis", "timestamp_quantization". */
export interface DawnToggles {
  readonly enable?: readonly string[];
  readonly disable?: readonly string[];
}

/**
 * The `GPU` object of Dawn, one for each set of toggles.
 *
 * @throws DeviceError("not-found") if the package is not installed or has no binary for this platform
 */
export async function dawnGpu({ enable = [], disable = [] }: DawnToggles = {}): Promise<GPU> {
  const options = [
    ...(enable.length > 0 ? [`enable-dawn-features=${enable.join(",")}`] : []),
    ...(disable.length > 0 ? [`disable-dawn-features=${disable.join(",")}`] : []),
  ];
  const key = options.join(" ");
  const known = instances.get(key);
  if (known) return known;
  let dawn: Dawn;
  try {
    const name: string = "webgpu"; // a variable, so that bundlers for browsers leave it alone
    dawn = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as Dawn;
  } catch (error) {
    const missing = (error as { code?: string }).code === "ERR_MODULE_NOT_FOUND";
    const cure = missing
      ? "install it: npm install webgpu"
      : `it cannot be loaded: ${error instanceof Error ? error.message : String(error)}`;
    throw new DeviceError("not-found", `connect: WebGPU in Node needs the package "webgpu"; ${cure}`, { cause: error });
  }
  Object.assign(globalThis, dawn.globals);
  const gpu = dawn.create(options);
  instances.set(key, gpu);
  return gpu;
}

/** Why Dawn has no adapter, and what helps. */
export const noDawnAdapter = (): DeviceError =>
  new DeviceError(
    "not-found",
    "connect: Dawn finds no GPU adapter; install a Vulkan driver and loader (Debian: libvulkan1 and the driver of your card; " +
      'for a software one set VK_DRIVER_FILES to its ICD file), or connect({ device: "cpu" })',
  );

/**
 * Whether this machine can have a GPU in hardware: on Linux one shows as a device file (in WSL as `/dev/dxg`). Asked before
 * Dawn is loaded, which takes a while and complains on standard error where there is no Vulkan library.
 */
export async function mayHaveHardware(): Promise<boolean> {
  if (process.platform !== "linux") return true;
  const name: string = "node:fs/promises";
  const { readdir } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as {
    readdir(path: string): Promise<string[]>;
  };
  const files = await readdir("/dev").catch(() => []);
  return files.some((file) => /^(dri|dxg|kfd|nvidia.*|mali.*)$/.test(file));
}
