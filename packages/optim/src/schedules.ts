// schedules.ts: learning rates as functions of the update's number t, a tensor, so that a compiled step never freezes them.
// The first update has t = 1. Every schedule stays at its last value beyond its end.
import { add, clamp, cos, div, full, less, mul, sub, type Tensor, ValueError, where } from "@mc/tensor";
import type { Schedule } from "./learningRate.ts";

/** Always `value`. @example constant(3e-4) */
export function constant(value: number): Schedule {
  check("constant", { value });
  return (step) => full([], value, { device: step.device });
}

/** Options of `linear`. */
export interface LinearOptions {
  readonly from: number;
  readonly to: number;
  /** Updates until `to` is reached. */
  readonly steps: number;
}

/** In a straight line: from + (to - from) * t / steps. @example linear({ from: 1e-3, to: 0, steps: 1000 }) */
export function linear({ from, to, steps }: LinearOptions): Schedule {
  check("linear", { from, to }, { steps });
  return (step) => between(from, to, ratio(step, steps));
}

/** Options of `cosine`. */
export interface CosineOptions {
  readonly peak: number;
  /** Updates until `final` is reached. */
  readonly totalSteps: number;
  /** Default a tenth of the peak. */
  readonly final?: number;
}

/** Half a cosine down: final + (peak - final) * (1 + cos(pi * t / totalSteps)) / 2. @example cosine({ peak: 1e-3, totalSteps: 1000 }) */
export function cosine({ peak, totalSteps, final = peak / 10 }: CosineOptions): Schedule {
  check("cosine", { peak, final }, { totalSteps });
  return (step) => between(final, peak, halfCosine(ratio(step, totalSteps)));
}

/** Options of `warmupCosine`. */
export interface WarmupCosineOptions extends CosineOptions {
  /** Updates until the peak is reached; 0 for none. Part of `totalSteps`. */
  readonly warmupSteps: number;
}

/**
 * Linear warm-up, then half a cosine: peak * t / warmupSteps up to the peak at t = warmupSteps, then down to `final` at
 * t = totalSteps. The first update already moves, by peak / warmupSteps.
 *
 * @throws ValueError if totalSteps is not larger than warmupSteps
 * @example
 * const rate = warmupCosine({ peak: 4e-3, warmupSteps: 20, totalSteps: 300 });
 * await rate(tensor(10)).item(); // 0.002
 */
export function warmupCosine({ peak, warmupSteps, totalSteps, final = peak / 10 }: WarmupCosineOptions): Schedule {
  check(
    "warmupCosine",
    { peak, final, warmupSteps },
    { totalSteps, "totalSteps - warmupSteps": totalSteps - warmupSteps },
  );
  return (step) =>
    warmUp(
      step,
      peak,
      warmupSteps,
      between(final, peak, halfCosine(ratio(sub(step, warmupSteps), totalSteps - warmupSteps))),
    );
}

/** Options of `warmupStableDecay`. */
export interface WarmupStableDecayOptions {
  readonly peak: number;
  /** Updates until the peak is reached; 0 for none. */
  readonly warmupSteps: number;
  /** The last so many updates decay. */
  readonly decaySteps: number;
  /** All updates together; what warm-up and decay leave over runs at the peak. */
  readonly totalSteps: number;
  /** Default 0. */
  readonly final?: number;
  /** How the decay falls: a straight line (default) or half a cosine. */
  readonly decay?: "linear" | "cosine";
}

/**
 * Linear warm-up to the peak, a plateau, and a decay to `final` at t = totalSteps.
 *
 * @throws ValueError if warm-up and decay are together longer than totalSteps
 * @example warmupStableDecay({ peak: 2e-4, warmupSteps: 500, decaySteps: 8000, totalSteps: 23000, final: 2e-5, decay: "cosine" })
 * @see Kimi K2, arXiv 2507.20534, section 2.5
 */
export function warmupStableDecay({
  peak,
  warmupSteps,
  decaySteps,
  totalSteps,
  final = 0,
  decay = "linear",
}: WarmupStableDecayOptions): Schedule {
  check(
    "warmupStableDecay",
    { peak, final, warmupSteps, "totalSteps - warmupSteps - decaySteps": totalSteps - warmupSteps - decaySteps },
    { decaySteps, totalSteps },
  );
  return (step) => {
    const part = ratio(sub(step, totalSteps - decaySteps), decaySteps);
    return warmUp(step, peak, warmupSteps, between(final, peak, decay === "linear" ? sub(1, part) : halfCosine(part)));
  };
}

/** t / steps, held within [0, 1]. */
const ratio = (step: Tensor, steps: number): Tensor => clamp(div(step, steps), { min: 0, max: 1 });

/** a + (b - a) * part. */
const between = (a: number, b: number, part: Tensor): Tensor => add(mul(part, b - a), a);

/** (1 + cos(pi * part)) / 2: from 1 down to 0. */
const halfCosine = (part: Tensor): Tensor => mul(add(cos(mul(part, Math.PI)), 1), 0.5);

/** peak * t / warmupSteps before the peak, `then` from it on. */
const warmUp = (step: Tensor, peak: number, warmupSteps: number, then: Tensor): Tensor =>
  warmupSteps === 0 ? then : where(less(step, warmupSteps), mul(step, peak / warmupSteps), then);

function check(op: string, atLeastZero: Record<string, number>, positive: Record<string, number> = {}): void {
  for (const [name, value] of Object.entries(atLeastZero)) {
    if (!(value >= 0 && Number.isFinite(value)))
      throw new ValueError(`${op}: ${name} must be a finite number of at least 0, got ${value}`);
  }
  for (const [name, value] of Object.entries(positive)) {
    if (!(value > 0 && Number.isFinite(value)))
      throw new ValueError(`${op}: ${name} must be a positive finite number, got ${value}`);
  }
}
