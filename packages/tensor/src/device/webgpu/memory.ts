// device/webgpu/memory.ts: GPU buffers, reused by size class.
import { DeviceError } from "../../errors.ts";

/** A GPU buffer that a storage or the pool owns. */
export interface GpuMemory {
  readonly id: number;
  readonly buffer: GPUBuffer;
  /** Where it begins in the buffer, in bytes: 0, except in a page and in parts. */
  readonly offset: number;
  /** Size: the size class, not the tensor. Of a part: up to the next one. */
  readonly bytes: number;
  /** Whether it is a piece of a page, which no kernel may bind: WebGPU minds whole buffers, and would see neighbours overlap. */
  readonly paged: boolean;
  /**
   * An array that nobody touches, as large as the buffer: V8 does not see GPU memory, but counts this and so collects dropped
   * tensors in time. Costs address space, not memory.
   */
  readonly ballast: ArrayBuffer | undefined;
  /** Why the contents cannot be trusted: the buffer could not be made, or a kernel that should have written it failed. */
  failure: DeviceError | undefined;
}

/** Below this an array would come out of touched heap memory, and small buffers do not matter. */
const smallestBallast = 1 << 17;

/** Multiples of 1/8 of a power of two, from 256 bytes to 1 MiB apart: at most 12 % and 1 MiB unused. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = Math.min(2 ** 20, 2 ** (Math.floor(Math.log2(bytes)) - 3));
  return Math.ceil(bytes / step) * step;
}

function ballastOf(bytes: number): ArrayBuffer | undefined {
  if (bytes < smallestBallast) return undefined;
  try {
    return new ArrayBuffer(bytes);
  } catch {
    return undefined; // no address space left: the buffer works without
  }
}

/** Bytes of a piece of a page, and of a page. */
export const pieceBytes = 256;
const pageBytes = 1 << 16;

/** What the pool needs of its device. */
export interface PoolOptions {
  readonly gpu: GPUDevice;
  /** Called with errors that arrive later. */
  readonly failed: (error: DeviceError, memory: GpuMemory) => void;
  /** Destroys a buffer once nothing encoded or waiting reads it. */
  readonly destroy: (memory: GpuMemory) => void;
  /** Waits for the outcome of creating a buffer. */
  readonly track: (outcome: Promise<void>) => void;
}

/** Buffers in use and buffers waiting for reuse. */
export class BufferPool {
  private readonly options: PoolOptions;
  /** By size class; the maps keep the order of return, oldest first. */
  private readonly free = new Map<number, GpuMemory[]>();
  private readonly order = new Set<GpuMemory>();
  private readonly pieces: GpuMemory[] = [];
  private nextId = 0;
  liveBytes = 0;
  pooledBytes = 0;
  peakBytes = 0;
  created = 0;

  constructor(options: PoolOptions) {
    this.options = options;
  }

  /** A buffer of at least `bytes`. Throws DeviceError("limit") where no buffer of the device can be so large. */
  take(bytes: number): GpuMemory {
    const { limits } = this.options.gpu;
    const limit = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
    if (bytes > limit) {
      throw new DeviceError(
        "limit",
        `allocate: a tensor of ${bytes} bytes is over this device's limit of ${limit} bytes a buffer; use a smaller batch or split the tensor`,
      );
    }
    const rounded = sizeClass(bytes);
    const size = rounded <= limit ? rounded : Math.ceil(bytes / 4) * 4;
    const memory = this.free.get(size)?.pop() ?? this.create(size);
    if (this.order.delete(memory)) this.pooledBytes -= size;
    this.liveBytes += size;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return memory;
  }

  /** Room for a small value that is copied and read, such as a loss: a piece of a page, so that no buffer is made for each. */
  takePiece(): GpuMemory {
    if (this.pieces.length === 0) {
      const page = this.create(pageBytes);
      for (let offset = pageBytes - pieceBytes; offset >= 0; offset -= pieceBytes)
        this.pieces.push({ ...page, id: this.nextId++, offset, bytes: pieceBytes, paged: true });
      this.pooledBytes += pageBytes;
    }
    const memory = this.pieces.pop()!;
    this.pooledBytes -= pieceBytes;
    this.liveBytes += pieceBytes;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return memory;
  }

  /** Part of a buffer that is in use: bound and copied by itself, in trouble together with the whole. */
  part(whole: GpuMemory, offset: number, bytes: number): GpuMemory {
    return {
      id: this.nextId++,
      buffer: whole.buffer,
      offset,
      bytes,
      paged: false,
      ballast: undefined,
      get failure() {
        return whole.failure;
      },
      set failure(error) {
        whole.failure = error;
      },
    };
  }

  /** Takes a buffer back for reuse; the oldest unused ones go when too many wait. */
  give(memory: GpuMemory): void {
    this.liveBytes -= memory.bytes;
    if (memory.paged) {
      memory.failure = undefined; // what comes next is written over it
      this.pieces.push(memory);
      this.pooledBytes += memory.bytes;
      return;
    }
    if (memory.failure) {
      this.options.destroy(memory);
      return;
    }
    const list = this.free.get(memory.bytes);
    if (list) list.push(memory);
    else this.free.set(memory.bytes, [memory]);
    this.order.add(memory);
    this.pooledBytes += memory.bytes;
    // as much as a quarter of the most ever used, and never less than 256 MiB, may wait
    this.trim(Math.max(256 * 2 ** 20, this.peakBytes / 4));
  }

  private trim(limit: number): void {
    for (const memory of this.order) {
      if (this.pooledBytes <= limit) return;
      this.order.delete(memory);
      const list = this.free.get(memory.bytes)!;
      list.splice(list.indexOf(memory), 1);
      this.pooledBytes -= memory.bytes;
      this.options.destroy(memory);
    }
  }

  private create(size: number): GpuMemory {
    const { gpu, failed, track } = this.options;
    gpu.pushErrorScope("out-of-memory");
    const buffer = gpu.createBuffer({
      size,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    const outcome = gpu.popErrorScope();
    const memory: GpuMemory = {
      id: this.nextId++,
      buffer,
      offset: 0,
      bytes: size,
      paged: false,
      ballast: ballastOf(size),
      failure: undefined,
    };
    this.created++;
    track(
      outcome.then((error) => {
        if (!error) return;
        const inUse = `${this.liveBytes} bytes are in use, ${this.pooledBytes} wait for reuse`;
        failed(
          new DeviceError(
            "out-of-memory",
            `allocate: the GPU has no room for ${size} bytes (${inUse}); use a smaller batch or model`,
            { cause: error },
          ),
          memory,
        );
      }),
    );
    return memory;
  }
}
