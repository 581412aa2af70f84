// device/webgpu/adapter.ts: from an adapter to a device with everything it offers.
import { DeviceError } from "../../errors.ts";

/** Features that kernels can use where they exist. */
const wantedFeatures = ["shader-f16", "subgroups", "timestamp-query"];

/** The default limits are small; these are raised to what the adapter has. */
const wantedLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
] as const;

/** True where a CPU plays the GPU: SwiftShader, lavapipe, WARP. */
export function isSoftwareAdapter(info: GPUAdapterInfo): boolean {
  const text = `${info.vendor} ${info.architecture} ${info.device} ${info.description}`;
  return info.isFallbackAdapter === true || /swiftshader|llvmpipe|lavapipe|software|warp|basic render/i.test(text);
}

/** "nvidia hopper (NVIDIA H200)", as far as the host tells. */
export function describeAdapter(info: GPUAdapterInfo): string {
  const name = [info.vendor, info.architecture].filter(Boolean).join(" ") || "unknown adapter";
  const detail = info.description || info.device;
  return detail ? `${name}, ${detail}` : name;
}

/** A device with the adapter's limits and the features that kernels know, and `more` features where they exist. */
export async function openAdapter(adapter: GPUAdapter, more: readonly string[] = []): Promise<GPUDevice> {
  const requiredLimits: Record<string, number> = {};
  for (const name of wantedLimits) requiredLimits[name] = adapter.limits[name];
  const requiredFeatures = [...new Set([...wantedFeatures, ...more])].filter((name) =>
    adapter.features.has(name),
  ) as GPUFeatureName[];
  try {
    return await adapter.requestDevice({ requiredLimits, requiredFeatures });
  } catch (error) {
    throw new DeviceError(
      "not-found",
      `connect: the GPU adapter (${describeAdapter(adapter.info)}) gives no device: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
}
