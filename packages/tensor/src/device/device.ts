// device/device.ts: what a device offers to the runtime, and what it tells the user.

import type { KernelSpec } from "../compiler/kernel.ts";
import type { DType, Precision, TypedArray } from "../dtype.ts";
import type { Storage } from "./storage.ts";

/**
 * In which precision matrices are multiplied: "f32", or "f16" on matrix units (tensor cores): operands rounded to f16, products
 * added up in f32. Tensors are f32 either way.
 */
export type MatmulPrecision = "f32" | "f16";

/** Bytes on a device. `liveBytes`: tensors and compiled plans; `pooledBytes`: kept for reuse; `peakBytes`: most in use so far. */
export interface DeviceMemory {
  readonly liveBytes: number;
  readonly pooledBytes: number;
  readonly peakBytes: number;
}

/** Counters since the device was connected. */
export interface DeviceStats {
  readonly dispatches: number;
  readonly submits: number;
  /** Milliseconds in `queue.submit`, which JavaScript waits for: under Node the driver records the commands there. */
  readonly submitMs: number;
  readonly pipelines: number;
  readonly bindGroups: number;
  readonly buffersCreated: number;
}

/** Parts of a storage begin at multiples of this many elements: 256 bytes, where every WebGPU device can bind them. */
export const arenaAlignment = 64;

/** What the compiler needs to know of a device *class*: equal traits, equal plans. Never adapter limits or timing. */
export interface Traits {
  /** Buffers that one kernel may bind: 8 on every WebGPU host (the limits seen are 10, 12 and 16). */
  readonly maxBindings: number;
  /** Whether a matmul kernel can finish its result with a fused epilogue. */
  readonly matmulEpilogue: boolean;
  /** Whether compiled plans own copies of their inputs and outputs, so that bind groups stay valid from replay to replay. */
  readonly ownsEdges: boolean;
  /**
   * Products run on a matrix unit, where their sides and inner dimension are at least so large: operands are rounded to f16, and
   * may be stored so. Undefined: products read f32.
   */
  readonly leastHalf: number | undefined;
  /** "cpu" | "webgpu": which kernels fused ops offer. */
  readonly kind: "cpu" | "webgpu";
}

/** One kernel of a plan with its buffers chosen: opaque to everyone but its device. */
export interface Executable {
  readonly label: string;
  /** Which kernel was chosen of those that could run: "loop wide", "reduce workgroup", "matmul 64x64x16/8x8", "fused tiles". */
  readonly variant: string;
  /** Dispatches of one run: a product split along k has two. */
  readonly dispatches: number;
  /** Source that runs: JavaScript or WGSL. */
  readonly code: string;
}

/** A kernel and the buffers it runs on: `buffers[i]` is the plan's slot of the kernel's i-th binding. */
export interface Launch {
  readonly executable: Executable;
  readonly slots: readonly number[];
}

/** How to time launches. */
export interface TimeOptions {
  /** Each launch in a pass of its own, with a time of its own; else in as few passes as in a replay, with one time for all. */
  readonly apart: boolean;
  /** As for `execute`. */
  readonly replay?: object;
}

/** How long launches took. */
export interface LaunchTimes {
  /** Milliseconds of each launch where they ran apart; else one number, from the first one's begin to the last one's end. */
  readonly milliseconds: readonly number[];
  /** Milliseconds from one tick of the clock to the next: shorter times cannot be told apart. */
  readonly step: number;
}

/** A place to compute. Made by `connect`; everything but the public fields is between the runtime and the device. */
export interface Device {
  readonly kind: "cpu" | "webgpu";
  readonly precision: Precision;
  /** What `matmul` does with its operands, as chosen by `connect`. */
  readonly matmulPrecision: MatmulPrecision;
  /** For people: "cpu (JavaScript and WebAssembly SIMD, f32)", "webgpu (nvidia ...)". */
  readonly description: string;
  /** True where a GPU is emulated on the CPU (SwiftShader, lavapipe). */
  readonly software: boolean;
  readonly traits: Traits;
  /** Bytes in use now and at most. */
  memory(): DeviceMemory;
  /** Counters since the device was connected. */
  stats(): DeviceStats;

  /** @internal Uninitialised memory for `size` elements. */
  allocate(dtype: DType, size: number): Storage;
  /** @internal A storage over part of another's memory; `offset` is a multiple of `arenaAlignment`. The memory goes with the last part. */
  part(whole: Storage, offset: number, size: number): Storage;
  /** @internal Gives memory back; the handle must not be used again. */
  release(storage: Storage): void;
  /** @internal `moveStorage` for a storage that is no part. */
  transfer(storage: Storage): Storage;
  /** @internal */
  upload(storage: Storage, data: TypedArray): void;
  /** @internal Starts a read-back; later writes to the storage do not change its result. */
  download(storage: Storage): Promise<TypedArray>;
  /** @internal Element copy between storages of one dtype and size. */
  copy(from: Storage, to: Storage): void;
  /** @internal A copy in memory of its own, for a result that is more likely read than computed with. */
  copyOf(from: Storage): Storage;
  /** @internal Kernels with the same bindings that together do what this one does. */
  partsOf(kernel: KernelSpec): readonly KernelSpec[];
  /** @internal Compiles a kernel whose binding i is buffer i; cached by structure. */
  prepare(kernel: KernelSpec): Executable;
  /** @internal Runs launches in order on the given buffers. `replay` is the same object at every replay of a compiled plan: a place for cached bind groups. */
  execute(launches: readonly Launch[], buffers: readonly Storage[], replay?: object): void;
  /**
   * @internal Runs launches as `execute` does, and tells how long they took: `apart`, each on its own; else all together.
   * @throws DeviceError "unsupported" where the device has no clock
   */
  time(launches: readonly Launch[], buffers: readonly Storage[], options: TimeOptions): Promise<LaunchTimes>;
  /** @internal Queue submissions that a replay of so many dispatches takes. */
  submitsOf(dispatches: number): number;
  /** @internal Resolves when everything submitted so far has run; rejects with a DeviceError. */
  settle(): Promise<void>;
}
