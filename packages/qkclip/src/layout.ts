// layout.ts: where each attention head's queries and keys live in the parameters, as data.
import { ValueError } from "@mc/tensor";

/** Rows of the weight [out, in] at `path`, or elements of the bias [out] there. */
export interface RowRange {
  /** Path in the parameter tree, such as "layers.0.attention.q.weight". */
  readonly path: string;
  /** First row. */
  readonly start: number;
  /** Number of rows, at least 1. */
  readonly rows: number;
}

/** The rows that make one head's logits: weights and, where there are any, their biases. */
export interface AttentionHead {
  /** Rows of the query projection (for MLA: the part without rotation, q^C). */
  readonly query: readonly RowRange[];
  /** Rows of the key projection (for MLA: k^C). With grouped queries the heads of a group name the same rows. */
  readonly key: readonly RowRange[];
  /** MLA: rows of the rotated part of the query, q^R. Its key is shared by all heads and stays as it is. */
  readonly queryRotary?: readonly RowRange[];
}

/** Attention of one layer. */
export interface AttentionLayout {
  /** Index of the layer's maxima in `maxLogits`. */
  readonly layer: number;
  readonly kind: "mha" | "gqa" | "mla";
  /** Number of query heads. */
  readonly numHeads: number;
  /** Number of key heads; fewer than `numHeads` means that groups of consecutive query heads share one. */
  readonly numKeyValueHeads: number;
  /** Whether queries and keys are normalised after their projection. Such a layer cannot be clipped. */
  readonly qkNorm: boolean;
  /** One entry a query head. */
  readonly heads: readonly AttentionHead[];
}

/** Whether query heads of the layer share key heads by groups (GQA and MQA; in MLA each head has keys of its own). */
export const sharesKeys = (layout: AttentionLayout): boolean =>
  layout.kind !== "mla" && layout.numKeyValueHeads < layout.numHeads;

const rangeKey = (ranges: readonly RowRange[]): string => ranges.map((r) => `${r.path}:${r.start}:${r.rows}`).join();

/**
 * Checks what a layout claims about itself.
 *
 * @throws ValueError if the layer has QK-norm, heads are miscounted, or heads that share a key are not consecutive
 */
export function checkLayout(layout: AttentionLayout): void {
  const { layer, numHeads, numKeyValueHeads, heads } = layout;
  if (layout.qkNorm) {
    throw new ValueError(
      `qkClip: layer ${layer} normalises queries and keys after their projection, which undoes any scaling of the weights; ` +
        "leave it out of `attention` (its logits are bounded already)",
    );
  }
  if (heads.length !== numHeads)
    throw new ValueError(`qkClip: layer ${layer} must describe its ${numHeads} heads, got ${heads.length}`);
  if (!sharesKeys(layout)) return;
  if (!Number.isInteger(numHeads / numKeyValueHeads)) {
    throw new ValueError(`qkClip: the ${numHeads} heads of layer ${layer} must divide into ${numKeyValueHeads} groups`);
  }
  const size = numHeads / numKeyValueHeads;
  const keys = heads.map((head) => rangeKey(head.key));
  const groups = new Set(keys);
  if (groups.size !== numKeyValueHeads || keys.some((key, h) => key !== keys[h - (h % size)])) {
    throw new ValueError(
      `qkClip: in layer ${layer} each ${size} consecutive heads must share one key, got ${groups.size} keys for ${numHeads} heads`,
    );
  }
}
