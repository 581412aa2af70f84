// attention/cpuLoops.ts: attention on the CPU in plain loops, one head at a time, accumulated in float64. Hidden pairs cost nothing.
import type { CpuFusedKernel, CpuOperand, TypedArray } from "@mc/tensor";
import type { AttentionParams, AttentionSizes } from "./sizes.ts";

/** The forward kernel: see `attentionFused`. */
export function attentionLoops(sizes: AttentionSizes, params: AttentionParams): CpuFusedKernel {
  const { batch, tokens, heads, group, size, valueSize } = sizes;
  const { scale } = params;
  const { inputOf } = scoresOf(params);
  return {
    run: ([q, k, v, documents], [out, rowMax, rowLse]) => {
      const scores = new Float64Array(tokens);
      const acc = new Float64Array(valueSize);
      for (let b = 0; b < batch; b++) {
        const visible = visibility(documents, b, tokens, params);
        for (let h = 0; h < heads; h++) {
          const queries = headOf(q!, b, h);
          const keys = headOf(k!, b, Math.floor(h / group));
          const values = headOf(v!, b, Math.floor(h / group));
          for (let i = 0; i < tokens; i++) {
            const { start, end, document } = visible(i);
            let most = Number.NEGATIVE_INFINITY;
            let shift = Number.NEGATIVE_INFINITY;
            for (let j = start; j < end; j++) {
              scores[j] = Number.NEGATIVE_INFINITY;
              if (document && document[j] !== document[i]) continue;
              const raw = scale * dot(queries, i, keys, j, size);
              scores[j] = inputOf(raw, h, i - j);
              most = Math.max(most, raw);
              shift = Math.max(shift, scores[j]!);
            }
            let total = 0;
            acc.fill(0);
            for (let j = start; j < end; j++) {
              if (scores[j] === Number.NEGATIVE_INFINITY) continue;
              const p = Math.exp(scores[j]! - shift);
              total += p;
              for (let d = 0; d < valueSize; d++) acc[d]! += p * values[j * valueSize + d]!;
            }
            const row = (b * heads + h) * tokens + i;
            const at = out!.offset + ((b * tokens + i) * heads + h) * valueSize;
            for (let d = 0; d < valueSize; d++) out!.data[at + d] = total === 0 ? 0 : acc[d]! / total;
            rowMax!.data[rowMax!.offset + row] = most;
            rowLse!.data[rowLse!.offset + row] = total === 0 ? Number.NEGATIVE_INFINITY : shift + Math.log(total);
          }
        }
      }
    },
  };
}

/** The backward kernel: see `attentionBackwardFused`. */
export function attentionBackwardLoops(sizes: AttentionSizes, params: AttentionParams): CpuFusedKernel {
  const { batch, tokens, heads, keyHeads, group, size, valueSize } = sizes;
  const { scale } = params;
  const { inputOf, derivativeOf } = scoresOf(params);
  return {
    run: ([q, k, v, rowLse, delta, dOut, documents], [packed]) => {
      const dQueries = new Float64Array(tokens * size);
      const dKeys = new Float64Array(tokens * size);
      const dValues = new Float64Array(tokens * valueSize);
      for (let b = 0; b < batch; b++) {
        const visible = visibility(documents, b, tokens, params);
        for (let g = 0; g < keyHeads; g++) {
          const keys = headOf(k!, b, g);
          const values = headOf(v!, b, g);
          dKeys.fill(0);
          dValues.fill(0);
          for (let h = g * group; h < (g + 1) * group; h++) {
            const queries = headOf(q!, b, h);
            const dOuts = headOf(dOut!, b, h);
            dQueries.fill(0);
            for (let i = 0; i < tokens; i++) {
              const { start, end, document } = visible(i);
              const lse = rowOf(rowLse!, b, h, i);
              const rowDelta = rowOf(delta!, b, h, i);
              for (let j = start; j < end; j++) {
                if (document && document[j] !== document[i]) continue;
                const raw = scale * dot(queries, i, keys, j, size);
                const p = Math.exp(inputOf(raw, h, i - j) - lse);
                const ds = p * (dot(dOuts, i, values, j, valueSize) - rowDelta) * scale * derivativeOf(raw);
                for (let d = 0; d < size; d++) {
                  dQueries[i * size + d]! += ds * keys[j * size + d]!;
                  dKeys[j * size + d]! += ds * queries[i * size + d]!;
                }
                for (let d = 0; d < valueSize; d++) dValues[j * valueSize + d]! += p * dOuts[i * valueSize + d]!;
              }
            }
            storeHead(dQueries, packed!, b, h * size, size, tokens);
          }
          storeHead(dKeys, packed!, b, (heads + g) * size, size, tokens);
          storeHead(dValues, packed!, b, (heads + keyHeads) * size + g * valueSize, valueSize, tokens);
        }
      }
    },
  };
}

