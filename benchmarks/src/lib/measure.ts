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

/** Fewest samples of a case, and on a CPU; most. The host of a GPU may be held up for tens of milliseconds: a few samples, not half. */
const fewest = { gpu: 7, cpu: 3 };
const most = 25;

/** Work that one submission holds where calls may share it, milliseconds, and the most calls. */
const submission = { ms: 1, calls: 16 };

/**
 * A GPU that has idled, as while a kernel was compiled, is slower at first: nothing counts before it has worked for so many milliseconds,
 * nor, up to the second figure, before samples are within this factor of the fastest.
 */
const warmUp = { least: 300, most: 800, steady: 1.02 };

/**
 * Calls in a sample, and milliseconds up to which it may take longer for their sake: what JavaScript does before the GPU has something
 * to do, once a sample, must not count.
 */
const ahead = { calls: 10, ms: 300 };

/** How to measure. */
export interface MeasureOptions {
  /** Seconds to spend on samples, about; calls that are too slow for it are still timed seven times, three on a CPU. */
  readonly budget: number;
  /**
   * Whether short calls share a submission, as the kernels of a training step do; default false: each is submitted by itself, as
   * steps of a loop are. What lies between two submissions (0.02 ms) counts then.
   */
  readonly together?: boolean;
}

/**
 * Median, least and largest time of `call`. The device is waited for once a sample, so a sample holds enough calls that the wait
 * (about 0.1 ms) does not count; what counts is the larger of the device's time and JavaScript's.
 */
export async function measure(device: Device, call: () => void, options: MeasureOptions): Promise<Timing> {
  const { budget, together = false } = options;
  let perSubmit = 1;
  const sample = async (calls: number): Promise<number> => {
    const start = performance.now();
    for (let i = 1; i <= calls; i++) {
      call();
      if (i % perSubmit === 0) await undefined; // encoded commands are submitted in a microtask
    }
    await device.settle();
    return performance.now() - start;
  };
  const slow = device.kind === "cpu" || device.software;
  const begin = performance.now();
  let calls = 1;
  let time = await sample(1);
  // long enough samples: a tenth of the budget
  const wanted = Math.max(budget * 100, slow ? 0 : Math.min(ahead.ms, ahead.calls * time));
  while (time < wanted / 2 && calls < 4096) {
    calls = Math.min(4096, Math.ceil(calls * Math.min(8, Math.max(1.5, wanted / time))));
    time = await sample(calls);
  }
  if (together) perSubmit = Math.max(1, Math.min(submission.calls, Math.floor((submission.ms * calls) / time)));
  let fastest = Number.POSITIVE_INFINITY;
  for (let warm = slow; !warm; ) {
    const t = await sample(calls);
    fastest = Math.min(fastest, t);
    const spent = performance.now() - begin;
    warm = spent > warmUp.most || (spent > warmUp.least && t < warmUp.steady * fastest);
  }
  const times: number[] = [];
  let spent = 0;
  while (times.length < (slow ? fewest.cpu : fewest.gpu) || (spent < budget * 1000 && times.length < most)) {
    const t = await sample(calls);
    times.push(t / calls);
    spent += t;
  }
  return summarise(times);
}

/** Calls before the device is waited for where JavaScript is timed: a training loop runs ahead of it as well. */
const perWait = 10;

/** JavaScript's times of calls, milliseconds: until a call returns and what it left for the next microtask is done. */
export interface CallTimes {
  readonly js: number[];
  /** Of that, in `queue.submit`. */
  readonly submit: number[];
}

/**
 * Times `calls` calls, ten for each wait for the device, without the first after a wait: JavaScript that has slept takes
 * several times as long.
 */
export async function timeCalls(device: Device, call: () => void, calls: number): Promise<CallTimes> {
  const times: CallTimes = { js: [], submit: [] };
  while (times.js.length < calls) {
    for (let i = 0; i <= perWait && times.js.length < calls; i++) {
      const submitted = device.stats().submitMs;
      const start = performance.now();
      call();
      await undefined; // encoded commands are submitted in a microtask
      const time = performance.now() - start;
      if (i === 0) continue;
      times.js.push(time);
      times.submit.push(device.stats().submitMs - submitted);
    }
    await device.settle();
  }
  return times;
}

/** Calls after which V8 has compiled a replay's JavaScript. */
const warmCalls = 1000;

/**
 * What one call costs besides the device's time, in the steady state: dispatches, submits, buffers created, and JavaScript, submitting
 * included, whose share is also given by itself. Times are medians of 30 calls; of 5 where a CPU does the device's work.
 *
 * @param warm - seconds that calls before may take, at most 1000 of them
 */
export async function replayCosts(device: Device, call: () => void, warm: number) {
  const slow = device.kind === "cpu" || device.software;
  await device.settle();
  const end = performance.now() + 1000 * warm;
  for (let done = 0; !slow && done < warmCalls && performance.now() < end; done += perWait)
    await timeCalls(device, call, perWait);
  const before = device.stats();
  const { js, submit } = await timeCalls(device, call, slow ? 5 : 3 * perWait);
  const after = device.stats();
  const calls = js.length + Math.ceil(js.length / perWait); // one for each wait is not timed
  const each = (key: "dispatches" | "submits" | "buffersCreated"): number => (after[key] - before[key]) / calls;
  return {
    ...perDispatch(js, submit, each("dispatches")),
    submits: each("submits"),
    buffers_created: each("buffersCreated"),
  };
}

/** JavaScript of a replay and of each of its dispatches. */
export function perDispatch(js: readonly number[], submit: readonly number[], dispatches: number) {
  const { median_ms, min_ms } = summarise(js);
  const submit_ms = summarise(submit).median_ms;
  const each = (ms: number): number => (1000 * ms) / Math.max(1, dispatches);
  return {
    dispatches,
    js_ms: median_ms,
    min_js_ms: min_ms,
    submit_ms,
    js_us_dispatch: each(median_ms),
    submit_us_dispatch: each(submit_ms),
  };
}
