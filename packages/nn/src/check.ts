// check.ts: argument checks shared by the layers.
import { ShapeError, type Tensor, ValueError } from "@mc/tensor";

export const formatShape = (shape: readonly number[]): string => `[${shape.join(", ")}]`;

/** Throws ValueError unless the number is a positive integer. */
export function checkPositive(op: string, name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new ValueError(`${op}: ${name} must be a positive integer, got ${value}`);
}

/** Throws ShapeError unless the last axis has the given size. */
export function checkFeatures(op: string, x: Tensor, features: number): void {
  if (x.shape.at(-1) !== features)
    throw new ShapeError(`${op}: the last axis must have size ${features}, got shape ${formatShape(x.shape)}`);
}
