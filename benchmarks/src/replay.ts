// replay.ts: what a training step costs in JavaScript, on Dawn's null backend: it validates and records everything and runs
// nothing, so that tracing, planning and replay are timed without a GPU. Small batches: the null backend has 512 MiB.
import { explain } from "@mc/tensor";
import type { Context } from "./lib/context.ts";
import { summarise } from "./lib/measure.ts";
import { connectNull } from "./lib/nullDevice.ts";
import { type BenchModel, models, optimizerNames, trainingStep } from "./train/models.ts";

/** What to run. */
export interface ReplayOptions {
  /** Default: the 10M model. */
  readonly models?: readonly string[];
  readonly optimizers?: readonly string[];
  readonly steps: number;
  /** Also print the kernels of each step, counted by label. */
  readonly list: boolean;
}

/** Times tracing and planning, the first step, and replays; counts what a replay makes. One line a step. */
export async function benchReplay({ report, wanted }: Context, options: ReplayOptions): Promise<void> {
  const { steps, list } = options;
  for (const model of models.filter((m) => (options.models ?? ["10M"]).includes(m.name))) {
    for (const optimizer of options.optimizers ?? optimizerNames) {
      const name = `replay ${model.name} ${optimizer}`;
      if (!wanted(name)) continue;
      const { counts, ...line } = await runReplay({ ...model, batch: 2 }, optimizer, steps);
      report.line({ name, ...line, ...(list && { counts }) });
      if (list)
        for (const [kernel, count] of Object.entries(counts)) report.note(`${String(count).padStart(4)}  ${kernel}`);
    }
  }
}

async function runReplay(model: BenchModel, optimizer: string, steps: number) {
  const device = await connectNull();
  const { step, data, ...first } = await trainingStep(model, optimizer);
  let { params, state } = first;
  const batches = [await data(0), await data(1)];
  const start = performance.now();
  let call = step({ params, state, batch: batches[0]! });
  const traced = performance.now() - start;
  ({ params, state } = call);
  await device.settle();
  const firstStep = performance.now() - start;
  for (let i = 1; i < 4; i++) ({ params, state } = step({ params, state, batch: batches[i % 2]! }));
  await device.settle();

  const before = device.stats();
  const times: number[] = [];
  const processor: number[] = []; // time of the processor, which other programs do not lengthen
  for (let i = 0; i < steps; i++) {
    const begin = performance.now();
    const used = process.cpuUsage();
    call = step({ params, state, batch: batches[i % 2]! });
    ({ params, state } = call);
    await undefined; // what is encoded is submitted in a microtask
    times.push(performance.now() - begin);
    const { user, system } = process.cpuUsage(used);
    processor.push((user + system) / 1000);
    call.loss.dispose();
    await device.settle();
  }
  const after = device.stats();
  const a = (key: keyof typeof after): number => (after[key] - before[key]) / steps;
  const plan = explain(step, { params, state, batch: batches[0]! });
  const timing = summarise(times);
  const counts: Record<string, number> = {};
  for (const { kind, label, shape } of plan.kernels) {
    const name = `${kind} ${label} [${shape.join(", ")}]`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return {
    device: device.description,
    ...timing,
    dispatches: a("dispatches"),
    kernels: plan.kernels.length,
    pipelines: plan.pipelines,
    submits: a("submits"),
    bind_groups: a("bindGroups"),
    buffers_created: a("buffersCreated"),
    js_us_dispatch: (1000 * timing.median_ms) / a("dispatches"),
    min_js_us_dispatch: (1000 * timing.min_ms) / a("dispatches"),
    processor_us_dispatch: (1000 * summarise(processor).median_ms) / a("dispatches"),
    trace_and_plan_ms: traced,
    first_step_ms: firstStep,
    counts,
  };
}
