// run/profile.ts: where the time of a compiled step goes: each kernel measured on the device, beside its floor.
import type { Device } from "../device/device.ts";
import { ValueError } from "../errors.ts";
import { compile, recordingOf } from "./compile.ts";
import { Copies } from "./copies.ts";
import { explainPlan, type KernelExplanation } from "./explain.ts";
import { placeLeaves } from "./leaves.ts";
import { profileTable } from "./profileTable.ts";
import { realise, storageOf } from "./realise.ts";
import type { Recording } from "./record.ts";
import { keptOf } from "./replay.ts";
import { measureRoofline, type Roofline } from "./roofline.ts";

/** How to profile. */
export interface ProfileOptions {
  /** Runs behind each median; default 5. */
  readonly runs?: number;
  /** Rates of the machine, for the floors; default: `measureRoofline`, once a device. */
  readonly roofline?: Roofline;
}

/** Time and work of a kernel, or of several. */
export interface Measured {
  readonly dispatches: number;
  /** As in `KernelExplanation`. */
  readonly flops: number;
  /** As in `KernelExplanation`. */
  readonly bytes: number;
  /** Median time on the device, milliseconds. */
  readonly medianMs: number;
  /** Part of `kernelMs`, 0 to 1. */
  readonly share: number;
  /** The least time that its work takes by the roofline: the larger of flops / peak flops and bytes / peak bandwidth. */
  readonly floorMs: number;
  /** medianMs / floorMs: 1 is the floor. Below 1 where caches beat the roofline. */
  readonly distance: number;
}

/** One kernel of a plan. */
export interface KernelProfile
  extends Measured,
    Pick<KernelExplanation, "label" | "kind" | "variant" | "shape" | "hash"> {}

/** Kernels with one label, variant and shape, added up. */
export interface KernelGroup extends Measured, Pick<KernelExplanation, "label" | "kind" | "variant" | "shape"> {
  /** How many. */
  readonly count: number;
}

/** Where the time of a step goes. Plain data but for `toString`; times are medians, in milliseconds. */
export interface Profile {
  /** The device's description. */
  readonly device: string;
  readonly runs: number;
  readonly roofline: Roofline;
  /** In the order in which they run. */
  readonly kernels: readonly KernelProfile[];
  /** The same added up by kind of kernel, the longest first. */
  readonly groups: readonly KernelGroup[];
  /** Dispatches of a replay. */
  readonly dispatches: number;
  /** Queue submissions that a replay made; 0 on the CPU. */
  readonly submits: number;
  readonly flops: number;
  readonly bytes: number;
  /** Sum of the kernels' times, each alone in its pass. */
  readonly kernelMs: number;
  /** From the first kernel's begin to the last one's end where they run as in a replay: less than `kernelMs` where kernels overlap, more where the GPU waits. */
  readonly gpuMs: number;
  /** A replay from call to the last result on the device. */
  readonly wallMs: number;
  /** JavaScript of a replay, submission included; on the CPU without the kernels. */
  readonly javascriptMs: number;
  /** javascriptMs over dispatches, in microseconds. */
  readonly javascriptUsPerDispatch: number;
  /** Time of a replay in which no kernel ran, wallMs - gpuMs: JavaScript before the first submission, copies of arguments and results, the way back. */
  readonly gapMs: number;
  /** Sum of the kernels' floors. */
  readonly floorMs: number;
  /** Step of the device's clock: where it is not far below a kernel's time, see the option `timestamps` of `connect`. */
  readonly clockStepMs: number;
  /** A table of the groups. */
  toString(): string;
}

/**
 * Runs a compiled function a few times and tells where its time goes: each kernel alone, timed by the device (WebGPU timestamps;
 * `performance.now` on the CPU), the whole plan as it replays, and calls as a program makes them.
 *
 * Arguments stay whole, donated ones too: it runs on copies of those, so it needs their memory once more, and lets go of the
 * results. In Node connect with `timestamps: "exact"`: by default GPU clocks are rounded too coarsely for short kernels.
 *
 * @param fn - a compiled function; a plain one is compiled for the purpose
 * @param args - what to call it with; lazy tensors are realised
 * @throws DeviceError "unsupported" on a GPU without timestamps, ValueError for a number of runs that is not positive
 * @example
 * const device = await connect({ timestamps: "exact" });
 * console.log(String(await profile(step, [{ params, state, batch }])));
 */
export async function profile<Args extends unknown[]>(
  fn: (...args: Args) => unknown,
  args: Args,
  { runs = 5, roofline }: ProfileOptions = {},
): Promise<Profile> {
  if (!Number.isInteger(runs) || runs < 1)
    throw new ValueError(`profile: runs must be a positive integer, got ${runs}; leave it out for 5`);
  await realise(args);
  const borrowed = recordingOf.has(fn as (...args: never[]) => unknown);
  const step = (borrowed ? fn : compile(fn)) as (...args: unknown[]) => unknown;
  const { recording, tensors } = recordingOf.get(step)!(args);
  const copies = new Copies(recording, tensors, args);
  try {
    const kernels = await timeKernels(recording, copies, runs);
    const replays = await timeReplays(step, recording.device, copies, runs);
    return summarise(recording, roofline ?? (await rooflineOf(recording.device)), runs, kernels, replays);
  } finally {
    copies.release();
    if (!borrowed) for (const buffer of keptOf(recording).buffers) if (buffer) recording.device.release(buffer);
  }
}

const rooflines = new WeakMap<Device, Roofline>();

