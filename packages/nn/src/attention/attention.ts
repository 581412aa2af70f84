// attention/attention.ts: softmax attention as a function of queries, keys and values.
import { DTypeError, max, ShapeError, stopGradient, swapAxes, type Tensor } from "@mc/tensor";
import { formatShape } from "../check.ts";
import { attentionOp } from "./op.ts";

/** Options of `attention`. */
export interface AttentionOptions {
  /** Factor of the dot products; default `1 / sqrt(D)`. */
  readonly scale?: number;
  /** Whether token i sees tokens 0..i only; default true. */
  readonly causal?: boolean;
  /** Document of each token, i32 [B, T]: tokens see their own document only. Negative: padding, sees nothing and is not seen. */
  readonly documents?: Tensor;
}

/** What `attention` gives. */
export interface AttentionResult {
  /** f32 [B, H, T, Dv]. */
  readonly output: Tensor;
  /** f32 [B, H, T]: each row's largest scaled score among the tokens it sees, -infinity if it sees none. Not differentiable. */
  readonly rowMax: Tensor;
  /** f32 [B, H, T]: log of the sum of e^score over the tokens a row sees. */
  readonly rowLogSumExp: Tensor;
}

/**
 * `softmax(scale * q k^T) v`, each row over the tokens it sees; rows that see none give zeros. One kernel that never holds
 * the [T, T] scores, with a backward that recomputes them from the log-sum-exp (Dao et al. 2022, arXiv:2205.14135).
 * With fewer key heads than query heads (GQA), query head h uses key head `floor(h * Hkv / H)`.
 *
 * @param q - f32 [B, H, T, D]
 * @param k - f32 [B, Hkv, T, D]; Hkv divides H
 * @param v - f32 [B, Hkv, T, Dv]
 * @throws ShapeError or DTypeError if the operands do not belong together
 * @example
 * const q = normal(key(1), [1, 2, 5, 8]);
 * const { output, rowMax } = attention(q, q, q); // shapes [1, 2, 5, 8] and [1, 2, 5]
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { scale, causal = true, documents }: AttentionOptions = {},
): AttentionResult {
  for (const [name, x] of Object.entries({ q, k, v })) {
    if (x.ndim !== 4)
      throw new ShapeError(`attention: ${name} must be [B, H, T, D], got shape ${formatShape(x.shape)}`);
    if (x.dtype !== "f32") throw new DTypeError(`attention: ${name} must be f32, got ${x.dtype}`);
  }
  const operands = [q, k, v].map((x) => swapAxes(x, 1, 2));
  const params = { scale: scale ?? q.shape[3]! ** -0.5, causal };
  const [output, rowMax, rowLogSumExp] = attentionOp(documents ? [...operands, documents] : operands, params) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  return { output: swapAxes(output, 1, 2), rowMax, rowLogSumExp };
}

/**
 * Largest scaled, mask-visible softmax input of each head: f32 [H], over batch and rows of `rowMax` [B, H, T]. This is the
 * S of QK-Clip; it is not differentiable.
 *
 * @example maxLogitOf(attention(q, k, v).rowMax) // shape [H]
 */
export const maxLogitOf = (rowMax: Tensor): Tensor => stopGradient(max(rowMax, { axis: [0, 2] }));
