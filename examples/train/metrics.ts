// metrics.ts: what one step tells, on the device as a single vector, on the host as a record, in the run folder as a line.
import type { Routing } from "@mc/nn";
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
  /** Share of each expert in the tokens that a layer routes, [layer with experts][expert]; a layer's shares sum to 1. */
  expertLoad: number[][];
  /** Mean entropy of the routers' choice for a token, in nats, over tokens and layers; 0 without experts. */
  routingEntropy: number;
  /** Tokens that found no room at their expert: always 0. */
  droppedTokens: number;
}

/** The last line of `metrics.jsonl`. */
export interface FinalMetrics {
  done: true;
  /** Mean cross-entropy over the validation documents, in nats a byte. */
  validationLoss: number;
  bitsPerByte: number;
}

/** What the router of a layer tells, on the device; see `Routing` of @mc/nn. */
export type DeviceRouting = Pick<Routing, "load" | "entropy" | "dropped">;

/** A step's figures while they are still on the device: scalars, one f32 [heads] a layer, and what the routers tell. */
export interface DeviceMetrics {
  loss: Tensor;
  learningRate: Tensor;
  clippedHeads: Tensor;
  gradNorm: Tensor;
  maxLogits: readonly Tensor[];
  routing: readonly DeviceRouting[];
}

/** All figures of a step as one f32 vector, so that reading them costs one wait. */
export function packMetrics({ loss, learningRate, clippedHeads, gradNorm, maxLogits, routing }: DeviceMetrics): Tensor {
  const routers = routing.flatMap(({ entropy, dropped, load }) => [entropy, dropped, load]);
  const parts = [loss, learningRate, clippedHeads, gradNorm, ...maxLogits, ...routers];
  return concat(parts.map((x) => reshape(cast(x, "f32"), [-1])));
}

/** Sizes that say how a packed vector is read. */
export interface MetricsShape {
  layers: number;
  /** In each layer. */
  heads: number;
  /** In each layer that has any. */
  experts: number;
}

/** What `packMetrics` packed. */
export function unpackMetrics(
  packed: ArrayLike<number>,
  { layers, heads, experts }: MetricsShape,
): Omit<StepMetrics, "step" | "tokensPerSecond" | "seconds"> {
  const values = Array.from(packed, shortest);
  let at = 0;
  const take = (count: number) => values.slice(at, (at += count));
  const [loss, learningRate, clippedHeads, gradNorm] = take(4) as [number, number, number, number];
  const maxLogit = Array.from({ length: layers }, () => take(heads));
  const routers = [];
  while (at < values.length) {
    const [entropy, dropped] = take(2) as [number, number];
    const load = take(experts);
    const total = sum(load);
    routers.push({ entropy, dropped, load: load.map((count) => shortest(count / total)) });
  }
  return {
    loss,
    learningRate,
    clippedHeads,
    gradNorm,
    maxLogit,
    expertLoad: routers.map(({ load }) => load),
    routingEntropy: routers.length === 0 ? 0 : shortest(sum(routers.map(({ entropy }) => entropy)) / routers.length),
    droppedTokens: sum(routers.map(({ dropped }) => dropped)),
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

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

/** The share of the busiest expert of all layers, as a multiple of an even share: 1 is perfect balance. Undefined without experts. */
export function largestLoad({ expertLoad }: Pick<StepMetrics, "expertLoad">): number | undefined {
  if (expertLoad.length === 0) return undefined;
  return Math.max(...expertLoad.map((shares) => Math.max(...shares) * shares.length));
}
