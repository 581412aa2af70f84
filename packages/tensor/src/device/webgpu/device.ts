// device/webgpu/device.ts: the Device interface over a GPUDevice.
import type { FusedKernel, KernelSpec } from "../../compiler/kernel.ts";
import { arrayType, type DType, type TypedArray } from "../../dtype.ts";
import { DeviceError } from "../../errors.ts";
import {
  arenaAlignment,
  type Device,
  type DeviceMemory,
  type DeviceStats,
  type Executable,
  type Launch,
  type LaunchTimes,
  type MatmulPrecision,
  type TimeOptions,
  type Traits,
} from "../device.ts";
import { createStorage, joinArena, leaveArena, type Storage } from "../storage.ts";
import { BindGroups, scratchParts } from "./bindGroups.ts";
import { Commands, submitsOf } from "./commands.ts";
import { partsOf } from "./emitMatmul.ts";
import { emitWgsl } from "./emitWgsl.ts";
import type { MatrixUnit } from "./matmul/matrixUnit.ts";
import { leastSize } from "./matmul/tensorTiles.ts";
import { BufferPool, type GpuMemory, pieceBytes } from "./memory.ts";
import { type GpuExecutable, PipelineCache } from "./pipelines.ts";
import type { Target, Variants } from "./program.ts";
import { ReadbackRing } from "./readback.ts";
import { launchTimes, noTimestamps, Stopwatch } from "./stopwatch.ts";

/** Equal on every WebGPU host, whatever its limits: kernels and what they compute must not depend on the adapter. */
const traitsOf = (matrixUnit: boolean): Traits => ({
  kind: "webgpu",
  maxBindings: 8,
  matmulEpilogue: true,
  ownsEdges: true,
  leastHalf: matrixUnit ? leastSize : undefined,
});

/**
 * What a storage holds, and what is watched for being dropped. It passes from a donated storage to the next one as it is: to
 * register another would cost more than a dispatch.
 */
interface Holding {
  readonly memory: GpuMemory;
}

/** What `connectWebGpu` found out about a GPU. */
export interface WebGpuDeviceOptions {
  readonly gpu: GPUDevice;
  readonly description: string;
  readonly software: boolean;
  readonly variants?: Variants;
  /** Where products run in f16; default: they run in f32. */
  readonly matrixUnit?: MatrixUnit | undefined;
}

/** A device that computes with WGSL kernels. Made by `connectWebGpu`. */
export class WebGpuDevice implements Device {
  readonly kind = "webgpu";
  readonly precision = "f32";
  readonly traits: Traits;
  readonly matmulPrecision: MatmulPrecision;
  readonly description: string;
  readonly software: boolean;
  /** The WebGPU device behind it: share it with code that draws, for example. */
  readonly gpu: GPUDevice;

  private readonly target: Target;
  private readonly commands: Commands;
  private readonly pool: BufferPool;
  private readonly pipelines: PipelineCache;
  private readonly bindGroups: BindGroups;
  private readonly readback: ReadbackRing;
  /** Buffers of storages that were dropped without dispose. */
  private readonly dropped: FinalizationRegistry<GpuMemory>;
  /** Slots that a plan's launches bind. */
  private readonly slots = new WeakMap<readonly Launch[], readonly number[]>();
  /** Outcomes that are still on their way. */
  private readonly outcomes = new Set<Promise<void>>();
  /** Errors that nobody has been told. */
  private errors: DeviceError[] = [];
  private lost: DeviceError | undefined;
  /** Whether any buffer's contents may be wrong: only then is it worth following them. */
  private tainted = false;
  private scratch: GpuMemory | undefined;
  private dispatches = 0;

