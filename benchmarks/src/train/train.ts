// train/train.ts: `pnpm bench train`: whole training steps (forward, backward, optimizer), one compiled plan each.
import { type Device, explain, type Tensor, treeLeaves } from "@mc/tensor";
import { type Context, withFreshDevice } from "../lib/context.ts";
import { floorMs } from "../lib/machine.ts";
import { perDispatch, summarise, timeCalls } from "../lib/measure.ts";
import { type BenchModel, models, optimizerNames, trainingStep } from "./models.ts";

/** What to run. */
export interface TrainOptions {
  readonly models?: readonly string[];
  readonly optimizers?: readonly string[];
  /** Most timed steps of a model; fewer, but at least five, where they take longer than ten budgets. */
  readonly steps: number;
}

/** Trains each model with each optimizer on a device of its own, so that memory and first steps are those of that run alone. */
export async function benchTrain(context: Context, options: TrainOptions): Promise<void> {
  const names = options.models ?? (context.small ? ["0.87M"] : ["0.87M", "10M", "163M"]);
  for (const model of models.filter((m) => names.includes(m.name))) {
    let muon: Result | undefined;
    for (const optimizer of options.optimizers ?? optimizerNames) {
      const name = `train ${model.name} ${optimizer}`;
      if (!context.wanted(name)) continue;
      const head = { name, dtype: context.precision, device: context.device.description };
      try {
        const result = await withFreshDevice(context.connection, (device) =>
          runModel(context, device, model, optimizer, options.steps),
        );
        context.report.line({ ...head, ...result, ...(optimizer === "muonclip" && muon && clipCosts(result, muon)) });
        if (optimizer === "muon") muon = result;
      } catch (error) {
        context.report.line({ ...head, failed: error instanceof Error ? error.message : String(error) });
      }
    }
  }
}

type Result = Awaited<ReturnType<typeof runModel>>;

/** What QK-Clip adds to the step with Muon. */
const clipCosts = (clip: Result, muon: Result) => ({
  clip_ms: clip.median_ms - muon.median_ms,
  clip_share: (clip.median_ms - muon.median_ms) / clip.median_ms,
  clip_dispatches: clip.dispatches - muon.dispatches,
});

async function runModel(
  { peaks, precision, budget }: Context,
  device: Device,
  model: BenchModel,
  optimizer: string,
  steps: number,
) {
  const { batch, tokens } = model;
  const { step, data, ...initial } = await trainingStep(model, optimizer);
  let { params, state } = initial;
  const size = treeLeaves<Tensor>(params).reduce((s, p) => s + p.size, 0);
  const batches = [await data(0), await data(1)];

  // the first step traces, plans and compiles; the next two warm up
  const start = performance.now();
  const losses: number[] = [];
  let first = 0;
  for (let i = 0; i < 3; i++) {
    const out = step({ params, state, batch: batches[i % 2]! });
    ({ params, state } = out);
    losses.push(await out.loss.item());
    out.loss.dispose();
    if (i === 0) first = performance.now() - start;
  }
  if (!losses.every((l) => Number.isFinite(l) && l < 2 * losses[0]!))
    throw new Error(`losses ${losses.join(", ")}: they should fall`);

  const times: number[] = [];
  const before = device.stats();
  const end = performance.now() + 10_000 * budget;
  const advance = (i: number): void => {
    const out = step({ params, state, batch: batches[i % 2]! });
    ({ params, state } = out);
    out.loss.dispose();
  };
  for (let i = 0; i < steps && (i < 5 || performance.now() < end); i++) {
    const begin = performance.now();
    advance(i);
    await device.settle();
    times.push(performance.now() - begin);
  }
  const after = device.stats();
  const { js, submit } = await timeCalls(device, () => advance(0), Math.min(10, times.length));
  const each = (name: "dispatches" | "submits" | "buffersCreated"): number =>
    (after[name] - before[name]) / times.length;
  const last = step({ params, state, batch: batches[0]! });
  const loss = await last.loss.item();
  const plan = explain(step, { params: last.params, state: last.state, batch: batches[0]! });
  const timing = summarise(times);
  const created = each("buffersCreated");
  return {
    parameters: size,
    batch,
    tokens,
    ...timing,
    steps: times.length,
    tokens_per_second: (batch * tokens * 1000) / timing.median_ms,
    gflops: plan.flops / timing.median_ms / 1e6,
    // of the operations alone: a step's bytes are those of its kernels, which other plans would not move
    floor_ms: floorMs(peaks, precision, plan.flops, 0),
    ...perDispatch(js, submit, each("dispatches")),
    kernels: plan.kernels.length,
    pipelines: plan.pipelines,
    submits: each("submits"),
    buffers_created: created,
    first_step_s: first / 1000,
    plan_gflop: plan.flops / 1e9,
    peak_mib: device.memory().peakBytes / 2 ** 20,
    first_loss: losses[0]!,
    loss,
    // on a CPU results are plain arrays, which nobody has to keep
    ...(created > 0 &&
      device.kind === "webgpu" && { failed: `a replay creates ${created} buffers; it must create none` }),
  };
}
