// checks.ts: hyperparameters within their range.
import { ValueError } from "@mc/tensor";

/** @throws ValueError outside [0, 1) */
export function checkFraction(op: string, name: string, value: number): void {
  if (!(value >= 0 && value < 1))
    throw new ValueError(`${op}: ${name} must be at least 0 and less than 1, got ${value}`);
}

/** @throws ValueError below 0, or if not finite */
export function checkNotNegative(op: string, name: string, value: number): void {
  if (!(value >= 0 && Number.isFinite(value)))
    throw new ValueError(`${op}: ${name} must be a finite number of at least 0, got ${value}`);
}
