// profile.ts: `npm run bench -- profile`: where the time of a training step goes, or an optimizer's step, kernel by kernel.
import { type Profile, profile, realise } from "@mc/tensor";
import { type Context, withFreshDevice } from "./lib/context.ts";
import { stepper } from "./optim/update.ts";
import { updates } from "./optim/updates.ts";
import { models, trainingStep } from "./train/models.ts";

/** What to run. */
export interface ProfileOptions {
  /** Default: the 0.87M model. */
  readonly models?: readonly string[];
  /** Default: muonclip. */
  readonly optimizers?: readonly string[];
  /** Runs behind each median; at most three where a CPU computes. */
  readonly steps: number;
  /** Instead of training steps: the optimizer steps of `optim`. */
  readonly updates: boolean;
}

/** Profiles each step on a device of its own: a line of totals, then one for each group of kernels, the longest first. */
export async function benchProfile(context: Context, options: ProfileOptions): Promise<void> {
  const { connection, peaks, report, small, wanted } = context;
  const roofline = peaks && {
    gflops: 1000 * peaks.f32,
    gbs: peaks.gigabytesPerSecond,
    ...(peaks.f16 !== undefined && { tensorGflops: 1000 * peaks.f16 }),
  };
  const runs = small ? Math.min(3, options.steps) : options.steps;
  const profileOptions = { runs, ...(roofline && { roofline }) };
  const print = (name: string, p: Profile): void => {
    for (const line of profileLines(name, p)) report.line({ ...line });
    report.note(`${name}\n${p}`);
  };
  if (options.updates) {
    for (const u of updates(small).filter(({ name }) => wanted(`profile ${name}`))) {
      await withFreshDevice(connection, async () => {
        const [params, gradients] = await realise([u.params(), u.gradients()[0]!] as const);
        const stepping = await stepper(u.optimizer(), params, u);
        print(u.name, await profile(stepping.update, [stepping.input(gradients)], profileOptions));
      });
    }
    return;
  }
  for (const model of models.filter((m) => (options.models ?? ["0.87M"]).includes(m.name))) {
    for (const optimizer of options.optimizers ?? ["muonclip"]) {
      const name = `${model.name} ${optimizer}`;
      if (!wanted(`profile ${name}`)) continue;
      await withFreshDevice(connection, async () => {
        const { step, params, state, data } = await trainingStep(model, optimizer);
        print(name, await profile(step, [{ params, state, batch: await data(0) }], profileOptions));
      });
    }
  }
}

/** A profile as lines: times in milliseconds, work in operations and bytes, everything of a group added up. */
function profileLines(name: string, p: Profile): ProfileLine[] {
  const totals: ProfileTotals = {
    name,
    total: true,
    runs: p.runs,
    dispatches: p.dispatches,
    submits: p.submits,
    wall_ms: p.wallMs,
    gpu_ms: p.gpuMs,
    kernel_ms: p.kernelMs,
    gap_ms: p.gapMs,
    floor_ms: p.floorMs,
    js_ms: p.javascriptMs,
    js_us_dispatch: p.javascriptUsPerDispatch,
    flops: p.flops,
    bytes: p.bytes,
    peak_gflops: p.roofline.gflops,
    peak_gbs: p.roofline.gbs,
    clock_step_ms: p.clockStepMs,
  };
  return [
    totals,
    ...p.groups.map((g) => ({
      name,
      label: g.label,
      variant: g.variant,
      shape: g.shape,
      count: g.count,
      dispatches: g.dispatches,
      median_ms: g.medianMs,
      floor_ms: g.floorMs,
      share: g.share,
      distance: g.distance,
      flops: g.flops,
      bytes: g.bytes,
    })),
  ];
}

/** The first line of a profile. */
export interface ProfileTotals {
  readonly name: string;
  readonly total: true;
  readonly runs: number;
  readonly dispatches: number;
  readonly submits: number;
  readonly wall_ms: number;
  readonly gpu_ms: number;
  readonly kernel_ms: number;
  readonly gap_ms: number;
  readonly floor_ms: number;
  readonly js_ms: number;
  readonly js_us_dispatch: number;
  readonly flops: number;
  readonly bytes: number;
  readonly peak_gflops: number;
  readonly peak_gbs: number;
  readonly clock_step_ms: number;
}

/** A group of equal kernels: `count` of them, everything added up. */
export interface ProfileGroup {
  readonly name: string;
  readonly label: string;
  readonly variant: string;
  readonly shape: readonly number[];
  readonly count: number;
  readonly dispatches: number;
  readonly median_ms: number;
  readonly floor_ms: number;
  /** Of the kernels' time, 0 to 1. */
  readonly share: number;
  /** median_ms / floor_ms. */
  readonly distance: number;
  readonly flops: number;
  readonly bytes: number;
}

/** A line of a profile. */
export type ProfileLine = ProfileTotals | ProfileGroup;
