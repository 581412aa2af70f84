// orthogonalise.ts: Newton-Schulz as products of symmetric n x n matrices, n being the short side.
import {
  abs,
  add,
  concat,
  div,
  equal,
  iota,
  matmul,
  max,
  mT,
  mul,
  split,
  sqrt,
  square,
  sum,
  type Tensor,
  where,
} from "@mc/tensor";
import type { Quintic } from "./newtonSchulz.ts";

/** "plain": every step multiplies X. "gram": steps multiply n x n matrices, and X is multiplied at a few restarts only. */
export type NewtonSchulzForm = "plain" | "gram";

// A step with X, R = X X^T and P = a*I + b*R + c*R*R turns X into P X and R into P R P. So several steps need R once and X
// once: their product Q of all P, and then Q X. All n x n products are symmetric, and half of each is computed.
//
//   floating-point operations of T steps in S runs   3 n^2 m S + n^3 (4 T - 3 S)
//   plain, S = T                                     (3 n^2 m + n^3) T        (4 n^2 m + 2 n^3) T with dense products
//   gram, T = 5, S = 2                               6 n^2 m + 14 n^3         8 n^2 m + 28 n^3
//
// Equal for squares, where plain has fewer and denser products; gram is 1.35 times faster at m = 2 n, 1.7 at m = 4 n.
const GRAM_ASPECT = 1.5;

// What rounding leaves in the null space of R grows by a^2 a step, and makes eigenvalues negative in the end, where P is large.
// So R is made anew, from X, before its last use in a run would have it grown by more than this. For five steps that is after
// the third. After the second (Dao-AILab/gram-newton-schulz) costs the same; but then the longer run is the later one, whose R
// is larger: with operands rounded to f16, Polar Express ends at 1.17 to 1.30 instead of 1.14, after the third at 1.143.
const GROWTH = 1300;

// X is kept this many times as large, and R with its square: where operands are rounded to f16, elements of R as small as
// 1 / (n sqrt(m)) would be subnormal otherwise. A power of two: in f32 it changes no bit.
const LARGER = 32;

/** The steps for X and R that are larger; the last one makes X its own size. */
const forLarger = (steps: readonly Quintic[]): Quintic[] =>
  steps.map(([a, b, c], i): Quintic => {
    const size = i === steps.length - 1 ? LARGER : 1;
    return [a / size, b / (size * LARGER ** 2), c / (size * LARGER ** 4)];
  });

/** Which of the two forms takes fewer operations for matrices with these sides. */
export const formFor = (rows: number, cols: number): NewtonSchulzForm =>
  Math.max(rows, cols) >= GRAM_ASPECT * Math.min(rows, cols) ? "gram" : "plain";

/** The steps in runs, each of which begins with R made from X. */
export function runsOfSteps(steps: readonly Quintic[], form: NewtonSchulzForm): Quintic[][] {
  const runs: Quintic[][] = [];
  let growth = 1; // of R, from the first step of a run to its last
  for (const [i, step] of steps.entries()) {
    growth *= Math.max(1, (steps[i - 1]?.[0] ?? 1) ** 2);
    if (form === "gram" && i > 0 && growth <= GROWTH) runs.at(-1)!.push(step);
    else {
      runs.push([step]);
      growth = 1;
    }
  }
  return runs;
}

/** What `orthogonalise` needs to know. */
export interface OrthogonaliseOptions {
  readonly steps: readonly Quintic[];
  /** Each matrix is divided by its Frobenius norm times this. */
  readonly normFactor: number;
  readonly form: NewtonSchulzForm;
  /** Multiplies matrices; default `matmul`. For tests of what rounding does. */
  readonly product?: typeof matmul;
}

/**
 * Replaces the singular values of each matrix by about 1.
 *
 * @param groups f32 [..., rows, cols] (with several groups [batch, rows, cols]), all with the same short side; wide and tall
 * ones may be mixed: none is transposed
 * @returns the same shapes
 */
export function orthogonalise(
  groups: readonly Tensor[],
  { steps, normFactor, form, product = matmul }: OrthogonaliseOptions,
): Tensor[] {
  const n = Math.min(...groups[0]!.shape.slice(-2));
  const { device } = groups[0]!;
  const diagonal = equal(iota([n, n], 0, { device }), iota([n, n], 1, { device }));
  const gram = (x: Tensor): Tensor => product(...(isTall(x) ? ([mT(x), x] as const) : ([x, mT(x)] as const)), half);
  // of symmetric matrices that commute. Transposing the left one changes no number: both then lie in memory as tiles want
  // them, and a matrix that is squared is read, or rounded, once
  const symmetric = (a: Tensor, b: Tensor): Tensor => product(mT(a), b, half);

  let X = groups.map((x) => normalise(x, normFactor));
  for (const run of runsOfSteps(forLarger(steps), form)) {
    let R = concat(X.map(gram));
    let Q: Tensor | undefined;
    for (const [i, [a, b, c]] of run.entries()) {
      const P = add(where(diagonal, a, 0), add(mul(R, b), mul(symmetric(R, R), c)));
      Q = Q ? symmetric(Q, P) : P;
      if (i < run.length - 1) R = symmetric(P, symmetric(R, P));
    }
    const ofGroups = splitLike(Q as Tensor, X);
    X = X.map((x, g) => (isTall(x) ? product(x, ofGroups[g]!) : product(mT(ofGroups[g]!), x)));
  }
  return X;
}

/** Half of a product is computed. */
const half = { symmetric: true } as const;

const isTall = (x: Tensor): boolean => x.shape.at(-2)! > x.shape.at(-1)!;

/** The matrices of Q that belong to each group. */
const splitLike = (Q: Tensor, groups: readonly Tensor[]): Tensor[] =>
  groups.length === 1
    ? [Q]
    : split(
        Q,
        groups.map((x) => x.shape[0]!),
      );

/**
 * LARGER * x / (||x|| * factor) for each matrix, by way of rows: a GPU has many more of them than matrices. Each row is divided by its
 * largest element before it is squared, so that squares neither overflow nor vanish; zero gives zero, a NaN stays a NaN.
 */
function normalise(x: Tensor, factor: number): Tensor {
  const orOne = (y: Tensor): Tensor => where(equal(y, 0), 1, y);
  const row = { axis: -1, keepDims: true };
  const column = { axis: -2, keepDims: true };
  const largestOfRow = max(abs(x), row);
  const squaresOfRow = sum(square(div(x, orOne(largestOfRow))), row);
  const largest = orOne(max(largestOfRow, column));
  const squares = sum(mul(squaresOfRow, square(div(largestOfRow, largest))), column);
  return div(div(x, largest), mul(sqrt(orOne(squares)), factor / LARGER));
}
