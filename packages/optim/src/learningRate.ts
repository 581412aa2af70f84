// learningRate.ts: a learning rate is a number, a schedule or a tensor.
import { ShapeError, type Tensor, ValueError } from "@mc/tensor";
import type { Context } from "./types.ts";

/** A value that depends on the update's number: f32 scalar in (1 for the first update), f32 scalar out. */
export type Schedule = (step: Tensor) => Tensor;

/** A constant, a schedule, or an f32 scalar tensor. */
export type LearningRate = number | Schedule | Tensor;

/** @throws ValueError if a learning rate given as a number is negative or not finite */
export function checkLearningRate(op: string, learningRate: LearningRate): void {
  if (typeof learningRate === "number" && !(learningRate >= 0 && Number.isFinite(learningRate))) {
    throw new ValueError(`${op}: learningRate must be a finite number of at least 0, got ${learningRate}`);
  }
}

/** The rate of this update: that in the context if there is one, else the configured one. A number stays a number. */
export function learningRateAt(op: string, learningRate: LearningRate, context: Context): Tensor | number {
  const rate = context.learningRate ?? (typeof learningRate === "function" ? learningRate(context.step) : learningRate);
  if (typeof rate !== "number" && rate.ndim !== 0) {
    throw new ShapeError(`${op}: learningRate must be a scalar, got shape [${rate.shape.join(", ")}]`);
  }
  return rate;
}
