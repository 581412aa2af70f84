// attention.ts: fused softmax attention over strided Float32Arrays, computed by the WebAssembly kernels of
// assembly/attention.as one head at a time. Scores exist for a few query rows at a time only.

import { wasmKernels, wasmRegions } from "./instance.ts";
import { keyRanges } from "./ranges.ts";
import { copyIn, copyStrided, planStage, type StagePlan } from "./stage.ts";

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
  /** Hide the keys before the last so many that a causal mask leaves. Hidden keys cost nothing. */
  readonly window?: number;
  /** c: a scaled score s becomes c tanh(s / c). */
  readonly softCap?: number;
  /** Of each head: slope * (i + Tk - Tq - j) is then taken off. */
  readonly slopes?: readonly number[];
}

/** Operands of `attentionForward`. */
export interface AttentionForward extends AttentionInputs {
  /** Gets softmax(scores) v, [B, H, Tq, Dv]. */
  readonly output: AttentionOperand;
  /** Gets the largest visible `scale q k^T` of each row, before cap and slopes, [B, H, Tq]. */
  readonly rowMax: AttentionOperand;
  /** Gets log(sum(exp(visible scores))) of each row, after them, [B, H, Tq]. */
  readonly logSumExp: AttentionOperand;
}

/** Operands of `attentionBackward`. */
export interface AttentionBackward extends AttentionInputs {
  /** From the forward, [B, H, Tq]. */
  readonly logSumExp: AttentionOperand;
  /** [B, H, Tq]: rowsum(dOutput * output), less the gradient of the log-sum-exp where one flows in. */
  readonly delta: AttentionOperand;
  /** Gradient of the output, [B, H, Tq, Dv]. */
  readonly dOutput: AttentionOperand;
  /** Get the gradients of q, k and v, in their shapes. */
  readonly dq: AttentionOperand;
  readonly dk: AttentionOperand;
  readonly dv: AttentionOperand;
}

