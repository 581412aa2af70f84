// train.ts: the training loop.
import { setImmediate as nextTurn } from "node:timers/promises";
import { valueAndGrad } from "@mc/autograd";
import { type Batch, toTensors } from "@mc/data";
import { balanceExperts, type Transformer, type TransformerBatch, type TransformerParams } from "@mc/nn";
import { globalNorm, type MuonClipInfo, type Optimizer, type Schedule } from "@mc/optim";
import { cast, compile, type Device, type Tensor, zeros } from "@mc/tensor";
import { packMetrics, type StepMetrics, unpackMetrics } from "./metrics.ts";

/** What a training run needs. */
export interface TrainRun {
  model: Transformer;
  params: TransformerParams;
  optimizer: Optimizer<Partial<MuonClipInfo>>;
  schedule: Schedule;
  batches: Iterator<Batch, unknown, undefined>;
  steps: number;
  device: Device;
  /** Ends the run after the running step. */
  signal: AbortSignal;
  /** Called with the metrics of each step, in order, soon after it. */
  onMetrics: (metrics: StepMetrics[]) => void;
}

// DeepSeek-V3 moves a selection bias by 0.001 a step, in tens of thousands of steps; a run of hundreds has to hurry.
const BALANCE_RATE = 0.01;

/** The loss, or anything that follows from it, is no longer a number. */
export class DivergedError extends Error {
  override name = "DivergedError";
}

/**
 * Trains for `steps` steps, or until the signal.
 *
 * @returns the parameters after the last step
 * @throws DivergedError when the loss of a step is not finite
 */
export async function train({
  model,
  optimizer,
  schedule,
  batches,
  steps,
  device,
  signal,
  onMetrics,
  ...run
}: TrainRun): Promise<TransformerParams> {
  const step = compile(
    ({ params, state, batch }: StepArguments) => {
      const { grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, batch);
      const next = optimizer.update(grads, state, params, { maxLogits: aux.maxLogits });
      const loads = aux.routing.map(({ load }) => load);
      const metrics = packMetrics({
        loss: aux.crossEntropy,
        learningRate: schedule(cast(next.state.step, "f32")),
        clippedHeads: next.metrics?.clippedHeads ?? zeros([], { device }),
        gradNorm: globalNorm(grads),
        maxLogits: aux.maxLogits,
        routing: aux.routing,
      });
      return { params: balanceExperts(next.params, loads, { rate: BALANCE_RATE }), state: next.state, metrics };
    },
    { donate: ["params", "state"] },
  );

  let { params } = run;
  let state = optimizer.init(params);
  const reader = metricsReader(model, onMetrics);
  // Reading waits for a GPU to catch up. Where a step takes its time on the CPU, waiting costs nothing.
  const readEvery = device.kind === "cpu" || device.software ? 1 : 10;
  let metrics: Tensor;
  for (let count = 1; count <= steps && !signal.aborted; count++) {
    const { value: batch } = batches.next() as IteratorYieldResult<Batch>;
    ({ params, state, metrics } = step({ params, state, batch: toTensors(batch, { device }) }));
    reader.add(count, batch.inputs.length, metrics);
    if (count === 1 || count % readEvery === 0) await reader.read();
    await nextTurn(); // lets Ctrl-C in
  }
  await reader.read();
  return params;
}

interface StepArguments {
  params: TransformerParams;
  state: ReturnType<Optimizer["init"]>;
  batch: TransformerBatch;
}

/** Keeps the metrics of steps on the device until they are read, many at once. */
function metricsReader(model: Transformer, onMetrics: TrainRun["onMetrics"]) {
  const { numLayers: layers, attention, feedForward } = model.config;
  const shape = { layers, heads: attention.numHeads, experts: feedForward.kind === "moe" ? feedForward.numExperts : 0 };
  const start = performance.now();
  let readUntil = start;
  let unread: { step: number; tokens: number; metrics: Tensor }[] = [];
  return {
    add: (step: number, tokens: number, metrics: Tensor) => void unread.push({ step, tokens, metrics }),
    async read(): Promise<void> {
      if (unread.length === 0) return;
      const taken = unread;
      unread = [];
      const values = await Promise.all(taken.map(({ metrics }) => metrics.data()));
      const now = performance.now();
      // A GPU's steps have no times of their own: those read together share theirs evenly.
      const each = (now - readUntil) / 1000 / taken.length;
      const records = taken.map(({ step, tokens }, i): StepMetrics => {
        const { loss, learningRate, clippedHeads, gradNorm, maxLogit, ...routing } = unpackMetrics(values[i]!, shape);
        const tokensPerSecond = Math.round(tokens / each);
        const seconds = Number(((readUntil - start) / 1000 + (i + 1) * each).toFixed(3));
        return { step, loss, learningRate, tokensPerSecond, maxLogit, clippedHeads, gradNorm, seconds, ...routing };
      });
      readUntil = now;
      onMetrics(records);
      const lost = records.find(({ loss }) => !Number.isFinite(loss));
      if (lost) {
        throw new DivergedError(
          `the loss is not finite at step ${lost.step}; try a smaller --learning-rate, or --optimizer muonclip with a smaller --tau`,
        );
      }
    },
  };
}