  constructor({ gpu, description, software, variants = {}, matrixUnit }: WebGpuDeviceOptions) {
    this.gpu = gpu;
    this.description = description;
    this.software = software;
    this.traits = traitsOf(matrixUnit !== undefined);
    this.matmulPrecision = matrixUnit ? "f16" : "f32";
    this.target = {
      software,
      workgroupBytes: gpu.limits.maxComputeWorkgroupStorageSize,
      variants,
      ...(matrixUnit && { matrixUnit }),
    };
    this.commands = new Commands(gpu, (error) => this.report(error));
    this.pool = new BufferPool({
      gpu,
      failed: (error, memory) => {
        memory.failure = error;
        this.tainted = true;
        this.report(error);
      },
      destroy: (memory) =>
        this.commands.order(undefined, () => this.commands.afterSubmit(() => memory.buffer.destroy())),
      track: (outcome) => this.track(outcome),
    });
    this.pipelines = new PipelineCache(gpu);
    this.bindGroups = new BindGroups(gpu);
    this.readback = new ReadbackRing(gpu);
    this.dropped = new FinalizationRegistry((memory) => this.pool.give(memory));
    gpu.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      this.report(new DeviceError("kernel", `webgpu: ${error.message}`, { cause: error }));
    });
    void gpu.lost.then(({ reason, message }) => {
      this.lost = new DeviceError(
        "lost",
        `webgpu: the device was lost (${reason || "unknown reason"}): ${message}; connect again and load the last checkpoint`,
      );
    });
  }

  memory(): DeviceMemory {
    const { liveBytes, pooledBytes, peakBytes } = this.pool;
    return { liveBytes, pooledBytes, peakBytes };
  }

  stats(): DeviceStats {
    return {
      dispatches: this.dispatches,
      submits: this.commands.submits,
      submitMs: this.commands.submitMs,
      pipelines: this.pipelines.created,
      bindGroups: this.bindGroups.created,
      buffersCreated: this.pool.created,
    };
  }

  /** Gives the GPU back: every tensor on it is dead afterwards. A device that is in use until the program ends needs no call. */
  destroy(): void {
    this.gpu.destroy();
  }

  allocate(dtype: DType, size: number): Storage {
    if (this.lost) throw this.lost;
    return this.own(this.pool.take(bytesOf(size)), dtype, size);
  }

  part(whole: Storage, offset: number, size: number): Storage {
    const bytes = Math.ceil(size / arenaAlignment) * arenaAlignment * 4;
    const holding: Holding = { memory: this.pool.part(memoryOf(whole), offset * 4, bytes) };
    return joinArena(whole, offset, size, holding);
  }

  release(storage: Storage): void {
    const owner = storage.arena ? leaveArena(storage) : storage;
    const holding = owner?.handle as Holding | null | undefined;
    if (!owner || !holding) return;
    owner.handle = null;
    this.dropped.unregister(holding);
    this.pool.give(holding.memory);
  }

  transfer(storage: Storage): Storage {
    const { dtype, size, handle } = storage;
    storage.handle = null;
    return createStorage(this, dtype, size, handle);
  }

  upload(storage: Storage, data: TypedArray): void {
    const memory = memoryOf(storage);
    let bytes = deviceArray(storage.dtype, data);
    if (bytes.byteLength === 0) return;
    if (this.commands.delayed && bytes === data) bytes = bytes.slice();
    this.commands.order(undefined, () => this.commands.write(memory, bytes));
  }

  download(storage: Storage): Promise<TypedArray> {
    const memory = memoryOf(storage);
    const { dtype, size } = storage;
    const bytes = size * 4;
    const read = new Promise<ArrayBuffer>((resolve, reject) => {
      this.commands.order(undefined, () => {
        if (bytes === 0 || this.lost) {
          resolve(new ArrayBuffer(bytes));
          return;
        }
        const buffer = this.readback.take(bytes);
        this.commands.copy(memory, { buffer, offset: 0 }, bytes);
        this.commands.afterSubmit(() => this.readback.read(buffer, bytes).then(resolve, reject));
      });
    });
    return this.checked(read, memory).then((data) => hostArray(dtype, data));
  }

  copy(from: Storage, to: Storage): void {
    const source = memoryOf(from);
    const target = memoryOf(to);
    if (source === target || from.size === 0) return;
    this.commands.order(undefined, () => {
      if (this.tainted) target.failure ??= source.failure;
      this.commands.copy(source, target, from.size * 4);
    });
  }

  copyOf(from: Storage): Storage {
    const { dtype, size } = from;
    // never from a page to itself: WebGPU copies between different buffers
    const small = bytesOf(size) <= pieceBytes && !memoryOf(from).paged;
    const to = small ? this.own(this.pool.takePiece(), dtype, size) : this.allocate(dtype, size);
    this.copy(from, to);
    return to;
  }

  partsOf(kernel: KernelSpec): readonly KernelSpec[] {
    return kernel.kind === "matmul" ? partsOf(kernel, this.target) : [kernel];
  }

  prepare(kernel: KernelSpec): Executable {
    const program = emitWgsl(kernel, this.target, (fused) => this.chooseFused(fused));
    const executable = this.pipelines.get(program);
    if (executable.ready) this.track(executable.ready);
    this.reserveScratch(program.scratch);
    return executable;
  }

  execute(launches: readonly Launch[], buffers: readonly Storage[], replay?: object): void {
    if (this.lost) throw this.lost;
    const memories = this.bound(launches, buffers);
    this.commands.order(compiled(launches), () => this.encode(launches, memories, replay));
  }

  time(launches: readonly Launch[], buffers: readonly Storage[], { apart, replay }: TimeOptions): Promise<LaunchTimes> {
    if (!this.gpu.features.has("timestamp-query")) throw noTimestamps(this.description);
    if (this.lost) throw this.lost;
    const memories = this.bound(launches, buffers);
    const stamps = new Promise<ArrayBuffer>((resolve, reject) => {
      this.commands.order(compiled(launches), () => {
        const stopwatch = new Stopwatch(this.gpu);
        this.commands.flush();
        this.commands.timing = { next: () => stopwatch.next(), apart };
        try {
          this.encode(launches, memories, replay);
        } catch (error) {
          reject(error);
          return;
        } finally {
          this.commands.timing = undefined;
          this.commands.flush();
        }
        const { bytes } = stopwatch;
        if (this.lost || bytes === 0) {
          resolve(new ArrayBuffer(0));
          return;
        }
        const buffer = this.readback.take(bytes);
        stopwatch.submit(buffer);
        this.readback.read(buffer, bytes).then(resolve, reject);
      });
    });
    const dispatches = launches.map(({ executable }) => executable.dispatches);
    return this.checked(stamps).then((bytes) => launchTimes(new BigUint64Array(bytes), dispatches, apart));
  }

  submitsOf(dispatches: number): number {
    return submitsOf(dispatches);
  }

  settle(): Promise<void> {
    const done = new Promise<void>((resolve, reject) => {
      this.commands.order(undefined, () => {
        this.commands.flush();
        this.gpu.queue.onSubmittedWorkDone().then(() => resolve(), reject);
      });
    });
    return this.checked(done);
  }

  private own(memory: GpuMemory, dtype: DType, size: number): Storage {
    const holding: Holding = { memory };
    this.dropped.register(holding, memory, holding);
    return createStorage(this, dtype, size, holding);
  }

  /** The memory of each buffer that launches bind: parts of arenas are many, and rarely among them. */
  private bound(launches: readonly Launch[], buffers: readonly Storage[]): GpuMemory[] {
    let slots = this.slots.get(launches);
    if (!slots) this.slots.set(launches, (slots = [...new Set(launches.flatMap((launch) => launch.slots))]));
    const memories = new Array<GpuMemory>(buffers.length);
    for (const slot of slots) memories[slot] = this.bindable(buffers[slot]!);
    return memories;
  }

  /** The memory of a storage as kernels can bind it: out of its page, if it lies in one. */
  private bindable(storage: Storage): GpuMemory {
    const memory = memoryOf(storage);
    if (!memory.paged) return memory;
    const moved = this.allocate(storage.dtype, storage.size);
    this.copy(storage, moved);
    const [old, fresh] = [storage.handle as Holding, moved.handle as Holding];
    this.dropped.unregister(old);
    this.pool.give(memory);
    storage.handle = fresh;
    return fresh.memory;
  }

  private chooseFused({ op, inputSpecs, params }: FusedKernel) {
    return op.webgpu?.(inputSpecs, params, this);
  }

  private encode(launches: readonly Launch[], memories: readonly GpuMemory[], replay: object | undefined): void {
    const cached = replay && this.bindGroups.ofReplay(replay);
    let current: GPUComputePipeline | undefined;
    let pass: GPUComputePassEncoder | undefined;
    for (let at = 0; at < launches.length; at++) {
      const launch = launches[at]!;
      const executable = launch.executable as GpuExecutable;
      if (this.tainted || executable.failure) this.followFailure(launch, memories);
      if (executable.passes.length === 0) continue;
      const group = cached
        ? this.bindGroups.ofLaunch(cached, at, executable, launch.slots, memories, this.scratch)
        : this.bindGroups.once(executable, launch.slots, memories, this.scratch);
      for (const { pipeline, workgroups } of executable.passes) {
        const into = this.commands.pass();
        if (into !== pass || pipeline !== current) into.setPipeline(pipeline);
        into.setBindGroup(0, group);
        into.dispatchWorkgroups(workgroups[0], workgroups[1], workgroups[2]);
        pass = into;
        current = pipeline;
        this.dispatches++;
      }
    }
  }

  /** Marks what a launch writes as wrong where its kernel failed or its inputs are wrong already. */
  private followFailure({ executable, slots }: Launch, memories: readonly GpuMemory[]): void {
    const { failure, program } = executable as GpuExecutable;
    const cause = failure ?? slots.map((slot) => memories[slot]!.failure).find((f) => f !== undefined);
    if (failure) {
      this.tainted = true;
      if (!this.errors.includes(failure)) this.errors.push(failure);
    }
    slots.forEach((slot, i) => {
      if (program.access[i] === "write" && cause) memories[slot]!.failure = cause;
    });
  }

  /** One scratch buffer serves all kernels: passes run in order and each writes what it reads. */
  private reserveScratch(sizes: readonly number[]): void {
    const { bytes } = scratchParts(sizes);
    if (bytes === 0 || (this.scratch && this.scratch.bytes >= bytes)) return;
    const old = this.scratch;
    this.scratch = this.pool.take(bytes);
    if (old) this.pool.give(old);
  }

  private report(error: unknown): void {
    this.errors.push(
      error instanceof DeviceError
        ? error
        : new DeviceError("kernel", `webgpu: ${error instanceof Error ? error.message : String(error)}`, {
            cause: error,
          }),
    );
  }

  private track(outcome: Promise<void>): void {
    const settled: Promise<void> = outcome.catch(() => undefined).then(() => void this.outcomes.delete(settled));
    this.outcomes.add(settled);
  }

  /** `work`, then every outcome that is on its way; rejects with the first error since anyone was told. */
  private async checked<T>(work: Promise<T>, memory?: GpuMemory): Promise<T> {
    let result: T;
    try {
      result = await work;
    } catch (error) {
      await new Promise((resolve) => setTimeout(resolve, 0)); // the news of a lost device comes after
      throw this.lost ?? this.errors.shift() ?? error;
    }
    await Promise.all(this.outcomes);
    if (this.lost) throw this.lost;
    const error = this.errors.shift();
    this.errors = [];
    if (memory?.failure) throw memory.failure;
    if (error) throw error;
    return result;
  }
}

