// device/cpu/device.ts: the CPU device: generated JavaScript over typed arrays, matmul in WebAssembly SIMD. With
// precision "f64" every f32 tensor is held in doubles: the oracle of tests.
import type { FusedKernel, FusedOperand, KernelSpec, LoopKernel, MatmulKernel } from "../../compiler/kernel.ts";
import { arrayType, type DType, hostBytes, type Precision, type TypedArray } from "../../dtype.ts";
import { DeviceError, invariant } from "../../errors.ts";
import type {
  Device,
  DeviceMemory,
  DeviceStats,
  Executable,
  Launch,
  LaunchTimes,
  TimeOptions,
  Traits,
} from "../device.ts";
import { createStorage, joinArena, leaveArena, type Storage } from "../storage.ts";
import { emitJavaScript } from "./emit.ts";
import type { CpuOperand } from "./fused.ts";
import * as helpers from "./helpers.ts";
import { matmulKernel } from "./matmul.ts";

/** A kernel as a function of its buffers. */
export type CpuRun = (buffers: readonly TypedArray[]) => void;

interface CpuExecutable extends Executable {
  readonly run: CpuRun;
}

// Plans that bind many buffers make long functions, which the JavaScript engine compiles badly.
const traits: Traits = { kind: "cpu", maxBindings: 16, matmulEpilogue: false, ownsEdges: false, leastHalf: undefined };

/** The CPU as a device; made by `connect({ device: "cpu" })`. */
export class CpuDevice implements Device {
  readonly kind = "cpu";
  readonly software = false;
  readonly matmulPrecision = "f32";
  readonly traits = traits;
  readonly precision: Precision;
  readonly description: string;
  private readonly executables = new Map<string, CpuExecutable>();
  private liveBytes = 0;
  private peakBytes = 0;
  private buffersCreated = 0;
  private dispatches = 0;
  // memory itself goes back with its array; the registry only keeps the account
  private readonly registry = new FinalizationRegistry<{ bytes: number }>((account) => {
    this.liveBytes -= account.bytes;
    account.bytes = 0;
  });
  private readonly accounts = new WeakMap<Storage, { bytes: number }>();

  constructor(precision: Precision) {
    this.precision = precision;
    this.description = `cpu (${precision === "f64" ? "JavaScript, f64" : "JavaScript and WebAssembly SIMD, f32"})`;
  }

  memory(): DeviceMemory {
    return { liveBytes: this.liveBytes, pooledBytes: 0, peakBytes: this.peakBytes };
  }

  stats(): DeviceStats {
    return {
      dispatches: this.dispatches,
      submits: 0,
      pipelines: this.executables.size,
      bindGroups: 0,
      submitMs: 0,
      buffersCreated: this.buffersCreated,
    };
  }

  allocate(dtype: DType, size: number): Storage {
    const ArrayClass = arrayType(dtype, this.precision);
    let handle: TypedArray;
    try {
      handle = new ArrayClass(size);
    } catch (cause) {
      throw new DeviceError(
        "out-of-memory",
        `allocate: the CPU device could not get ${size * ArrayClass.BYTES_PER_ELEMENT} bytes; use a smaller batch or model`,
        { cause },
      );
    }
    this.buffersCreated++;
    return this.own(createStorage(this, dtype, size, handle));
  }

  private own(storage: Storage): Storage {
    const account = { bytes: storage.size * hostBytes(storage.dtype, this.precision) };
    this.accounts.set(storage, account);
    this.registry.register(storage, account);
    this.liveBytes += account.bytes;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return storage;
  }

  part(whole: Storage, offset: number, size: number): Storage {
    return joinArena(whole, offset, size, (whole.handle as TypedArray).subarray(offset, offset + size));
  }

  release(storage: Storage): void {
    const owner = storage.arena ? leaveArena(storage) : storage;
    if (!owner) return;
    const account = this.accounts.get(owner);
    if (account) {
      this.liveBytes -= account.bytes;
      account.bytes = 0;
    }
    owner.handle = null;
  }

  transfer(storage: Storage): Storage {
    const { handle, dtype, size } = storage;
    this.release(storage);
    return this.own(createStorage(this, dtype, size, handle));
  }

  upload(storage: Storage, data: TypedArray): void {
    (storage.handle as TypedArray).set(data);
  }

