// embedding.ts: a table of vectors, looked up by number.
import { foldIn, normal, type Tensor, take } from "@mc/tensor";
import { checkPositive } from "./check.ts";
import type { Layer } from "./layer.ts";

/** Parameters of `embedding`. */
export type EmbeddingParams = {
  /** [numEmbeddings, features]. */
  weight: Tensor;
};

/** Options of `embedding`. */
export interface EmbeddingOptions {
  /** Rows of the table: the size of the vocabulary, or the longest sequence for positions. */
  readonly numEmbeddings: number;
  readonly features: number;
  /** Standard deviation of the normal initial rows; default 0.02 (GPT-2). */
  readonly std?: number;
}

/**
 * Looks up rows of a table: ids i32 [...] give [..., features]. An id outside the table gives NaN.
 *
 * @example
 * const table = embedding({ numEmbeddings: 256, features: 8 });
 * table.apply(table.init(key(1)), tensor([[1, 2, 3]], { dtype: "i32" })); // shape [1, 3, 8]
 */
export function embedding({
  numEmbeddings,
  features,
  std = 0.02,
}: EmbeddingOptions): Layer<EmbeddingParams, [ids: Tensor], Tensor> {
  checkPositive("embedding", "numEmbeddings", numEmbeddings);
  checkPositive("embedding", "features", features);
  return {
    init: (key) => ({ weight: normal(foldIn(key, 0), [numEmbeddings, features], { std }) }),
    apply: (params, ids) => take(params.weight, ids),
    roles: { weight: { role: "embedding" } },
  };
}
