// attention/op.ts: attention as fused ops, tokens before heads: [B, T, H, D]. A head's rows are then strided, and the rows
// of all heads of a token are the rows that the output projection reads.
import {
  defineFused,
  type FusedOp,
  mul,
  reshape,
  sliceAxis,
  sub,
  sum,
  swapAxes,
  type Tensor,
  zerosLike,
} from "@mc/tensor";
import { attentionBackwardCpu, attentionCpu } from "./cpu.ts";
import { attentionBackwardReference, attentionReference } from "./reference.ts";
import { type AttentionParams, attentionSizes, visiblePairCount } from "./sizes.ts";
import { attentionBackwardRows, attentionRows } from "./wgslRows.ts";
import { attentionBackwardTiles, attentionTiles } from "./wgslTiles.ts";

/**
 * q [B, T, H, D], k [B, T, Hkv, D], v [B, T, Hkv, Dv], document ids i32 [B, T] (optional) ->
 * o [B, T, H, Dv], rowMax [B, H, T], rowLogSumExp [B, H, T]. rowMax is not differentiable.
 */
export const attentionFused: FusedOp<AttentionParams> = {
  name: "attention",
  outputs: ([q, k, v, documents]) => {
    const { batch, tokens, heads, valueSize } = attentionSizes(q!, k!, v!, documents);
    const rows = { shape: [batch, heads, tokens], dtype: "f32" as const };
    return [{ shape: [batch, tokens, heads, valueSize], dtype: "f32" }, rows, rows];
  },
  reference: attentionReference,
  vjp: ({ inputs, outputs: [out, , lse], cotangents: [dOut, , dLse], params }) => {
    const [q, k, v, documents] = inputs as [Tensor, Tensor, Tensor, Tensor?];
    if (!dOut && !dLse) return [];
    const { batch, tokens, keyHeads, size, valueSize, heads } = attentionSizes(q, k, v, documents);
    const dO = dOut ?? zerosLike(out!);
    // rowsum(P * dP) = rowsum(do * o)
    const rowDots = swapAxes(sum(mul(dO, out!), { axis: -1 }), 1, 2);
    const delta = dLse ? sub(rowDots, dLse) : rowDots;
    const [packed] = attentionBackwardOp([q, k, v, lse!, delta, dO, ...(documents ? [documents] : [])], params) as [
      Tensor,
    ];
    // heads of one size are cut out of one tensor of heads: what joins them again, as a gradient of stacked q, k, v does, copies nothing
    const byHead = size === valueSize ? reshape(packed, [batch, tokens, -1, size]) : undefined;
    const part = (start: number, count: number, features: number): Tensor =>
      byHead
        ? sliceAxis(byHead, 2, start / size, start / size + count)
        : reshape(sliceAxis(packed, -1, start, start + count * features), [batch, tokens, count, features]);
    const dk = heads * size;
    const dv = dk + keyHeads * size;
    return [part(0, heads, size), part(dk, keyHeads, size), part(dv, keyHeads, valueSize), undefined];
  },
  // q k^T and P v
  flops: ([q, k, v, documents], params) => {
    const sizes = attentionSizes(q!, k!, v!, documents);
    return 2 * visiblePairCount(sizes, params) * (sizes.size + sizes.valueSize);
  },
  cpu: ([q, k, v, documents], params, device) => attentionCpu(attentionSizes(q!, k!, v!, documents), params, device),
  webgpu: ([q, k, v, documents], params, device) => {
    const kernel = device.software ? attentionRows : attentionTiles;
    return kernel(attentionSizes(q!, k!, v!, documents), params);
  },
};

/** The gradient of `attentionFused`; its own gradient is that of its reference. */
export const attentionBackwardFused: FusedOp<AttentionParams> = {
  name: "attentionBackward",
  outputs: ([q, k, v, , , , documents]) => {
    const { batch, tokens, heads, keyHeads, size, valueSize } = attentionSizes(q!, k!, v!, documents);
    return [{ shape: [batch, tokens, heads * size + keyHeads * (size + valueSize)], dtype: "f32" }];
  },
  reference: attentionBackwardReference,
  // q k^T, do v^T, P^T do, dS k and dS^T q
  flops: ([q, k, v, , , , documents], params) => {
    const sizes = attentionSizes(q!, k!, v!, documents);
    return 2 * visiblePairCount(sizes, params) * (3 * sizes.size + 2 * sizes.valueSize);
  },
  cpu: ([q, k, v, , , , documents], params, device) =>
    attentionBackwardCpu(attentionSizes(q!, k!, v!, documents), params, device),
  webgpu: ([q, k, v, , , , documents], params, device) => {
    const kernel = device.software ? attentionBackwardRows : attentionBackwardTiles;
    return kernel(attentionSizes(q!, k!, v!, documents), params);
  },
};

/** `attentionFused` as a function of its operands. */
export const attentionOp = defineFused(attentionFused);

const attentionBackwardOp = defineFused(attentionBackwardFused);
