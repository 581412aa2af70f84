// run.ts: a whole run, from the text to the report.
import { shuffledBatches } from "@mc/data";
import { saveHuggingFace } from "@mc/nn";
import { connect, type Device, DeviceError, key, type Tensor, treeLeaves } from "@mc/tensor";
import { loadCorpus } from "./corpus.ts";
import { describeSettings, formatTable } from "./describe.ts";
import { evaluate } from "./evaluate.ts";
import { stopOnInterrupt } from "./interrupt.ts";
import type { FinalMetrics, StepMetrics } from "./metrics.ts";
import { createModel } from "./model.ts";
import { createOptimizer, createSchedule } from "./optimizers.ts";
import { type TrainOptions, UsageError } from "./options.ts";
import { createProgress } from "./progress.ts";
import { openRunFolder } from "./runFolder.ts";
import { drawSample } from "./sample.ts";
import { train } from "./train.ts";

/**
 * Trains, measures, samples, and writes the run folder; tells about it on standard output.
 *
 * Everything that a person can get wrong is checked before the folder is made.
 *
 * @throws UsageError for options that cannot be fulfilled here
 */
export async function run(options: TrainOptions): Promise<void> {
  const model = createModel(options);
  const corpus = loadCorpus(options);
  const device = await connectTo(options.device);
  const schedule = createSchedule(options);
  const optimizer = createOptimizer(options, schedule, { roles: model.roles, attention: model.attentionLayout });
  const initial = model.init(key(options.seed, { device }));
  const folder = openRunFolder(options.out);
  const { signal, release } = stopOnInterrupt();

  const settings = describeSettings(options, { model, corpus, device, weights: treeLeaves<Tensor>(initial) });
  const baselines = corpus.baselines.map(({ order, loss }) => ({ name: `order-${order} n-gram`, loss }));
  print(formatTable(settings));
  print(`\n${optimizer.plan(initial)}\n`);
  print(
    formatTable(baselines.map(({ name, loss }) => [name, `${loss.toFixed(4)} nats a byte on the validation text`])),
  );
  print("");

  const metrics: StepMetrics[] = [];
  const progress = createProgress({ steps: options.steps, enabled: options.progress });
  const params = await train({
    model,
    params: initial,
    optimizer,
    schedule,
    batches: shuffledBatches(corpus.sequences.train, { batchSize: options.batch, seed: options.seed }),
    steps: options.steps,
    device,
    signal,
    onMetrics: (records) => {
      folder.addMetrics(records);
      metrics.push(...records);
      for (const record of records) progress.update(record);
    },
  }).finally(progress.stop);
  if (signal.aborted) print(`stopped after step ${metrics.length} of ${options.steps}`);

  const validationLoss = await evaluate(model, params, corpus.sequences.validation, { batch: options.batch, device });
  const final: FinalMetrics = { done: true, validationLoss, bitsPerByte: validationLoss / Math.LN2 };
  print(`\nvalidation loss ${validationLoss.toFixed(4)} nats a byte, ${final.bitsPerByte.toFixed(4)} bits per byte\n`);
  const sample = await drawSample(model, params, corpus, options);
  print(`sample, after "${sample.prompt}":\n${sample.continuation}\n`);

  for await (const { name, bytes } of saveHuggingFace(model.config, params)) folder.write(name, bytes);
  const title = `${options.optimizer} on ${corpus.name}`;
  const tau = options.optimizer === "muonclip" ? options.tau : undefined;
  const { renderReport } = await import("./report.ts"); // the plotting library takes a while to load
  folder.write("report.html", await renderReport({ title, settings, metrics, final, baselines, tau, sample }));
  folder.addMetrics([final]);
  print(`wrote metrics.jsonl, config.json, model.safetensors and report.html to ${folder.path}`);
  release();
}

async function connectTo(device: TrainOptions["device"]): Promise<Device> {
  try {
    return await connect({ device });
  } catch (error) {
    if (error instanceof DeviceError && error.code === "not-found") {
      throw new UsageError(`--device ${device}: ${error.message}`);
    }
    throw error;
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
