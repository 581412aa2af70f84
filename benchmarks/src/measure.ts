// measure.ts: timing a compiled function on any device.
import type { Device } from "@mc/tensor";

/** Times of one case, milliseconds. */
export interface Timing {
  readonly median_ms: number;
  readonly min_ms: number;
  readonly max_ms: number;
}

/** How long to measure. */
export interface MeasureOptions {
  /** Calls in one sample: enough that the device is busy. Default 1. */
  readonly calls?: number;
  /** Samples; default 7. */
  readonly samples?: number;
  /** Calls before the first sample; default 3. */
  readonly warmup?: number;
}

/** Median, least and largest time of `call`: each sample issues `calls` of them and waits for the device once. */
export async function measure(
  device: Device,
  call: () => void,
  { calls = 1, samples = 7, warmup = 3 }: MeasureOptions = {},
): Promise<Timing> {
  for (let i = 0; i < warmup; i++) call();
  await device.settle();
  const times: number[] = [];
  for (let s = 0; s < samples; s++) {
    const start = performance.now();
    for (let i = 0; i < calls; i++) call();
    await device.settle();
    times.push((performance.now() - start) / calls);
  }
  return summarise(times);
}

/** Order statistics of a list of times. */
export function summarise(times: readonly number[]): Timing {
  const sorted = [...times].sort((a, b) => a - b);
  return { median_ms: sorted[sorted.length >> 1]!, min_ms: sorted[0]!, max_ms: sorted[sorted.length - 1]! };
}

/** Rounds to four significant digits, so that lines stay readable. */
export const short = (x: number): number => Number(x.toPrecision(4));

/** One result: a JSON object on a line of its own. */
export function report(line: Readonly<Record<string, unknown>>): void {
  console.log(JSON.stringify(line, (_, v: unknown) => (typeof v === "number" && !Number.isInteger(v) ? short(v) : v)));
}
