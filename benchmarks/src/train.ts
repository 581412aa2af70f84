// train.ts: whole training steps of three decoders (RMSNorm, GELU, rotary positions, untied head), everything in one compiled step.
import { valueAndGrad } from "@mc/autograd";
import { type TransformerBatch, type TransformerConfig, type TransformerParams, transformer } from "@mc/nn";
import { adamw, muon, muonClip, type Optimizer, type OptimizerState } from "@mc/optim";
import {
  cast,
  compile,
  type Device,
  explain,
  foldIn,
  key,
  realise,
  type Tensor,
  treeLeaves,
  uniform,
} from "@mc/tensor";
import { report, summarise } from "./measure.ts";

/** A model and the batch it trains on. */
export interface BenchModel {
  readonly name: string;
  readonly batch: number;
  readonly tokens: number;
  readonly config: TransformerConfig;
}

const decoder = (
  name: string,
  batch: number,
  tokens: number,
  vocabSize: number,
  hiddenSize: number,
  numLayers: number,
  numHeads: number,
): BenchModel => ({
  name,
  batch,
  tokens,
  config: {
    vocabSize,
    hiddenSize,
    numLayers,
    attention: { numHeads },
    feedForward: { kind: "gelu" },
    norm: { kind: "rmsnorm" },
    positions: { kind: "rope" },
  },
});

/** The models: sizes as in the README's table. */
export const models: readonly BenchModel[] = [
  decoder("0.87M", 16, 128, 256, 128, 4, 4),
  decoder("10M", 16, 256, 4096, 320, 6, 5),
  decoder("163M", 8, 1024, 50257, 768, 12, 12),
];

interface StepInput {
  readonly params: TransformerParams;
  readonly state: OptimizerState;
  readonly batch: TransformerBatch;
}

/** What to run. */
export interface TrainOptions {
  readonly models: readonly string[];
  readonly optimizers: readonly string[];
  readonly steps: number;
}

/** Times training steps: first step (tracing, planning and compiling included), then the median of the others. */
export async function benchTrain(device: Device, options: TrainOptions): Promise<void> {
  for (const model of models) {
    if (!options.models.includes(model.name)) continue;
    for (const optimizer of options.optimizers) await runModel(device, model, optimizer, options.steps);
  }
}

/** A compiled training step, and what to call it with first. */
export interface TrainingStep {
  readonly step: (input: StepInput) => StepOutput;
  readonly params: TransformerParams;
  readonly state: OptimizerState;
  /** Batch `i` of a made-up stream. */
  readonly data: (i: number) => Promise<TransformerBatch>;
}

interface StepOutput {
  readonly params: TransformerParams;
  readonly state: OptimizerState;
  readonly loss: Tensor;
}

/** The training step of a model: forward, backward and optimizer in one compiled function. Nothing is traced yet. */
export async function trainingStep(
  { batch, tokens, config }: BenchModel,
  optimizerName: string,
): Promise<TrainingStep> {
  const model = transformer(config);
  const optimizer = makeOptimizer(optimizerName, model);
  const params = model.init(key(0));
  const state = optimizer.init(params);
  await realise([params, state]);
  const step = compile(
    ({ params, state, batch }: StepInput): StepOutput => {
      const { value: loss, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, batch);
      const next = optimizer.update(grads, state, params, { maxLogits: aux.maxLogits });
      return { params: next.params, state: next.state, loss };
    },
    { donate: ["params", "state"] },
  );
  const data = (i: number): Promise<TransformerBatch> => {
    const ids = cast(uniform(foldIn(key(7), i), [batch, tokens], { high: config.vocabSize }), "i32");
    return realise({ inputs: ids, labels: ids });
  };
  return { step, params, state, data };
}

async function runModel(device: Device, model: BenchModel, optimizerName: string, steps: number): Promise<void> {
  const { name, batch, tokens } = model;
  const { step, data, ...start } = await trainingStep(model, optimizerName);
  let { params, state } = start;
  const size = treeLeaves<Tensor>(params).reduce((s, p) => s + p.size, 0);
  const batches = [await data(0), await data(1)];
  const times: number[] = [];
  let first = 0;
  let firstLoss = 0;
  let loss = 0;
  for (let i = 0; i <= steps; i++) {
    const start = performance.now();
    const out = step({ params, state, batch: batches[i % 2]! });
    ({ params, state } = out);
    if (i === 0) {
      firstLoss = await out.loss.item();
      first = performance.now() - start;
    } else {
      await device.settle();
      times.push(performance.now() - start);
      if (i === steps) loss = await out.loss.item();
    }
  }
  const plan = explain(step, { params, state, batch: batches[0]! });
  const timing = summarise(times);
  report({
    name: `train ${name} ${optimizerName}`,
    parameters: size,
    batch,
    tokens,
    dtype: "f32",
    device: device.description,
    ...timing,
    tokens_per_second: (batch * tokens * 1000) / timing.median_ms,
    first_step_ms: first,
    dispatches: plan.kernels.length,
    pipelines: plan.pipelines,
    plan_gflop: plan.flops / 1e9,
    peak_mib: device.memory().peakBytes / 2 ** 20,
    first_loss: firstLoss,
    loss,
  });
}

function makeOptimizer(name: string, model: ReturnType<typeof transformer>): Optimizer {
  switch (name) {
    case "adamw":
      return adamw({ learningRate: 1e-3, weightDecay: 0.1 });
    case "muon":
      return muon({ learningRate: 2e-3, weightDecay: 0.1, roles: model.roles });
    case "muonclip":
      return muonClip({
        learningRate: 2e-3,
        weightDecay: 0.1,
        tau: 100,
        roles: model.roles,
        attention: model.attentionLayout,
      });
    default:
      throw new Error(`bench train: unknown optimizer "${name}"; choose adamw, muon or muonclip`);
  }
}
