// device/webgpu/commands.ts: everything that reaches the GPU queue, in the order of the calls. Work waits for its pipelines
// while they compile, and all later work waits behind it: an upload must not overtake a waiting step.

/** Dispatches in one command buffer: the GPU starts on the first while the rest is encoded. */
const dispatchesPerSubmit = 128;

/** Submissions of so many dispatches that come together. */
export const submitsOf = (dispatches: number): number => Math.max(1, Math.ceil(dispatches / dispatchesPerSubmit));

/** Where something begins in a buffer. */
export interface Place {
  readonly buffer: GPUBuffer;
  readonly offset: number;
}

/** An ordered queue over one GPUQueue, with a command encoder that is submitted late and in few pieces. */
export class Commands {
  private readonly gpu: GPUDevice;
  private readonly failed: (error: unknown) => void;
  private readonly waiting: { ready: Promise<unknown> | undefined; run: () => void }[] = [];
  private draining = false;
  private encoder: GPUCommandEncoder | undefined;
  private openPass: GPUComputePassEncoder | undefined;
  private encoded = 0;
  private flushQueued = false;
  private callbacks: (() => void)[] = [];
  /** Where set, each pass is timed; with `apart` a pass holds one dispatch. */
  timing: { readonly next: () => GPUComputePassTimestampWrites; readonly apart: boolean } | undefined;
  submits = 0;
  submitMs = 0;

  constructor(gpu: GPUDevice, failed: (error: unknown) => void) {
    this.gpu = gpu;
    this.failed = failed;
  }

  /** True while calls are delayed: then their arguments must be copied. */
  get delayed(): boolean {
    return this.waiting.length > 0;
  }

  /** Runs `run` after everything ordered before it, once `ready` resolves. At once where nothing is to be waited for. */
  order(ready: Promise<unknown> | undefined, run: () => void): void {
    if (ready === undefined && this.waiting.length === 0) {
      run();
      return;
    }
    this.waiting.push({ ready, run });
    if (!this.draining) void this.drain();
  }

  private async drain(): Promise<void> {
    this.draining = true;
    while (this.waiting.length > 0) {
      const { ready, run } = this.waiting[0]!;
      await ready;
      try {
        run();
      } catch (error) {
        this.failed(error);
      }
      this.waiting.shift();
    }
    this.draining = false;
  }

  /** The compute pass to encode a dispatch into. */
  pass(): GPUComputePassEncoder {
    if (this.openPass && this.encoded >= dispatchesPerSubmit) this.flush();
    if (this.timing?.apart) this.endPass();
    this.encoded++;
    this.openPass ??= this.open().beginComputePass(this.timing && { timestampWrites: this.timing.next() });
    return this.openPass;
  }

  copy(from: Place, to: Place, bytes: number): void {
    this.endPass();
    this.open().copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, bytes);
  }

  write({ buffer, offset }: Place, data: ArrayBufferView<ArrayBuffer>): void {
    this.flush(); // the queue writes at once: before it, what was encoded before it
    this.gpu.queue.writeBuffer(buffer, offset, data.buffer, data.byteOffset, data.byteLength);
  }

  /** Calls back once everything encoded so far is submitted. */
  afterSubmit(callback: () => void): void {
    if (this.encoder) this.callbacks.push(callback);
    else callback();
  }

  /** Submits what is encoded. */
  flush(): void {
    if (!this.encoder) return;
    this.endPass();
    const commands = this.encoder.finish();
    this.encoder = undefined;
    this.encoded = 0;
    const start = performance.now();
    this.gpu.queue.submit([commands]);
    this.submitMs += performance.now() - start;
    this.submits++;
    const callbacks = this.callbacks;
    this.callbacks = [];
    for (const callback of callbacks) callback();
  }

  private open(): GPUCommandEncoder {
    if (!this.encoder) {
      this.encoder = this.gpu.createCommandEncoder();
      if (!this.flushQueued) {
        this.flushQueued = true;
        queueMicrotask(() => {
          this.flushQueued = false;
          this.flush();
        });
      }
    }
    return this.encoder;
  }

  private endPass(): void {
    this.openPass?.end();
    this.openPass = undefined;
  }
}