/**
 * output = softmax(scores, over visible keys) v, with the maximum and the log-sum-exp of each row of scores. Scores are scale * q k^T,
 * capped and with slopes where those are given.
 *
 * A row that sees no key gives zeros, maximum -Infinity and log-sum-exp -Infinity. A NaN among a row's visible scores
 * shows in all three. f32 throughout, sums in a fixed order: the same bits in every run. Holds one batch
 * row of each operand (of up to four times that where operands are columns of a wider array), and four rows of scores.
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
  const { q, k, v, documents, scale, causal, window, softCap = 0, slopes, output, rowMax, logSumExp } = operands;
  const [batch, heads, queries, size] = q.shape;
  const [, groups, keys] = k.shape;
  const valueSize = v.shape[3];
  if (output.shape.includes(0)) return;
  const kernels = wasmKernels();
  const [rows, columns, width, valueWidth] = [pad(queries, 4), pad(keys, 8), pad(size, 8), pad(valueSize, 8)];
  const plans = [q, k, v].map(planBatch);
  const together = denseTogether([output]);
  const { memory, starts } = wasmRegions(
    ...plans.map((plan) => plan.size),
    together ?? 0,
    rows * width,
    width * columns,
    columns * valueWidth,
    rows * valueWidth,
    rows,
    rows,
    rows,
    rows / 2,
    rows,
    columns,
    4 * columns,
  );
  const [allQ, allK, allV, allO, atQ, atKT, atV, atO, atMax, ofInputs, atSum, ...rest] = starts;
  const [atRanges, atQueryIds, atKeyIds, atScores] = rest;
  const atShift = softCap || slopes ? ofInputs : atMax;
  if (rows !== queries || columns !== keys || width !== size || valueWidth !== valueSize) clear(memory, atQ, atO);
  const words = new Int32Array(memory.buffer);
  for (let b = 0; b < batch; b++) {
    const headQ = loadBatch(q, b, plans[0], memory, allQ);
    const headK = loadBatch(k, b, plans[1], memory, allK);
    const headV = loadBatch(v, b, plans[2], memory, allV);
    if (documents || b === 0) loadMask(operands, b, words, atRanges, atQueryIds, atKeyIds);
    for (let h = 0; h < heads; h++) {
      const group = Math.floor((h * groups) / heads);
      if ((h * groups) % heads === 0) {
        copyHead(headK(group), { at: atKT, row: 1, column: columns }, keys, size);
        copyHead(headV(group), { at: atV, row: valueWidth, column: 1 }, keys, valueSize);
      }
      copyHead(headQ(h), { at: atQ, row: width, column: 1 }, queries, size);
      kernels.attentionForward(
        atQ,
        atKT,
        atV,
        atO,
        atMax,
        atShift,
        atSum,
        atRanges,
        documents ? atQueryIds : 0,
        documents ? atKeyIds : 0,
        queries,
        keys,
        width,
        valueWidth,
        scale,
        causal ? 1 : 0,
        causal ? (window ?? 0) : 0,
        softCap,
        slopes?.[h] ?? 0,
        atScores,
      );
      for (let i = 0; i < queries; i++)
        memory[atSum / 4 + i] = memory[atShift / 4 + i] + Math.log(memory[atSum / 4 + i]);
      saveHead(output, b, h, memory, { at: atO, row: valueWidth, column: 1 }, together && allO - 4 * output.offset);
      saveRow(rowMax, b, h, memory, atMax);
      saveRow(logSumExp, b, h, memory, atSum);
    }
    if (together) saveBatch(output, b, memory, allO, output.offset, together);
  }
}

/**
 * Gradients of q, k and v, from the log-sum-exp of the forward; the scores are computed again.
 *
 *   p = exp(scores - logSumExp)        dv = p^T dOutput            (summed over the query heads of a key head)
 *   dp = dOutput v^T                   ds = scale * p * (dp - delta), times 1 - tanh^2 with a cap
 *   dq = ds k                          dk = ds^T q                 (summed likewise)
 *
 * The maximum carries no gradient; that of the log-sum-exp comes in through delta. Fixed order of sums, as in the forward. Holds what
 * the forward holds, and 64 rows of scores.
 *
 * @example
 * const row = (...values: number[]) => {
 *   return { data: Float32Array.from(values), offset: 0, shape: [1, 1, values.length, 1], strides: [0, 0, 1, 1] };
 * };
 * const [dq, dk, dv] = [row(0), row(0, 0), row(0, 0)];
 * const logSumExp = row(Math.log(2));
 * const inputs = { q: row(1), k: row(0, 0), v: row(2, 4), scale: 1, causal: false };
 * attentionBackward({ ...inputs, logSumExp, delta: row(3), dOutput: row(1), dq, dk, dv });
 * dv.data; // [0.5, 0.5]
 */