async function rooflineOf(device: Device): Promise<Roofline> {
  const known = rooflines.get(device) ?? (await measureRoofline(device));
  rooflines.set(device, known);
  return known;
}

interface KernelTimes {
  /** Of each launch. */
  readonly each: readonly number[];
  readonly together: number;
  readonly step: number;
}

/** The plan's launches on the caller's values: apart and together, in turn. */
async function timeKernels(recording: Recording, copies: Copies, runs: number): Promise<KernelTimes> {
  const { plan, device, leaves } = recording;
  const kept = keptOf(recording);
  const results = plan.slots.map(({ role, dtype, size }, i) =>
    role === "output" && !kept.buffers[i] ? device.allocate(dtype, size) : undefined,
  );
  const each: (readonly number[])[] = [];
  const together: number[] = [];
  let step = Infinity;
  const replay = {};
  try {
    for (let run = 0; run <= runs; run++) {
      for (const apart of [true, false]) {
        copies.refresh();
        const given = leaves.map((leaf) =>
          "argument" in leaf ? copies.storage(leaf.argument) : storageOf(leaf.captured),
        );
        const placed = placeLeaves(recording, kept, given);
        const buffers = plan.slots.map((_, i) => placed[i] ?? kept.buffers[i] ?? results[i]!);
        const times = await device.time(plan.launches, buffers, { apart, replay });
        if (run === 0) continue; // the first warms up
        if (apart) each.push(times.milliseconds);
        else together.push(times.milliseconds[0]!);
        if (apart) step = Math.min(step, times.step);
      }
    }
  } finally {
    for (const result of results) if (result) device.release(result);
  }
  return {
    each: plan.launches.map((_, i) => median(each.map((times) => times[i]!))),
    together: median(together),
    step,
  };
}

interface ReplayTimes {
  readonly wall: number;
  /** From the call to the last submission. */
  readonly issued: number;
  readonly submits: number;
}

/** Calls as a program makes them. */
async function timeReplays(
  step: (...args: unknown[]) => unknown,
  device: Device,
  copies: Copies,
  runs: number,
): Promise<ReplayTimes> {
  const wall: number[] = [];
  const issued: number[] = [];
  let submits = 0;
  for (let run = 0; run <= runs; run++) {
    copies.refresh();
    await device.settle();
    const before = device.stats().submits;
    let start = 0;
    let end = 0;
    let done: Promise<void> | undefined;
    copies.run((args) => {
      start = performance.now();
      const result = step(...args);
      done = device.settle(); // submits
      end = performance.now();
      return result;
    });
    submits = device.stats().submits - before;
    await done;
    if (run === 0) continue; // the first makes bind groups
    wall.push(performance.now() - start);
    issued.push(end - start);
  }
  return { wall: median(wall), issued: median(issued), submits };
}

function summarise(
  { plan, device }: Recording,
  roofline: Roofline,
  runs: number,
  { each, together, step }: KernelTimes,
  { wall, issued, submits }: ReplayTimes,
): Profile {
  const explained = explainPlan(plan, device);
  const kernelMs = sum(each);
  const measured = (work: { dispatches: number; flops: number; bytes: number }, medianMs: number, floorMs: number) => ({
    dispatches: work.dispatches,
    flops: work.flops,
    bytes: work.bytes,
    medianMs,
    share: kernelMs > 0 ? medianMs / kernelMs : 0,
    floorMs,
    distance: medianMs / floorMs,
  });
  const kernels = explained.kernels.map((k, i): KernelProfile => {
    const { gflops, gbs, tensorGflops = gflops } = roofline;
    const peak = k.variant.startsWith("matmul tensor") ? tensorGflops : gflops;
    const floorMs = Math.max(k.flops / peak, k.bytes / gbs) / 1e6;
    const { label, kind, variant, shape, hash } = k;
    return { label, kind, variant, shape, hash, ...measured(k, each[i]!, floorMs) };
  });
  const byKind = new Map<string, KernelProfile[]>();
  for (const k of kernels) {
    const name = `${k.variant}|${k.label}|${k.shape.join(",")}`;
    byKind.set(name, [...(byKind.get(name) ?? []), k]);
  }
  const groups = [...byKind.values()].map((group): KernelGroup => {
    const total = (f: (k: KernelProfile) => number): number => sum(group.map(f));
    const work = {
      dispatches: total((k) => k.dispatches),
      flops: total((k) => k.flops),
      bytes: total((k) => k.bytes),
    };
    const { label, kind, variant, shape } = group[0]!;
    return {
      label,
      kind,
      variant,
      shape,
      count: group.length,
      ...measured(
        work,
        total((k) => k.medianMs),
        total((k) => k.floorMs),
      ),
    };
  });
  const javascriptMs = device.kind === "cpu" ? Math.max(0, issued - together) : issued;
  const out = {
    device: device.description,
    runs,
    roofline,
    kernels,
    groups: groups.sort((a, b) => b.medianMs - a.medianMs),
    dispatches: explained.dispatches,
    submits,
    flops: explained.flops,
    bytes: explained.bytes,
    kernelMs,
    gpuMs: together,
    wallMs: wall,
    javascriptMs,
    javascriptUsPerDispatch: (1000 * javascriptMs) / Math.max(1, explained.dispatches),
    gapMs: Math.max(0, wall - together),
    floorMs: sum(kernels.map((k) => k.floorMs)),
    clockStepMs: step,
  };
  return { ...out, toString: () => profileTable(out) };
}

const sum = (xs: readonly number[]): number => xs.reduce((a, b) => a + b, 0);

function median(xs: readonly number[]): number {
  const sorted = [...xs].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
