// attention/attention.ts: softmax attention as a function of queries, keys and values.
import {
  concat,
  DTypeError,
  expandDims,
  max,
  mul,
  reshape,
  ShapeError,
  sigmoid,
  split,
  stopGradient,
  sub,
  swapAxes,
  type Tensor,
  ValueError,
} from "@mc/tensor";
import { checkPositive, formatShape } from "../check.ts";
import { attentionOp } from "./op.ts";
import type { AttentionParams } from "./sizes.ts";

/** Options of `attention`. */
export interface AttentionOptions {
  /** Factor of the dot products; default `1 / sqrt(D)`. */
  readonly scale?: number;
  /** Whether token i sees tokens 0..i only; default true. */
  readonly causal?: boolean;
  /** Document of each token, i32 [B, T]: tokens see their own document only. Negative: padding, sees nothing and is not seen. */
  readonly documents?: Tensor;
  /**
   * Sliding window w, a positive integer: token i sees tokens `i - w < j <= i`, itself included; the keys before those cost
   * nothing. Causal attention only. Default: no window. Source: Beltagy et al. 2020 (arXiv:2004.05150).
   */
  readonly window?: number;
  /** Soft cap c, a positive number: scaled scores s become `c tanh(s / c)`. Default: none. Source: Gemma 2 (arXiv:2408.00118). */
  readonly softCap?: number;
  /**
   * A number for each head, as `alibiSlopes` gives: head h takes `slopes[h] (i - j)` off the score of query i and key j, after
   * the cap. Causal attention only. Default: none. Source: Press et al. 2022 (arXiv:2108.12409).
   */
  readonly slopes?: readonly number[];
  /**
   * f32 [H]: a logit for each head that takes part in the softmax's denominator and has no value, so that a head may attend to
   * nothing. Differentiable. Default: none. Source: Xiao et al. 2024 (arXiv:2309.17453) and gpt-oss.
   */
  readonly sinks?: Tensor;
}

/** What `attention` gives. */
export interface AttentionResult {
  /** f32 [B, H, T, Dv]. */
  readonly output: Tensor;
  /**
   * f32 [B, H, T]: each row's largest `scale q.k` among the tokens it sees, before the soft cap and the slopes; -infinity if it sees
   * none. Not differentiable.
   */
  readonly rowMax: Tensor;
  /** f32 [B, H, T]: log of the sum of e^s over the tokens a row sees, s being the softmax's inputs; sinks do not count. */
  readonly rowLogSumExp: Tensor;
}

/**
 * `softmax(s) v`, each row over the tokens it sees; rows that see none give zeros. The softmax's inputs are
 *
 *   s = scale q.k, then c tanh(s / c) with `softCap` c, then s - slopes[h] (i - j) with `slopes`
 *
 * One kernel that never holds the [T, T] scores, with a backward that recomputes them from the log-sum-exp (Dao et al. 2022,
 * arXiv:2205.14135). With fewer key heads than query heads (GQA), query head h uses key head `floor(h * Hkv / H)`.
 *
 * @param q - f32 [B, H, T, D]
 * @param k - f32 [B, Hkv, T, D]; Hkv divides H
 * @param v - f32 [B, Hkv, T, Dv]
 * @throws ShapeError or DTypeError if the operands do not belong together
 * @throws ValueError if `window`, `softCap` or `slopes` is out of its range, or `window` or `slopes` meets `causal: false`
 * @example
 * const q = normal(key(1), [1, 2, 5, 8]);
 * const { output, rowMax } = attention(q, q, q); // shapes [1, 2, 5, 8] and [1, 2, 5]
 * const far = attention(q, q, q, { window: 3, softCap: 50, slopes: alibiSlopes(2), sinks: zeros([2]) });
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): AttentionResult {
  for (const [name, x] of Object.entries({ q, k, v })) {
    if (x.ndim !== 4)
      throw new ShapeError(`attention: ${name} must be [B, H, T, D], got shape ${formatShape(x.shape)}`);
    if (x.dtype !== "f32") throw new DTypeError(`attention: ${name} must be f32, got ${x.dtype}`);
  }
  const { documents, sinks } = options;
  const params = paramsOf(options, q.shape);
  if (sinks) checkSinks(sinks, q.shape[1]!);
  const operands = [q, k, v].map((x) => swapAxes(x, 1, 2));
  const [tokensFirst, rowMax, rowLogSumExp] = attentionOp(documents ? [...operands, documents] : operands, params) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const output = swapAxes(tokensFirst, 1, 2);
  return { output: sinks ? withSinks(output, rowLogSumExp, sinks) : output, rowMax, rowLogSumExp };
}

/**
 * Largest scaled, mask-visible score of each head: f32 [H], over batch and rows of `rowMax` [B, H, T]. This is the
 * S of QK-Clip; it is not differentiable.
 *
 * @example maxLogitOf(attention(q, k, v).rowMax) // shape [H]
 */
