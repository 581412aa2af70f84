// attention/cpu.ts: attention on the CPU: WebAssembly SIMD in f32, plain loops in f64.
import type { CpuFusedKernel, CpuOperand, Device } from "@mc/tensor";
import { type AttentionOperand, attentionBackward, attentionForward } from "@mc/tensor/cpu";
import { attentionBackwardLoops, attentionLoops } from "./cpuLoops.ts";
import type { AttentionParams, AttentionSizes } from "./sizes.ts";

/** The forward kernel: see `attentionFused`. */
export function attentionCpu(sizes: AttentionSizes, params: AttentionParams, device: Device): CpuFusedKernel {
  if (device.precision === "f64") return attentionLoops(sizes, params);
  return {
    run: ([q, k, v, documents], [out, rowMax, rowLse]) => {
      attentionForward({
        ...params,
        q: headsFirst(q!),
        k: headsFirst(k!),
        v: headsFirst(v!),
        ...(documents && { documents: seenDocuments(documents) }),
        output: headsFirst(out!),
        rowMax: rowMax as AttentionOperand,
        logSumExp: rowLse as AttentionOperand,
      });
    },
  };
}

/** The backward kernel: see `attentionBackwardFused`. */
export function attentionBackwardCpu(sizes: AttentionSizes, params: AttentionParams, device: Device): CpuFusedKernel {
  if (device.precision === "f64") return attentionBackwardLoops(sizes, params);
  const { heads, keyHeads, size, valueSize } = sizes;
  return {
    run: ([q, k, v, rowLse, delta, dOut, documents], [packed]) => {
      attentionBackward({
        ...params,
        q: headsFirst(q!),
        k: headsFirst(k!),
        v: headsFirst(v!),
        ...(documents && { documents: seenDocuments(documents) }),
        logSumExp: rowLse as AttentionOperand,
        delta: delta as AttentionOperand,
        dOutput: headsFirst(dOut!),
        dq: partOf(packed!, 0, heads, size),
        dk: partOf(packed!, heads * size, keyHeads, size),
        dv: partOf(packed!, (heads + keyHeads) * size, keyHeads, valueSize),
      });
    },
  };
}

/** [B, T, H, D] as [B, H, T, D]. */
function headsFirst({ data, offset, shape, strides }: CpuOperand): AttentionOperand {
  const swap = ([b, t, h, d]: readonly number[]): number[] => [b!, h!, t!, d!];
  return { data: data as Float32Array, offset, shape: swap(shape), strides: swap(strides) };
}

/** The features from `start` of the packed gradients [B, T, width], as [B, heads, T, size]. */
function partOf(
  { data, offset, shape, strides }: CpuOperand,
  start: number,
  heads: number,
  size: number,
): AttentionOperand {
  return {
    data: data as Float32Array,
    offset: offset + start,
    shape: [shape[0]!, heads, shape[1]!, size],
    strides: [strides[0]!, size, strides[1]!, 1],
  };
}

/** Document ids by which a token of a negative document sees nothing and is not seen: its id as a query and as a key differ. */
function seenDocuments({ data, offset, shape, strides }: CpuOperand) {
  const [batch, tokens] = shape as [number, number];
  const ids = (padding: number): AttentionOperand<Int32Array> => {
    const dense = new Int32Array(batch * tokens);
    for (let b = 0; b < batch; b++) {
      for (let i = 0; i < tokens; i++) {
        const id = data[offset + b * strides[0]! + i * strides[1]!]!;
        dense[b * tokens + i] = id < 0 ? padding : id;
      }
    }
    return { data: dense, offset: 0, shape: [batch, tokens], strides: [tokens, 1] };
  };
  return { query: ids(-1), key: ids(-2) };
}
