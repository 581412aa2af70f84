// attention/sizes.ts: the sizes and parameters that all forms of the attention op share.
import { DTypeError, ShapeError, type TensorSpec } from "@mc/tensor";
import { formatShape } from "../check.ts";

/** Parameters of the attention ops; plain data, part of the graph's structure. */
export interface AttentionParams {
  /** Factor of the dot products before the softmax. */
  readonly scale: number;
  /** Whether a token sees only itself and the tokens before it. */
  readonly causal: boolean;
  /** w: token i sees tokens i - w < j <= i only. Causal attention only. */
  readonly window?: number;
  /** c: a scaled score s becomes c tanh(s / c). */
  readonly softCap?: number;
  /** m of each head: m (i - j) is taken off the score of query i and key j, after the cap. Causal attention only. */
  readonly slopes?: readonly number[];
}

/** The letters of the shapes. */
export interface AttentionSizes {
  /** B, sequences. */
  readonly batch: number;
  /** T, tokens of a sequence. */
  readonly tokens: number;
  /** H, query heads. */
  readonly heads: number;
  /** Hkv, key and value heads; query head h uses number `floor(h / group)`. */
  readonly keyHeads: number;
  /** H / Hkv. */
  readonly group: number;
  /** D, features of a query and a key. */
  readonly size: number;
  /** Dv, features of a value. */
  readonly valueSize: number;
}

/**
 * Sizes from queries [B, T, H, D], keys [B, T, Hkv, D], values [B, T, Hkv, Dv] and document ids [B, T].
 *
 * @throws ShapeError if they do not belong together, DTypeError if the ids are not i32
 */
export function attentionSizes(q: TensorSpec, k: TensorSpec, v: TensorSpec, documents?: TensorSpec): AttentionSizes {
  const heads = (spec: TensorSpec) => formatShape([spec.shape[0]!, spec.shape[2]!, spec.shape[1]!, spec.shape[3]!]);
  const got = () => `got q ${heads(q)}, k ${heads(k)}, v ${heads(v)}`;
  const [batch, tokens, headCount, size] = q.shape as [number, number, number, number];
  const keyHeads = k.shape[2]!;
  if (k.shape[0] !== batch || k.shape[1] !== tokens || k.shape[3] !== size) {
    throw new ShapeError(`attention: q [B, H, T, D] and k [B, Hkv, T, D] must agree in B, T and D, ${got()}`);
  }
  if (v.shape[0] !== batch || v.shape[1] !== tokens || v.shape[2] !== keyHeads) {
    throw new ShapeError(`attention: k and v must agree in B, Hkv and T, ${got()}`);
  }
  if (headCount % keyHeads !== 0)
    throw new ShapeError(`attention: the key heads must divide the query heads, ${got()}`);
  if (documents) {
    if (documents.dtype !== "i32") throw new DTypeError(`attention: document ids must be i32, got ${documents.dtype}`);
    if (formatShape(documents.shape) !== formatShape([batch, tokens])) {
      throw new ShapeError(
        `attention: document ids must be ${formatShape([batch, tokens])}, got ${formatShape(documents.shape)}`,
      );
    }
  }
  return { batch, tokens, heads: headCount, keyHeads, group: headCount / keyHeads, size, valueSize: v.shape[3]! };
}

/** Pairs of a query and a key that see each other in all heads and sequences, documents left out of account. */
export function visiblePairCount(
  { batch, heads, tokens }: AttentionSizes,
  { causal, window = tokens }: AttentionParams,
): number {
  const span = Math.min(window, tokens);
  // the first rows see 1, 2, ... keys, the others `span`
  return batch * heads * (causal ? (span * (span + 1)) / 2 + (tokens - span) * span : tokens ** 2);
}
