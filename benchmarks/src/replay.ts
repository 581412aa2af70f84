// replay.ts: what a training step costs in JavaScript. By default on Dawn's null backend: it validates and records everything and
// runs nothing, so that tracing, planning and replay are timed without a GPU, with small batches, because it has 512 MiB. With
// `--device webgpu` on the GPU, where submitting is the driver's work too, and time that is given by itself.
import { type Device, explain } from "@mc/tensor";
import { type Context, withFreshDevice } from "./lib/context.ts";
import { perDispatch, summarise, timeCalls } from "./lib/measure.ts";
import { connectNull } from "./lib/nullDevice.ts";
import { type BenchModel, models, optimizerNames, trainingStep } from "./train/models.ts";

/** What to run. */
export interface ReplayOptions {
  /** Default: the 10M model. */
  readonly models?: readonly string[];
  readonly optimizers?: readonly string[];
  readonly steps: number;
  /** "webgpu": on the GPU; default: on a device that computes nothing. */
  readonly device?: "cpu" | "webgpu" | undefined;
  /** Also print the kernels of each step, counted by label. */
  readonly list: boolean;
}

/** Times tracing and planning, the first step, and replays; counts what a replay makes. One line a step. */
export async function benchReplay({ report, wanted, connection }: Context, options: ReplayOptions): Promise<void> {
  const { steps, list, device } = options;
  for (const model of models.filter((m) => (options.models ?? ["10M"]).includes(m.name))) {
    for (const optimizer of options.optimizers ?? optimizerNames) {
      const name = `replay ${model.name} ${optimizer}`;
      if (!wanted(name)) continue;
      const { counts, ...line } = await (device === "webgpu"
        ? withFreshDevice(connection, (gpu) => runReplay(gpu, model, optimizer, steps))
        : runReplay(await connectNull(), { ...model, batch: 2 }, optimizer, steps));
      report.line({ name, ...line, ...(list && { counts }) });
      if (list)
        for (const [kernel, count] of Object.entries(counts)) report.note(`${String(count).padStart(4)}  ${kernel}`);
    }
  }
}

async function runReplay(device: Device, model: BenchModel, optimizer: string, steps: number) {
  const { step, data, ...first } = await trainingStep(model, optimizer);
  let { params, state } = first;
  const batches = [await data(0), await data(1)];
  let at = 0;
  const advance = (): void => {
    const call = step({ params, state, batch: batches[at++ % 2]! });
    ({ params, state } = call);
    call.loss.dispose();
  };
  const start = performance.now();
  advance();
  const traced = performance.now() - start;
  await device.settle();
  const firstStep = performance.now() - start;
  await timeCalls(device, advance, steps); // V8 compiles what runs often

  const warm = at;
  const before = device.stats();
  const used = process.cpuUsage();
  const { js, submit } = await timeCalls(device, advance, steps);
  const { user, system } = process.cpuUsage(used); // of all threads; other programs do not lengthen it
  const after = device.stats();
  const calls = at - warm;
  const a = (key: keyof typeof after): number => (after[key] - before[key]) / calls;
  const plan = explain(step, { params, state, batch: batches[0]! });
  const counts: Record<string, number> = {};
  for (const { kind, label, shape } of plan.kernels) {
    const name = `${kind} ${label} [${shape.join(", ")}]`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  const costs = perDispatch(js, submit, a("dispatches"));
  return {
    device: device.description,
    ...summarise(js),
    ...costs,
    min_js_us_dispatch: (1000 * costs.min_js_ms) / a("dispatches"),
    encode_us_dispatch: costs.js_us_dispatch - costs.submit_us_dispatch,
    processor_us_dispatch: (user + system) / calls / a("dispatches"),
    kernels: plan.kernels.length,
    pipelines: plan.pipelines,
    submits: a("submits"),
    bind_groups: a("bindGroups"),
    buffers_created: a("buffersCreated"),
    trace_and_plan_ms: traced,
    first_step_ms: firstStep,
    counts,
  };
}