/** Sum over d of x[i, d] y[j, d]. */
function dot(x: Float64Array, i: number, y: Float64Array, j: number, size: number): number {
  let sum = 0;
  for (let d = 0, a = i * size, b = j * size; d < size; d++) sum += x[a + d]! * y[b + d]!;
  return sum;
}

/**
 * The softmax's input from a scaled score, a head and the distance i - j, and its derivative by the score:
 *   s = c tanh(r / c) - slope (i - j), ds/dr = 1 - tanh^2(r / c)
 */
function scoresOf({ softCap, slopes }: AttentionParams) {
  const cap = softCap === undefined ? (raw: number) => raw : (raw: number) => softCap * Math.tanh(raw / softCap);
  return {
    inputOf: slopes ? (raw: number, h: number, distance: number) => cap(raw) - slopes[h]! * distance : cap,
    derivativeOf: softCap === undefined ? () => 1 : (raw: number) => 1 - Math.tanh(raw / softCap) ** 2,
  };
}

/** For a query: the keys start..end it may see, and the documents where those decide. */
function visibility(
  documents: CpuOperand | undefined,
  b: number,
  tokens: number,
  { causal, window = tokens }: AttentionParams,
) {
  const document =
    documents &&
    Array.from(
      { length: tokens },
      (_, i) => documents.data[documents.offset + b * documents.strides[0]! + i * documents.strides[1]!]!,
    );
  return (i: number): { start: number; end: number; document: readonly number[] | undefined } => ({
    start: causal ? Math.max(0, i + 1 - window) : 0,
    end: document && document[i]! < 0 ? 0 : causal ? i + 1 : tokens,
    document,
  });
}

/** Rows of one head of [B, T, H, D], dense. */
function headOf({ data, offset, strides, shape }: CpuOperand, b: number, h: number): Float64Array {
  const [, tokens, , size] = shape as [number, number, number, number];
  const [byBatch, byToken, byHead, byFeature] = strides as [number, number, number, number];
  const rows = new Float64Array(tokens * size);
  for (let i = 0; i < tokens; i++) {
    const from = offset + b * byBatch + i * byToken + h * byHead;
    for (let d = 0; d < size; d++) rows[i * size + d] = data[from + d * byFeature]!;
  }
  return rows;
}

/** Element of [B, H, T]. */
function rowOf({ data, offset, strides }: CpuOperand, b: number, h: number, i: number): number {
  return data[offset + b * strides[0]! + h * strides[1]! + i * strides[2]!]!;
}

/** Writes a head's rows into [B, T, width] at feature `start`. */
function storeHead(rows: Float64Array, to: CpuOperand, b: number, start: number, size: number, tokens: number): void {
  const data: TypedArray = to.data;
  const width = to.shape[2]!;
  for (let i = 0; i < tokens; i++) {
    const at = to.offset + (b * tokens + i) * width + start;
    for (let d = 0; d < size; d++) data[at + d] = rows[i * size + d]!;
  }
}
