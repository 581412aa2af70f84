// plainNewtonSchulz.ts: Newton-Schulz as it is written down, one product after the other. What `orthogonalise` is tested against.
import { abs, add, div, equal, matmul, max, mT, mul, sqrt, square, sum, type Tensor, where } from "@mc/tensor";
import { type NewtonSchulzOptions, resolveSchedule } from "./newtonSchulz.ts";

/**
 * X = x / (||x|| * normFactor); then for each step A = X X^T, X = a*X + (b*A + c*A*A) X. With rows <= cols, by transposing.
 *
 * Costs 4 n^2 m + 2 n^3 floating-point operations a step for a matrix with short side n and long side m.
 *
 * @param x f32 [..., rows, cols]
 */
export function plainNewtonSchulz(x: Tensor, { schedule, normFactor }: NewtonSchulzOptions = {}): Tensor {
  const [rows, cols] = x.shape.slice(-2) as [number, number];
  if (rows > cols) return mT(plainNewtonSchulz(mT(x), { schedule, normFactor }));
  const { steps, normFactor: factor } = resolveSchedule(schedule, normFactor);
  const perMatrix = { axis: [-2, -1], keepDims: true };
  const largest = max(abs(x), perMatrix);
  const scaled = div(x, where(equal(largest, 0), 1, largest));
  const squared = sum(square(scaled), perMatrix);
  let X = div(scaled, mul(sqrt(where(equal(squared, 0), 1, squared)), factor));
  for (const [a, b, c] of steps) {
    const A = matmul(X, mT(X));
    X = add(mul(X, a), matmul(add(mul(A, b), mul(matmul(A, A), c)), X));
  }
  return X;
}