  download(storage: Storage): Promise<TypedArray> {
    return Promise.resolve((storage.handle as TypedArray).slice());
  }

  copy(from: Storage, to: Storage): void {
    (to.handle as TypedArray).set(from.handle as TypedArray);
  }

  copyOf(from: Storage): Storage {
    const to = this.allocate(from.dtype, from.size);
    this.copy(from, to);
    return to;
  }

  partsOf(kernel: KernelSpec): readonly KernelSpec[] {
    return [kernel];
  }

  prepare(kernel: KernelSpec): Executable {
    if (kernel.kind === "loop") {
      const source = emitJavaScript(kernel, this.precision);
      const key = `${source}|${kernel.bindings.map((b) => b.dtype).join(",")}`;
      let known = this.executables.get(key);
      if (!known)
        this.executables.set(
          key,
          (known = {
            label: kernel.label,
            variant: kernel.reductions.length > 0 ? "reduce" : "loop",
            dispatches: 1,
            code: source,
            run: compileLoop(source, functionName(kernel)),
          }),
        );
      return known;
    }
    const product = kernel.kind === "matmul";
    const executable: CpuExecutable = {
      label: kernel.label,
      variant: product ? (this.precision === "f64" ? "matmul reference" : "matmul wasm") : "fused",
      dispatches: 1,
      code: describe(kernel),
      run: product ? matmulKernel(kernel, this.precision) : this.fused(kernel),
    };
    return executable;
  }

  private fused(kernel: FusedKernel): CpuRun {
    const chosen = kernel.op.cpu?.(kernel.inputSpecs, kernel.params, this);
    invariant(chosen, `${kernel.op.name} was scheduled without a CPU kernel`);
    const bind = (o: FusedOperand, buffers: readonly TypedArray[]): CpuOperand => ({
      data: buffers[o.binding]!,
      offset: o.offset,
      strides: o.strides,
      shape: o.shape,
    });
    return (buffers) =>
      chosen.run(
        kernel.inputs.map((o) => bind(o, buffers)),
        kernel.outputs.map((o) => bind(o, buffers)),
      );
  }

  execute(launches: readonly Launch[], buffers: readonly Storage[]): void {
    for (const { executable, slots } of launches) {
      (executable as CpuExecutable).run(slots.map((s) => buffers[s]!.handle as TypedArray));
    }
    this.dispatches += launches.length;
  }

  async time(launches: readonly Launch[], buffers: readonly Storage[], { apart }: TimeOptions): Promise<LaunchTimes> {
    const pieces = apart ? launches.map((launch) => [launch]) : [launches];
    const milliseconds = pieces.map((piece) => {
      const start = performance.now();
      this.execute(piece, buffers);
      return performance.now() - start;
    });
    return { milliseconds, step: clockStep() };
  }

  submitsOf(): number {
    return 0; // kernels are called, nothing is submitted
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }
}

/** Milliseconds from one tick of `performance.now` to the next. */
function clockStep(): number {
  const start = performance.now();
  let now = start;
  while (now === start) now = performance.now();
  return now - start;
}

/** What profilers call the kernel: its ops and the shape it walks. */
const functionName = ({ label, shape }: LoopKernel): string => `${label}_${shape.join("x")}`.replace(/\W+/g, "_");

function compileLoop(source: string, name: string): CpuRun {
  const make = new Function(
    "F",
    "mc_powers",
    "mc_erf",
    "mc_toI32",
    "mc_toU32",
    `"use strict"; return function k_${name}${source}`,
  ) as (...args: unknown[]) => (...buffers: TypedArray[]) => void;
  const kernel = make(Math.fround, helpers.powersOfTwo, helpers.erf, helpers.toI32, helpers.toU32);
  return (buffers) => kernel(...buffers);
}

/** What a kernel without generated source does, for `explain`. */
function describe(kernel: MatmulKernel | FusedKernel): string {
  if (kernel.kind === "fused")
    return `fused ${kernel.op.name} ${kernel.inputs.map((i) => `[${i.shape.join(", ")}]`).join(" ")} ${JSON.stringify(kernel.params)}`;
  return `matmul [${kernel.batch.join(", ")}] ${kernel.m} x ${kernel.k} x ${kernel.n}${kernel.symmetric ? " symmetric" : ""}`;
}