export function attentionBackward(operands: AttentionBackward): void {
  const { q, k, v, documents, scale, causal, window, softCap = 0, slopes } = operands;
  const { logSumExp, delta, dOutput, dq, dk, dv } = operands;
  const [batch, heads, queries, size] = q.shape;
  const [, groups, keys] = k.shape;
  const valueSize = v.shape[3];
  if (batch * heads * queries * keys === 0) {
    zero([dq, dk, dv]);
    return;
  }
  const kernels = wasmKernels();
  const [rows, columns, width, valueWidth] = [pad(queries, 4), pad(keys, 8), pad(size, 8), pad(valueSize, 8)];
  const blockSize = kernels.attentionBlockRows() * columns;
  const plans = [q, k, v, dOutput, logSumExp, delta].map(planBatch);
  const together = denseTogether([dq, dk, dv]);
  const first = Math.min(dq.offset, dk.offset, dv.offset);
  const { memory, starts } = wasmRegions(
    ...plans.map((plan) => plan.size),
    together ?? 0,
    rows * width,
    columns * width,
    width * columns,
    valueWidth * columns,
    rows,
    rows,
    rows * valueWidth,
    rows * width,
    columns * width,
    columns * valueWidth,
    rows / 2,
    rows,
    columns,
    blockSize,
    blockSize,
    columns,
  );
  const [allQ, allK, allV, allDO, allLse, allDelta, allGradients, ...one] = starts;
  const [atQ, atK, atKT, atVT, atLse, atDelta, atDO, atDQ, atDK, atDV, ...rest] = one;
  const [atRanges, atQueryIds, atKeyIds, atP, atDS, atSlopes] = rest;
  if (rows !== queries || columns !== keys || width !== size || valueWidth !== valueSize) clear(memory, atQ, atDQ);
  const inGradients = together && allGradients - 4 * first;
  const perGroup = heads / groups;
  const words = new Int32Array(memory.buffer);
  for (let b = 0; b < batch; b++) {
    const headQ = loadBatch(q, b, plans[0], memory, allQ);
    const headK = loadBatch(k, b, plans[1], memory, allK);
    const headV = loadBatch(v, b, plans[2], memory, allV);
    const headDO = loadBatch(dOutput, b, plans[3], memory, allDO);
    const headLse = loadBatch(logSumExp, b, plans[4], memory, allLse);
    const headDelta = loadBatch(delta, b, plans[5], memory, allDelta);
    if (documents || b === 0) loadMask(operands, b, words, atRanges, atQueryIds, atKeyIds);
    for (let group = 0; group < groups; group++) {
      copyHead(headK(group), { at: atK, row: width, column: 1 }, keys, size);
      copyHead(headK(group), { at: atKT, row: 1, column: columns }, keys, size);
      copyHead(headV(group), { at: atVT, row: 1, column: columns }, keys, valueSize);
      clear(memory, atDK, atRanges);
      for (let h = group * perGroup; h < (group + 1) * perGroup; h++) {
        copyHead(headQ(h), { at: atQ, row: width, column: 1 }, queries, size);
        copyHead(headDO(h), { at: atDO, row: valueWidth, column: 1 }, queries, valueSize);
        copyHead(headLse(h), { at: atLse, row: 1, column: 1 }, queries, 1);
        copyHead(headDelta(h), { at: atDelta, row: 1, column: 1 }, queries, 1);
        kernels.attentionBackward(
          atQ,
          atK,
          atKT,
          atVT,
          atLse,
          atDelta,
          atDO,
          atDQ,
          atDK,
          atDV,
          atRanges,
          documents ? atQueryIds : 0,
          documents ? atKeyIds : 0,
          queries,
          keys,
          width,
          valueWidth,
          scale,
          causal ? 1 : 0,
          causal ? (window ?? 0) : 0,
          softCap,
          slopes?.[h] ?? 0,
          atP,
          atDS,
          atSlopes,
        );
        saveHead(dq, b, h, memory, { at: atDQ, row: width, column: 1 }, inGradients);
      }
      saveHead(dk, b, group, memory, { at: atDK, row: width, column: 1 }, inGradients);
      saveHead(dv, b, group, memory, { at: atDV, row: valueWidth, column: 1 }, inGradients);
    }
    if (together) saveBatch(dq, b, memory, allGradients, first, together);
  }
}

/** The kernels work on whole tiles. */
function pad(size: number, step: number): number {
  return Math.ceil(size / step) * step;
}

/** Zeros the regions from `start` up to `end`. */
function clear(memory: Float32Array, start: number, end: number): void {
  memory.fill(0, start / 4, end / 4);
}

/** A matrix in the module's memory: where it starts, in bytes, and its strides, in elements. */
interface Matrix {
  readonly at: number;
  readonly row: number;
  readonly column: number;
}

/** How the heads of one batch row of an operand will lie in the module's memory. */
function planBatch({ shape, strides }: AttentionOperand): StagePlan {
  if (shape.includes(0)) return { size: 0, origin: 0, strides: strides.slice(1), asSpan: true };
  return planStage(shape.slice(1), strides.slice(1), 4); // q, k and v are often columns of one array
}

/** Copies batch row b of an operand to `at`, and gives its heads there. */
function loadBatch(operand: AttentionOperand, b: number, plan: StagePlan, memory: Float32Array, at: number) {
  const { data, offset, shape, strides } = operand;
  if (plan.size > 0)
    copyIn(shape.slice(1), { data, offset: offset + b * strides[0], strides: strides.slice(1) }, plan, memory, at / 4);
  const [head, row, column = 0] = plan.strides;
  return (h: number): Matrix => ({ at: at + 4 * (plan.origin + h * head), row, column });
}

