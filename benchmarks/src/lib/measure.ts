// lib/measure.ts: how long a call takes. Samples are groups of calls that keep the device busy, until a time budget is spent.
import type { Device } from "@mc/tensor";

/** Times of one call, milliseconds. */
export interface Timing {
  readonly median_ms: number;
  readonly min_ms: number;
  readonly max_ms: number;
}

/** Order statistics of a list of times. */
export function summarise(times: readonly number[]): Timing {
  const sorted = [...times].sort((a, b) => a - b);
  return { median_ms: sorted[sorted.length >> 1]!, min_ms: sorted[0]!, max_ms: sorted[sorted.length - 1]! };
}

/** Fewest and most samples of a case. */
const fewest = 3;
const most = 25;

/**
 * Median, least and largest time of `call`. The device is waited for once a sample, so a sample holds enough calls that the wait
 * (about 0.1 ms) does not count; what counts is the larger of the device's time and JavaScript's.
 *
 * @param budget - seconds to spend, about; calls that are too slow for it are still timed three times
 */
export async function measure(device: Device, call: () => void, budget: number): Promise<Timing> {
  const sample = async (calls: number): Promise<number> => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) call();
    await device.settle();
    return performance.now() - start;
  };
  // long enough samples: a tenth of the budget
  const wanted = budget * 100;
  let calls = 1;
  let time = await sample(1);
  while (time < wanted / 2 && calls < 4096) {
    calls = Math.min(4096, Math.ceil(calls * Math.min(8, Math.max(1.5, wanted / time))));
    time = await sample(calls);
  }
  const times: number[] = [];
  let spent = 0;
  while (times.length < fewest || (spent < budget * 1000 && times.length < most)) {
    const t = await sample(calls);
    times.push(t / calls);
    spent += t;
  }
  return summarise(times);
}

/** JavaScript's time for a call, milliseconds: until it returns, and what it left for the next microtask. */
async function timeJavaScript(call: () => void): Promise<number> {
  const start = performance.now();
  call();
  await undefined; // encoded commands are submitted in a microtask
  return performance.now() - start;
}

/** What one call costs besides the device's time: dispatches, submits, buffers created, JavaScript. Medians of five. */
export async function replayCosts(device: Device, call: () => void, calls = 5) {
  const times: number[] = [];
  await device.settle();
  const before = device.stats();
  for (let i = 0; i < calls; i++) {
    times.push(await timeJavaScript(call));
    await device.settle();
  }
  const after = device.stats();
  const each = (key: "dispatches" | "submits" | "buffersCreated"): number => (after[key] - before[key]) / calls;
  const js = summarise(times).median_ms;
  return {
    dispatches: each("dispatches"),
    submits: each("submits"),
    buffers_created: each("buffersCreated"),
    js_ms: js,
    js_us_dispatch: (1000 * js) / Math.max(1, each("dispatches")),
  };
}