export const maxLogitOf = (rowMax: Tensor): Tensor => maxLogitsOf([rowMax])[0]!;

/**
 * `maxLogitOf` of several layers with `rowMax` of one shape, in one reduction: each layer's attention writes its rows to where
 * the reduction reads them.
 *
 * @param rowMax - f32 [B, H, T] of each layer, at least one
 * @returns f32 [H] of each layer
 * @example maxLogitsOf([attention(q, k, v).rowMax, attention(k, q, v).rowMax]) // two tensors of shape [H]
 */
export function maxLogitsOf(rowMax: readonly Tensor[]): Tensor[] {
  const layers = rowMax.length;
  const [batch, heads, tokens] = rowMax[0]!.shape as [number, number, number];
  const maxima = stopGradient(max(reshape(concat(rowMax), [layers, batch, heads, tokens]), { axis: [1, 3] }));
  return split(maxima, layers).map((own) => reshape(own, [heads]));
}

/**
 * One more term in each row's denominator, from what the row gave without it. With L = log sum_j e^s_j and sink z:
 *
 *   sum_j e^s_j v_j / (e^L + e^z) = o e^L / (e^L + e^z) = o sigmoid(L - z)
 *
 * The gradient reaches the scores through L too. A row that sees nothing has L = -infinity, and stays zero.
 */
function withSinks(output: Tensor, rowLogSumExp: Tensor, sinks: Tensor): Tensor {
  return mul(output, expandDims(sigmoid(sub(rowLogSumExp, reshape(sinks, [-1, 1]))), -1));
}

/** The kernel's parameters for q [B, H, T, D]. A window that hides nothing is none. */
function paramsOf(
  { scale, causal = true, window, softCap, slopes }: AttentionOptions,
  [, heads, tokens, size]: readonly number[],
): AttentionParams {
  if (window !== undefined) {
    checkPositive("attention", "window", window);
    if (!causal) throw new ValueError("attention: a window must have causal: true, got causal: false");
  }
  if (softCap !== undefined && !(softCap >= smallest && isFiniteF32(softCap)))
    throw new ValueError(`attention: softCap must be a positive number, got ${softCap}`);
  if (slopes) {
    if (!causal) throw new ValueError("attention: slopes must have causal: true, got causal: false");
    if (slopes.length !== heads || !slopes.every(isFiniteF32)) {
      const got = slopes.length === heads ? `[${slopes.join(", ")}]` : `${slopes.length} for ${heads} heads`;
      throw new ValueError(`attention: slopes must be one finite number for each query head, got ${got}`);
    }
  }
  return {
    scale: scale ?? size! ** -0.5,
    causal,
    ...(window !== undefined && window < tokens! && { window }),
    ...(softCap !== undefined && { softCap }),
    ...(slopes && { slopes: [...slopes] }),
  };
}

/** The smallest f32 that has a reciprocal. */
const smallest = 2 ** -126;

const isFiniteF32 = (x: number): boolean => Number.isFinite(Math.fround(x));

function checkSinks({ shape, dtype }: Tensor, heads: number): void {
  if (dtype !== "f32") throw new DTypeError(`attention: sinks must be f32, got ${dtype}`);
  if (shape.length !== 1 || shape[0] !== heads)
    throw new ShapeError(
      `attention: sinks must be [${heads}], one for each query head, got shape ${formatShape(shape)}`,
    );
}
