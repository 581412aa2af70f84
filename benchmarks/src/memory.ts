// memory.ts: `npm run bench -- memory`: what training steps keep in GPU memory, counted without a GPU. Buffers depend on the plan
// alone, so the peak is that of any card.
import { explain, type MatmulPrecision, type Tensor, treeLeaves } from "@mc/tensor";
import type { Context } from "./lib/context.ts";
import { connectNull } from "./lib/nullDevice.ts";
import { type BenchModel, models, optimizerNames, trainingStep } from "./train/models.ts";

/** What to count. */
export interface MemoryOptions {
  /** Default: those that PyTorch was timed with. */
  readonly models?: readonly string[];
  readonly optimizers?: readonly string[];
}

/** PyTorch 2.11 on an H200, f32: `torch.cuda.max_memory_allocated` of a step of the same model and batch, MiB. */
const pytorch: Readonly<Record<string, number>> = { "0.87M": 143, "10M": 836, "163M": 10984 };

/** Counts each model with each optimizer, with and without checkpoints. One line each. */
export async function benchMemory({ report, wanted, precision }: Context, options: MemoryOptions): Promise<void> {
  for (const model of models.filter((m) => options.models?.includes(m.name) ?? m.name in pytorch)) {
    for (const optimizer of options.optimizers ?? optimizerNames) {
      for (const checkpoint of [false, true]) {
        const name = `memory ${model.name} ${optimizer}${checkpoint ? " checkpoint" : ""}`;
        if (!wanted(name)) continue;
        const counted = await count({ ...model, config: { ...model.config, checkpoint } }, optimizer, precision);
        const over = !checkpoint && counted.peak_mib > pytorch[model.name]!;
        report.line({
          name,
          ...counted,
          pytorch_mib: pytorch[model.name],
          ...(over && { failed: "more than PyTorch's" }),
        });
      }
    }
  }
}

const mib = (bytes: number): number => bytes / 2 ** 20;

async function count(model: BenchModel, optimizer: string, precision: MatmulPrecision) {
  const device = await connectNull({ weightless: true, precision });
  const { step, data, params, state } = await trainingStep(model, optimizer);
  const kept = treeLeaves<Tensor>([params, state]).reduce((bytes, t) => bytes + 4 * t.size, 0);
  const batch = await data(0);
  const plan = explain(step, { params, state, batch });
  const next = step({ params, state, batch });
  step({ params: next.params, state: next.state, batch });
  return {
    peak_mib: mib(device.memory().peakBytes),
    parameters_and_state_mib: mib(kept),
    intermediates_mib: mib(plan.temporaryBytes),
    plan_gflop: plan.flops / 1e9,
    kernels: plan.kernels.length,
    dispatches: plan.dispatches,
  };
}
