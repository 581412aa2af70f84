// device/webgpu/readback.ts: mappable buffers for reading results, reused.
import { sizeClass } from "./memory.ts";

/** Buffers and bytes that wait for reuse at most. */
const maxWaiting = 8;
const maxWaitingBytes = 64 * 2 ** 20;

/** Firefox looks for finished work every 100 ms unless something is submitted. */
const needsNudge = typeof navigator !== "undefined" && /Firefox/.test(navigator.userAgent ?? "");

/** A ring of buffers that the host can map. */
export class ReadbackRing {
  private readonly gpu: GPUDevice;
  private waiting: GPUBuffer[] = [];

  constructor(gpu: GPUDevice) {
    this.gpu = gpu;
  }

  take(bytes: number): GPUBuffer {
    const size = sizeClass(bytes);
    const at = this.waiting.findIndex((b) => b.size === size);
    if (at >= 0) return this.waiting.splice(at, 1)[0]!;
    return this.gpu.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  }

  /** Waits for the copy into `buffer` that was submitted before, gives its first `bytes`, and takes the buffer back. */
  async read(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    const nudge = needsNudge ? setInterval(() => this.gpu.queue.submit([]), 2) : undefined;
    try {
      await buffer.mapAsync(GPUMapMode.READ, 0, bytes);
    } finally {
      clearInterval(nudge);
    }
    const data = buffer.getMappedRange(0, bytes).slice(0);
    buffer.unmap();
    this.give(buffer);
    return data;
  }

  private give(buffer: GPUBuffer): void {
    this.waiting.push(buffer);
    let bytes = this.waiting.reduce((sum, b) => sum + b.size, 0);
    while (this.waiting.length > maxWaiting || bytes > maxWaitingBytes) {
      const oldest = this.waiting.shift()!;
      bytes -= oldest.size;
      oldest.destroy();
    }
  }
}
