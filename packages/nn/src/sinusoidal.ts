// sinusoidal.ts: fixed position vectors (Vaswani et al. 2017, arXiv:1706.03762, section 3.5).
import { add, ShapeError, type Tensor, take } from "@mc/tensor";
import { formatShape } from "./check.ts";
import { hostTable } from "./hostTable.ts";

/** Where tokens stand, for `sinusoidal`. */
export interface SinusoidalOptions {
  /** Base of the wavelengths; default 10000. */
  readonly theta?: number;
  /**
   * Position of each token, i32 [B, T]; default 0, 1, ..., T-1 in every row.
   * Positions outside [0, maxPositions) give NaN.
   */
  readonly positions?: Tensor | undefined;
  /** Bound of `positions`; default T. */
  readonly maxPositions?: number | undefined;
}

/**
 * Adds to each token the vector of its position p: feature 2i is `sin(p / theta^(2i/D))`, feature 2i + 1 is
 * `cos(p / theta^(2i/D))`. Sequences may have any length.
 *
 * @param x - token vectors, f32 [B, T, D]
 * @throws ShapeError if x is not [B, T, D], or `positions` not [B, T]
 * @example sinusoidal(zeros([1, 8, 16])) // the vectors themselves, shape [1, 8, 16]
 */
export function sinusoidal(x: Tensor, { theta = 10000, positions, maxPositions }: SinusoidalOptions = {}): Tensor {
  if (x.ndim !== 3) throw new ShapeError(`sinusoidal: x must be [B, T, D], got shape ${formatShape(x.shape)}`);
  const [batch, tokens, size] = x.shape as [number, number, number];
  if (positions && formatShape(positions.shape) !== formatShape([batch, tokens])) {
    throw new ShapeError(
      `sinusoidal: positions must be ${formatShape([batch, tokens])}, got ${formatShape(positions.shape)}`,
    );
  }
  const length = positions ? (maxPositions ?? tokens) : tokens;
  const table = hostTable(x.device, `sinusoidal ${size} ${theta}`, [length, size], (position, i) => {
    const angle = position * theta ** ((-2 * Math.floor(i / 2)) / size);
    return i % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
  });
  return add(x, positions ? take(table, positions) : table);
}
