// lib/nullDevice.ts: a device on Dawn's null backend, which validates and records everything and runs nothing.
import { connect, type Device, type MatmulPrecision } from "@mc/tensor";

/** Dawn's null backend, kept: Dawn ends the process if what `create` returned is collected while a device lives. */
let dawn: GPU | undefined;

/** What the device is to be. */
interface NullOptions {
  readonly weightless?: boolean;
  readonly precision?: MatmulPrecision;
}

/**
 * A device that computes nothing. In f16 its matrix unit is an emulated one: plans and buffers are those of a real one.
 *
 * @param weightless - its buffers have any size and hold nothing, and its commands go nowhere: to count the memory of models that
 * the null backend's 512 MiB do not hold
 */
export async function connectNull({ weightless = false, precision = "f32" }: NullOptions = {}): Promise<Device> {
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  dawn ??= create(["backend=null"]);
  const adapter = await dawn.requestAdapter();
  if (!adapter) throw new Error("bench: this build of Dawn has no null backend");
  const {
    maxBufferSize,
    maxStorageBufferBindingSize,
    maxStorageBuffersPerShaderStage,
    maxComputeWorkgroupStorageSize,
  } = adapter.limits;
  const requiredLimits = {
    maxBufferSize,
    maxStorageBufferBindingSize,
    maxStorageBuffersPerShaderStage,
    maxComputeWorkgroupStorageSize,
  };
  const gpu = await adapter.requestDevice({ requiredLimits });
  return connect({
    device: "webgpu",
    gpu: weightless ? withoutWeight(gpu) : gpu,
    softwareAdapter: false,
    ...(precision === "f16" && { matmulPrecision: "f16", variants: { matrixUnit: "emulated" } }),
  });
}

/** Of an H200: bindings of 2 GiB, workgroups with 48 KiB. */
const bindingBytes = 2 ** 31;
const workgroupBytes = 49152;

function withoutWeight(gpu: GPUDevice): GPUDevice {
  const nothing = (): void => {};
  const pass = { setPipeline: nothing, setBindGroup: nothing, dispatchWorkgroups: nothing, end: nothing };
  const encoder = { beginComputePass: () => pass, copyBufferToBuffer: nothing, finish: nothing };
  const replaced: Record<PropertyKey, unknown> = {
    limits: {
      maxBufferSize: bindingBytes,
      maxStorageBufferBindingSize: bindingBytes,
      maxComputeWorkgroupStorageSize: workgroupBytes,
      maxComputeWorkgroupsPerDimension: gpu.limits.maxComputeWorkgroupsPerDimension,
    },
    createBuffer: (descriptor: GPUBufferDescriptor) =>
      gpu.createBuffer({ ...descriptor, size: Math.min(descriptor.size, 4) }),
    createBindGroup: nothing,
    createCommandEncoder: () => encoder,
    queue: { submit: nothing, writeBuffer: nothing, onSubmittedWorkDone: () => Promise.resolve() },
  };
  return new Proxy(gpu, {
    get(target, name) {
      if (name in replaced) return replaced[name];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
