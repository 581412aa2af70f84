// device/webgpu/connect.ts: finds a GPU, in a browser or through Dawn in Node.
import { DeviceError } from "../../errors.ts";
import type { MatmulPrecision } from "../device.ts";
import { describeAdapter, isSoftwareAdapter, openAdapter } from "./adapter.ts";
import { browserGpu, noBrowserAdapter } from "./browser.ts";
import { dawnGpu, isNode, mayHaveHardware, noDawnAdapter } from "./dawn.ts";
import { WebGpuDevice } from "./device.ts";
import type { MatrixUnit } from "./matmul/matrixUnit.ts";
import { choosePrecision, matrixFeatures, matrixToggles, preferences } from "./matmulPrecision.ts";
import type { Variants } from "./program.ts";

/** How to find a GPU. */
export interface WebGpuOptions {
  /** Use this device instead of looking for one; its limits are taken as they are. */
  readonly gpu?: GPUDevice;
  /** Which adapter to prefer where there are several; default "high-performance". */
  readonly powerPreference?: GPUPowerPreference;
  /** Take a GPU in hardware or none; default false. */
  readonly hardwareOnly?: boolean;
  /** Treat the adapter as a software one (no barriers, a thread a result) or as hardware; default: what it says it is. */
  readonly softwareAdapter?: boolean;
  /**
   * In which precision matrices are multiplied: one, or several in order of preference; default "f32". "f16" rounds operands
   * to f16 and adds up in f32, on the GPU's matrix units (tensor cores): several times as fast, with 11 significant bits.
   * Numbers beyond 65504 become infinite, those below 6e-8 zero: scale the loss, so that gradients stay between. One product
   * stays in f32 by `matmul(a, b, { precision: "f32" })`. In Node this sets the Dawn toggles "allow_unsafe_apis" and
   * "vulkan_enable_f16_on_nvidia", without which Dawn hides these units.
   */
  readonly matmulPrecision?: MatmulPrecision | readonly MatmulPrecision[];
  /** Forces kernel variants: for tests. */
  readonly variants?: Variants;
  /** Dawn features by name; Node only. */
  readonly toggles?: readonly string[];
  /**
   * "exact": the GPU's own clock for `profile`; Node only. Default "rounded": Dawn and browsers round timestamps to steps of about
   * 0.1 ms against spying, too coarse for kernels. In Chrome chrome://flags/#enable-webgpu-developer-features does the same.
   */
  readonly timestamps?: "rounded" | "exact";
}

/**
 * Connects to a GPU, a software one where there is no other.
 *
 * @throws DeviceError "not-found" if there is none (the message says what to install), "unsupported" if it offers none of the
 *   precisions in `matmulPrecision`
 * @example const device = await connectWebGpu(); // device.description: "webgpu (nvidia hopper, ...)"
 */
export async function connectWebGpu(options: WebGpuOptions = {}): Promise<WebGpuDevice> {
  const wanted = preferences(options.matmulPrecision);
  let { gpu } = options;
  let info = gpu?.adapterInfo;
  if (!gpu) {
    const adapter = await findAdapter(options);
    if (!adapter) throw browserGpu() ? noBrowserAdapter() : noDawnAdapter();
    info = adapter.info;
    if (options.hardwareOnly && isSoftwareAdapter(info)) {
      throw new DeviceError(
        "not-found",
        `connect: the only GPU is a software one (${describeAdapter(info)}); connect({ device: "webgpu" }) takes it`,
      );
    }
    gpu = await openAdapter(adapter, wanted.includes("f16") ? matrixFeatures : []);
  }
  const software = options.softwareAdapter ?? (info !== undefined && isSoftwareAdapter(info));
  const variants = options.variants ?? {};
  const { unit } = choosePrecision(wanted, { features: gpu.features, limits: gpu.limits, info }, variants);
  const name = info ? describeAdapter(info) : "a given device";
  const description = `webgpu (${name}${unit ? `; matmul f16 to f32 on ${describeUnit(unit)}` : ""})`;
  return new WebGpuDevice({ gpu, description, software, variants, matrixUnit: unit });
}

/** "subgroup matrices 16x16x16". */
const describeUnit = ({ dialect, m, n, k }: MatrixUnit): string =>
  `${dialect === "subgroup" ? "subgroup" : "emulated"} matrices ${m}x${n}x${k}`;

async function findAdapter({
  powerPreference = "high-performance",
  toggles = [],
  timestamps = "rounded",
  hardwareOnly,
  matmulPrecision,
}: WebGpuOptions): Promise<GPUAdapter | null> {
  const host = browserGpu();
  if (host && timestamps === "exact")
    throw new DeviceError(
      "unsupported",
      'connect: a page cannot ask for timestamps "exact"; leave it out, and enable chrome://flags/#enable-webgpu-developer-features',
    );
  if (host) return host.requestAdapter({ powerPreference });
  if (!isNode()) throw noBrowserAdapter();
  if (hardwareOnly && !(await mayHaveHardware())) return null;
  const disable = timestamps === "exact" ? ["timestamp_quantization"] : [];
  const enable = [...new Set([...toggles, ...(preferences(matmulPrecision).includes("f16") ? matrixToggles : [])])];
  return (await dawnGpu({ enable, disable })).requestAdapter({ powerPreference });
}