/** Resolves when every pipeline of the launches is compiled; undefined where all are. */
function compiled(launches: readonly Launch[]): Promise<unknown> | undefined {
  const waiting: Promise<void>[] = [];
  for (const { executable } of launches) {
    const { ready } = executable as GpuExecutable;
    if (ready) waiting.push(ready);
  }
  return waiting.length > 0 ? Promise.all(waiting) : undefined;
}

/** WebGPU cannot bind zero bytes: an empty tensor has a few. */
const bytesOf = (size: number): number => Math.max(4, size * 4);

function memoryOf(storage: Storage): GpuMemory {
  const holding = storage.handle as Holding | null;
  if (!holding) throw new Error("internal: a released buffer was used; please report this");
  return holding.memory;
}

/** The data as the GPU holds it: four bytes an element, bool as u32. */
function deviceArray(
  dtype: DType,
  data: TypedArray,
): Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> {
  const type = dtype === "bool" ? Uint32Array : (arrayType(dtype, "f32") as Float32ArrayConstructor);
  return (
    data instanceof type && data.buffer instanceof ArrayBuffer ? data : new type(data)
  ) as Float32Array<ArrayBuffer>;
}

function hostArray(dtype: DType, data: ArrayBuffer): TypedArray {
  return dtype === "bool"
    ? Uint8Array.from(new Uint32Array(data))
    : new (arrayType(dtype, "f32") as Float32ArrayConstructor)(data);
}
