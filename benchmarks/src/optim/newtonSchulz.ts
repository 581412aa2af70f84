// optim/newtonSchulz.ts: five Keller steps on squares, on the rectangles of GPT-2, and on batches of them.
import { newtonSchulz } from "@mc/optim";
import { broadcastTo, key, normal, reshape, type Tensor } from "@mc/tensor";
import type { Case, Check } from "../lib/case.ts";
import { keller5, knownMatrix } from "../lib/knownMatrix.ts";
import { places, readAt } from "../lib/sample.ts";

/** Floating-point operations of five steps for short side n and long side m: all of them, and the fewest known. */
export function newtonSchulzFlops(rows: number, cols: number): { flops: number; leastFlops: number } {
  const [n, m] = [Math.min(rows, cols), Math.max(rows, cols)];
  // symmetric products computed half; for rectangles the Gram form with one restart
  const symmetric = 5 * (3 * n * n * m + n ** 3);
  const gram = 6 * n * n * m + 14 * n ** 3;
  return { flops: 5 * (4 * n * n * m + 2 * n ** 3), leastFlops: Math.min(symmetric, gram) };
}

function newtonSchulzCase(rows: number, cols: number, batch?: number, form?: "plain" | "gram"): Case {
  const lead = batch === undefined ? [] : [batch];
  const { flops, leastFlops } = newtonSchulzFlops(rows, cols);
  const count = batch ?? 1;
  return {
    name: `newton-schulz keller x5${form ? `, ${form}` : ""}`,
    shape: [...lead, rows, cols],
    inputs: () => [normal(key(1), [...lead, rows, cols])],
    run: (x) => newtonSchulz(x!, { ...(form && { form }) }),
    flops: count * flops,
    leastFlops: count * leastFlops,
    bytes: 8 * count * rows * cols,
    products: true,
    check: knownCheck(rows, cols, lead),
    tolerance: 2e-4,
    toleranceHalf: 3e-2,
  };
}

/** Orthogonalises a matrix of known singular vectors; compares whole rows, of the last matrix of a batch, by their norm. */
const knownCheck =
  (rows: number, cols: number, lead: readonly number[]): Check =>
  async ({ inputs: [x], again }) => {
    const known = knownMatrix(rows, cols);
    const [out] = again(broadcastTo(known.on(x!.device), [...lead, rows, cols])) as [Tensor];
    const at = places(rows, 16);
    const first = ((lead[0] ?? 1) - 1) * rows;
    const actual = await readAt(
      reshape(out, [-1, cols]),
      at.map((i) => first + i),
    );
    out.dispose();
    return normError(
      actual,
      at.flatMap((i) => Array.from(known.row(i, keller5))),
    );
  };

/** Norm of the difference over norm of what is expected. */
export function normError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return actual.length === expected.length ? Math.sqrt(difference / norm) : Number.POSITIVE_INFINITY;
}

/** All Newton-Schulz cases. */
export const newtonSchulzCases = (small: boolean): Case[] =>
  small
    ? [newtonSchulzCase(64, 64), newtonSchulzCase(48, 192), newtonSchulzCase(192, 48), newtonSchulzCase(48, 192, 3)]
    : [
        ...[1024, 2048, 4096].map((n) => newtonSchulzCase(n, n)),
        newtonSchulzCase(768, 3072),
        newtonSchulzCase(2304, 768),
        newtonSchulzCase(768, 768, 48),
        newtonSchulzCase(768, 3072, 24),
        // the forms that the shapes do not choose
        newtonSchulzCase(768, 768, 48, "gram"),
        newtonSchulzCase(768, 3072, 24, "plain"),
      ];
