// metrics.ts: what one step tells, on the device as a single vector, on the host as a record, in the run folder as a line.
import { cast, concat, reshape, type Tensor } from "@mc/tensor";

/** One step, with the fields of a line of `metrics.jsonl` in their order. */
export interface StepMetrics {
  /** From 1. */
  step: number;
  /** Mean cross-entropy over the step's batch, in nats a byte, before the step's update. */
  loss: number;
  learningRate: number;
  /** Over the time since metrics were last read: one step on the CPU, ten on a GPU. */
  tokensPerSecond: number;
  /** Largest scaled, mask-visible attention logit of the step's forward, [layer][head]. */
  maxLogit: number[][];
  /** Heads that QK-Clip scaled after this step; 0 without QK-Clip. */
  clippedHeads: number;
  /** 2-norm of all gradients as one vector. */
  gradNorm: number;
  /** Since the first step began. */
  seconds: number;
}

/** The last line of `metrics.jsonl`. */
export interface FinalMetrics {
  done: true;
  /** Mean cross-entropy over the validation documents, in nats a byte. */
  validationLoss: number;
  bitsPerByte: number;
}

/** A step's figures while they are still on the device: scalars, and one f32 [heads] a layer. */
export interface DeviceMetrics {
  loss: Tensor;
  learningRate: Tensor;
  clippedHeads: Tensor;
  gradNorm: Tensor;
  maxLogits: readonly Tensor[];
}

/** All figures of a step as one f32 vector, so that reading them costs one wait. */
export function packMetrics({ loss, learningRate, clippedHeads, gradNorm, maxLogits }: DeviceMetrics): Tensor {
  const scalars = [loss, learningRate, clippedHeads, gradNorm].map((x) => reshape(cast(x, "f32"), [1]));
  return concat([...scalars, ...maxLogits]);
}

/** What `packMetrics` packed, for a model with `heads` heads in each layer. */
export function unpackMetrics(
  packed: ArrayLike<number>,
  heads: number,
): Pick<StepMetrics, "loss" | "learningRate" | "clippedHeads" | "gradNorm" | "maxLogit"> {
  const [loss, learningRate, clippedHeads, gradNorm, ...logits] = Array.from(packed, shortest) as [
    number,
    number,
    number,
    number,
    ...number[],
  ];
  const maxLogit = Array.from({ length: logits.length / heads }, (_, layer) =>
    logits.slice(layer * heads, (layer + 1) * heads),
  );
  return { loss, learningRate, clippedHeads, gradNorm, maxLogit };
}

/** The shortest decimal that reads back as the same f32: 0.01 and not 0.009999999776482582. */
export function shortest(value: number): number {
  const f32 = Math.fround(value);
  for (let digits = 6; digits <= 8; digits++) {
    const short = Number(f32.toPrecision(digits));
    if (Math.fround(short) === f32) return short;
  }
  return Number(f32.toPrecision(9));
}

/** A record as a line of JSON, with its line end. */
export function metricsLine(metrics: StepMetrics | FinalMetrics): string {
  return `${JSON.stringify(metrics)}\n`;
}

/** The largest logit of all heads. */
export function largestLogit({ maxLogit }: Pick<StepMetrics, "maxLogit">): number {
  return Math.max(...maxLogit.flat());
}
