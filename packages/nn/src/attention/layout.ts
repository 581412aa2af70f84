// attention/layout.ts: which rows of which parameters make the logits of each head, as data for QK-Clip.

/** Rows of the weight [out, in] at `path`, or elements of the bias [out] there. */
export interface RowRange {
  /** Path in the parameter tree. */
  readonly path: string;
  /** First row. */
  readonly start: number;
  /** Number of rows. */
  readonly rows: number;
}

/** The rows that make one head's logits: of weights and, where there are any, of biases. */
export interface AttentionHead {
  readonly query: readonly RowRange[];
  /** With grouped queries the heads of a group name the same rows. */
  readonly key: readonly RowRange[];
  /** Rows of a query part whose key is shared by all heads (the rotated part of MLA). */
  readonly queryRotary?: readonly RowRange[];
}

/** Attention of one layer. */
export interface AttentionLayout {
  /** Index of the layer's maxima in `maxLogits`. */
  readonly layer: number;
  readonly kind: "mha" | "gqa" | "mla";
  readonly numHeads: number;
  readonly numKeyValueHeads: number;
  /** Whether queries and keys are normalised after their projection: scaling weights does not scale such logits. */
  readonly qkNorm: boolean;
  /** One entry a query head. */
  readonly heads: readonly AttentionHead[];
}
