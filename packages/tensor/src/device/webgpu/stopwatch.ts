// device/webgpu/stopwatch.ts: timestamps around compute passes.
import { DeviceError } from "../../errors.ts";
import type { LaunchTimes } from "../device.ts";

/** Queries of one set; WebGPU allows no more, so a long step needs several. */
const queriesPerSet = 4096;

/** Hands out a begin and an end for each pass, then reads all of them. */
export class Stopwatch {
  private readonly gpu: GPUDevice;
  private readonly sets: GPUQuerySet[] = [];
  private passes = 0;

  constructor(gpu: GPUDevice) {
    this.gpu = gpu;
  }

  /** For the next pass's descriptor. */
  next(): GPUComputePassTimestampWrites {
    const first = (2 * this.passes++) % queriesPerSet;
    if (first === 0) this.sets.push(this.gpu.createQuerySet({ type: "timestamp", count: queriesPerSet }));
    return {
      querySet: this.sets[this.sets.length - 1]!,
      beginningOfPassWriteIndex: first,
      endOfPassWriteIndex: first + 1,
    };
  }

  /** Bytes of all timestamps. */
  get bytes(): number {
    return 16 * this.passes;
  }

  /** Encodes the copy of all timestamps, begin and end of each pass in turn, to a buffer that can be mapped; submits it. */
  submit(target: GPUBuffer): void {
    const resolved = this.gpu.createBuffer({
      size: this.bytes,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
    const encoder = this.gpu.createCommandEncoder();
    this.sets.forEach((set, i) => {
      const first = i * queriesPerSet;
      encoder.resolveQuerySet(set, 0, Math.min(queriesPerSet, 2 * this.passes - first), resolved, first * 8);
    });
    encoder.copyBufferToBuffer(resolved, 0, target, 0, this.bytes);
    this.gpu.queue.submit([encoder.finish()]);
    resolved.destroy();
    for (const set of this.sets) set.destroy();
  }
}

/**
 * Times of launches from their passes' timestamps (nanoseconds): each launch's, where every dispatch was a pass; else one, from
 * the first begin to the last end.
 *
 * @param dispatches - of each launch
 */
export function launchTimes(stamps: BigUint64Array, dispatches: readonly number[], apart: boolean): LaunchTimes {
  const origin = stamps[0] ?? 0n;
  const ticks = Array.from(stamps, (t) => Number(t - origin));
  // a clock may be set back between passes: a time is never negative
  const between = (begin: number, end: number): number => Math.max(0, (ticks[end] ?? 0) - (ticks[begin] ?? 0)) / 1e6;
  // what every timestamp is a multiple of: the clock's tick, or what a host that rounds has rounded to
  const step = Number(stamps.reduce(greatestDivisor, 0n)) / 1e6;
  if (!apart) return { milliseconds: [between(0, ticks.length - 1)], step };
  let at = 0;
  const milliseconds = dispatches.map((passes) => {
    let sum = 0;
    for (const last = at + 2 * passes; at < last; at += 2) sum += between(at, at + 1);
    return sum;
  });
  return { milliseconds, step };
}

function greatestDivisor(a: bigint, b: bigint): bigint {
  return b === 0n ? a : greatestDivisor(b, a % b);
}

/** Why a GPU cannot time kernels, and what helps. */
export const noTimestamps = (description: string): DeviceError =>
  new DeviceError(
    "unsupported",
    `profile: timing kernels needs the feature "timestamp-query", which ${description} does not have; connect() asks for it wherever the adapter has it, a GPUDevice of your own must be requested with requiredFeatures: ["timestamp-query"]; connect({ device: "cpu" }) can be profiled everywhere`,
  );