function copyHead(from: Matrix, to: Matrix, rows: number, columns: number): void {
  wasmKernels().copyMatrix(from.at, 4 * from.row, 4 * from.column, to.at, 4 * to.row, 4 * to.column, rows, columns);
}

/** Elements of a batch row of outputs that lie in one array and leave no gap there; undefined for others. */
function denseTogether(operands: readonly AttentionOperand[]): number | undefined {
  const [{ data, strides }] = operands;
  const spans = operands.map((x) =>
    x.shape.slice(1).reduce((sum, size, axis) => sum + (size - 1) * x.strides[axis + 1], 1),
  );
  const first = Math.min(...operands.map((x) => x.offset));
  const end = Math.max(...operands.map((x, i) => x.offset + spans[i]));
  const elements = operands.reduce((sum, x) => sum + x.shape[1] * x.shape[2] * x.shape[3], 0);
  const one = operands.every((x) => x.data === data && x.strides[0] === strides[0] && x.strides.every((s) => s >= 0));
  return one && end - first === elements ? elements : undefined;
}

/**
 * Copies a head's result out: to its array, or, where the batch row is copied out as a whole, to its place in the region
 * whose byte `origin` stands for element 0 of the array's first batch row.
 */
function saveHead(
  to: AttentionOperand,
  b: number,
  h: number,
  memory: Float32Array,
  from: Matrix,
  origin: number | undefined,
): void {
  const { data, offset, shape, strides } = to;
  const [, , rows, columns] = shape;
  if (origin !== undefined) {
    copyHead(from, { at: origin + 4 * (offset + h * strides[1]), row: strides[2], column: strides[3] }, rows, columns);
    return;
  }
  const inside = { data: memory, offset: from.at / 4, strides: [from.row, from.column] };
  const outside = { data, offset: offset + b * strides[0] + h * strides[1], strides: strides.slice(2) };
  if (rows * columns > 0) copyStrided([rows, columns], inside, outside);
}

/** Copies the region of a batch row to its array. */
function saveBatch(
  { data, strides }: AttentionOperand,
  b: number,
  memory: Float32Array,
  at: number,
  first: number,
  size: number,
): void {
  data.set(memory.subarray(at / 4, at / 4 + size), first + b * strides[0]);
}

/** Copies one number a row to [b, h] of [B, H, Tq]. */
function saveRow(
  { data, offset, shape, strides }: AttentionOperand,
  b: number,
  h: number,
  memory: Float32Array,
  at: number,
): void {
  const outside = { data, offset: offset + b * strides[0] + h * strides[1], strides: [strides[2]] };
  copyStrided([shape[2]], { data: memory, offset: at / 4, strides: [1] }, outside);
}

/** Gradients of nothing. */
function zero(operands: readonly AttentionOperand[]): void {
  for (const { data, offset, shape, strides } of operands) {
    if (shape.includes(0)) continue;
    copyStrided(
      shape,
      { data: new Float32Array(1), offset: 0, strides: shape.map(() => 0) },
      { data, offset, strides },
    );
  }
}

/** Copies what a batch row's queries see: the ranges of keys, and the ids where there are documents. */
function loadMask(
  { q, k, documents, causal, window }: AttentionInputs,
  b: number,
  words: Int32Array,
  atRanges: number,
  atQueryIds: number,
  atKeyIds: number,
): void {
  const idsAt = ({ data, offset, shape, strides }: AttentionOperand<Int32Array>, at: number): Int32Array => {
    for (let i = 0; i < shape[1]; i++) words[at / 4 + i] = data[offset + b * strides[0] + i * strides[1]];
    return words.subarray(at / 4, at / 4 + shape[1]);
  };
  const ids = documents && { query: idsAt(documents.query, atQueryIds), key: idsAt(documents.key, atKeyIds) };
  const ranges = keyRanges({
    queries: q.shape[2],
    keys: k.shape[2],
    causal,
    ...(window && { window }),
    ...(ids && { documents: ids }),
  });
  words.set(ranges, atRanges / 4);
}
