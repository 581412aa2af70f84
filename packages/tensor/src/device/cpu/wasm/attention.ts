// attention.ts: fused softmax attention over strided Float32Arrays, computed by the WebAssembly kernels of
// assembly/attention.as one head at a time. Scores exist for 64 query rows at a time only.

import { wasmKernels, wasmRegions } from "./instance.ts";
import { copyStrided } from "./stage.ts";

/** A strided array: value [b, h, ..] is `data[offset + b * strides[0] + h * strides[1] + ..]`. */
export interface AttentionOperand<T extends Float32Array | Int32Array = Float32Array> {
  readonly data: T;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** What forward and backward share. Shapes must fit each other; H is a multiple of G. */
export interface AttentionInputs {
  /** Queries [B, H, Tq, D]. */
  readonly q: AttentionOperand;
  /** Keys [B, G, Tk, D]; query head h uses key head floor(h * G / H). */
  readonly k: AttentionOperand;
  /** Values [B, G, Tk, Dv]. */
  readonly v: AttentionOperand;
  /** Document of each query [B, Tq] and key [B, Tk]: where they differ the key is hidden. */
  readonly documents?: { readonly query: AttentionOperand<Int32Array>; readonly key: AttentionOperand<Int32Array> };
  /** Factor of the scores, usually 1 / sqrt(D). */
  readonly scale: number;
  /** Hide keys j > i + Tk - Tq from query i. */
  readonly causal: boolean;
}

/** Operands of `attentionForward`. */
export interface AttentionForward extends AttentionInputs {
  /** Gets softmax(scores) v, [B, H, Tq, Dv]. */
  readonly output: AttentionOperand;
  /** Gets the largest visible score of each row, [B, H, Tq]. */
  readonly rowMax: AttentionOperand;
  /** Gets log(sum(exp(visible scores))) of each row, [B, H, Tq]. */
  readonly logSumExp: AttentionOperand;
}

/** Operands of `attentionBackward`. */
export interface AttentionBackward extends AttentionInputs {
  /** From the forward, [B, H, Tq]. */
  readonly logSumExp: AttentionOperand;
  /** Gradient of the output, [B, H, Tq, Dv]. */
  readonly dOutput: AttentionOperand;
  /** Get the gradients of q, k and v, in their shapes. */
  readonly dq: AttentionOperand;
  readonly dk: AttentionOperand;
  readonly dv: AttentionOperand;
}

/**
 * output = softmax(scale * q k^T, over visible keys) v, with the maximum and the log-sum-exp of each row of scores.
 *
 * A row that sees no key gives zeros, maximum -Infinity and log-sum-exp -Infinity. A NaN among a row's visible scores
 * shows in all three. f32 throughout, sums in a fixed order: the same bits in every run. Memory of the module:
 * 4 * (Tk * (D + Dv + 64) + Tq * (D + Dv + 2)) bytes and 0.7 MB.
 *
 * @example
 * const row = (...values: number[]) => {
 *   return { data: Float32Array.from(values), offset: 0, shape: [1, 1, values.length, 1], strides: [0, 0, 1, 1] };
 * };
 * const output = row(0, 0);
 * const [rowMax, logSumExp] = [row(0, 0), row(0, 0)];
 * attentionForward({ q: row(1, 1), k: row(0, 0), v: row(2, 4), scale: 1, causal: true, output, rowMax, logSumExp });
 * output.data; // [2, 3]
 */
export function attentionForward(operands: AttentionForward): void {
  const { q, k, v, documents, scale, causal, output, rowMax, logSumExp } = operands;
  const [batch, heads, queries, size] = q.shape;
  const [, groups, keys] = k.shape;
  const valueSize = v.shape[3];
  if (output.shape.includes(0)) return;
  const kernels = wasmKernels();
  const { memory, starts } = wasmRegions(
    kernels.gemmScratchBytes() / 4,
    queries * size,
    keys * size,
    keys * valueSize,
    queries * valueSize,
    queries,
    queries,
    queries,
    pad(keys),
    kernels.attentionBlockRows() * pad(keys),
  );
  const [scratch, atQ, atK, atV, atO, atMax, atSum, atQueryIds, atKeyIds, atScores] = starts;
  for (let b = 0; b < batch; b++) {
    if (documents) copyIds(documents, b, memory, atQueryIds, atKeyIds);
    for (let h = 0; h < heads; h++) {
      const group = Math.floor((h * groups) / heads);
      if ((h * groups) % heads === 0) {
        load(k, b, group, memory, atK);
        load(v, b, group, memory, atV);
      }
      load(q, b, h, memory, atQ);
      kernels.attentionForward(
        atQ,
        atK,
        atV,
        atO,
        atMax,
        atSum,
        documents ? atQueryIds : 0,
        documents ? atKeyIds : 0,
        queries,
        keys,
        size,
        valueSize,
        scale,
        causal ? 1 : 0,
        atScores,
        scratch,
      );
      for (let i = 0; i < queries; i++) memory[atSum / 4 + i] = memory[atMax / 4 + i] + Math.log(memory[atSum / 4 + i]);
      save(output, b, h, memory, atO);
      save(rowMax, b, h, memory, atMax);
      save(logSumExp, b, h, memory, atSum);
    }
  }
}

/**
 * Gradients of q, k and v, from the log-sum-exp of the forward; the scores are computed again.
 *
 *   p = exp(scores - logSumExp)        dv = p^T dOutput            (summed over the query heads of a key head)
 *   dp = dOutput v^T                   ds = scale * p * (dp - sum(p * dp))
 *   dq = ds k                          dk = ds^T q                 (summed likewise)
 *
 * The maximum and the log-sum-exp carry no gradient. Fixed order of sums, as in the forward. Memory of the module:
 * 4 * (Tk * (2 D + 2 Dv + 128) + Tq * (2 D + Dv + 2)) bytes and 0.7 MB.
 *
 * @example
 * const row = (...values: number[]) => {
 *   return { data: Float32Array.from(values), offset: 0, shape: [1, 1, values.length, 1], strides: [0, 0, 1, 1] };
 * };
 * const [dq, dk, dv] = [row(0), row(0, 0), row(0, 0)];
 * const logSumExp = row(Math.log(2));
 * const inputs = { q: row(1), k: row(0, 0), v: row(2, 4), scale: 1, causal: false };
 * attentionBackward({ ...inputs, logSumExp, dOutput: row(1), dq, dk, dv });
 * dv.data; // [0.5, 0.5]
 */
export function attentionBackward(operands: AttentionBackward): void {
  const { q, k, v, documents, scale, causal, logSumExp, dOutput, dq, dk, dv } = operands;
  const [batch, heads, queries, size] = q.shape;
  const [, groups, keys] = k.shape;
  const valueSize = v.shape[3];
  const kernels = wasmKernels();
  const blockSize = kernels.attentionBlockRows() * pad(keys);
  const { memory, starts } = wasmRegions(
    kernels.gemmScratchBytes() / 4,
    queries * size,
    keys * size,
    keys * valueSize,
    queries,
    queries * valueSize,
    queries * size,
    keys * size,
    keys * valueSize,
    queries,
    pad(keys),
    blockSize,
    blockSize,
  );
  const [scratch, atQ, atK, atV, atLse, atDO, atDQ, atDK, atDV, atQueryIds, atKeyIds, atScores, atGradients] = starts;
  const perGroup = heads / groups;
  for (let b = 0; b < batch; b++) {
    if (documents) copyIds(documents, b, memory, atQueryIds, atKeyIds);
    for (let group = 0; group < groups; group++) {
      load(k, b, group, memory, atK);
      load(v, b, group, memory, atV);
      memory.fill(0, atDK / 4, atDK / 4 + keys * size);
      memory.fill(0, atDV / 4, atDV / 4 + keys * valueSize);
      for (let h = group * perGroup; h < (group + 1) * perGroup; h++) {
        load(q, b, h, memory, atQ);
        load(logSumExp, b, h, memory, atLse);
        load(dOutput, b, h, memory, atDO);
        kernels.attentionBackward(
          atQ,
          atK,
          atV,
          atLse,
          atDO,
          atDQ,
          atDK,
          atDV,
          documents ? atQueryIds : 0,
          documents ? atKeyIds : 0,
          queries,
          keys,
          size,
          valueSize,
          scale,
          causal ? 1 : 0,
          atScores,
          atGradients,
          scratch,
        );
        save(dq, b, h, memory, atDQ);
      }
      save(dk, b, group, memory, atDK);
      save(dv, b, group, memory, atDV);
    }
  }
}

/** Rows of scores are padded to two vectors. */
function pad(keys: number): number {
  return Math.ceil(keys / 8) * 8;
}

/** The head [b, h] of an operand as a layout, and the dense one of the same shape at `at` in the module's memory. */
function headLayouts(operand: AttentionOperand, b: number, h: number, memory: Float32Array, at: number) {
  const { data, offset, shape, strides } = operand;
  const sizes = shape.slice(2);
  return {
    sizes,
    outside: { data, offset: offset + b * strides[0] + h * strides[1], strides: strides.slice(2) },
    inside: { data: memory, offset: at / 4, strides: sizes.length === 2 ? [sizes[1], 1] : [1] },
  };
}

function load(operand: AttentionOperand, b: number, h: number, memory: Float32Array, at: number): void {
  const { sizes, outside, inside } = headLayouts(operand, b, h, memory, at);
  if (!sizes.includes(0)) copyStrided(sizes, outside, inside);
}

function save(operand: AttentionOperand, b: number, h: number, memory: Float32Array, at: number): void {
  const { sizes, outside, inside } = headLayouts(operand, b, h, memory, at);
  if (!sizes.includes(0)) copyStrided(sizes, inside, outside);
}

function copyIds(
  { query, key }: NonNullable<AttentionInputs["documents"]>,
  b: number,
  memory: Float32Array<ArrayBuffer>,
  atQueryIds: number,
  atKeyIds: number,
): void {
  const words = new Int32Array(memory.buffer);
  for (const [ids, at] of [
    [query, atQueryIds],
    [key, atKeyIds],
  ] as const) {
    const { data, offset, shape, strides } = ids;
    for (let i = 0; i < shape[1]; i++) words[at / 4 + i] = data[offset + b * strides[0] + i * strides[1]];
  }
}
