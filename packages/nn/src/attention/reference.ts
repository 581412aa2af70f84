// attention/reference.ts: attention and its gradient in plain ops. They say what the kernels compute; on a real device they
// hold [B, H, T, T] scores.
import {
  add,
  broadcastTo,
  concat,
  equal,
  exp,
  expandDims,
  greaterEqual,
  iota,
  log,
  logicalAnd,
  matmul,
  max,
  mT,
  mul,
  notEqual,
  reciprocal,
  reshape,
  stopGradient,
  sub,
  sum,
  swapAxes,
  type Tensor,
  where,
} from "@mc/tensor";
import { type AttentionParams, type AttentionSizes, attentionSizes } from "./sizes.ts";

/**
 * S = scale q k^T, hidden where the mask is false; P = softmax(S); o = P v; rowMax = max S; rowLogSumExp = log sum exp S.
 * Rows that see nothing: o = 0, rowMax = rowLogSumExp = -infinity.
 */
export function attentionReference([q, k, v, documents]: readonly Tensor[], params: AttentionParams): Tensor[] {
  const sizes = attentionSizes(q!, k!, v!, documents);
  const scores = scaledScores(q!, k!, params.scale, sizes);
  const visible = visiblePairs(scores, documents, params);
  const rowMax = stopGradient(max(visible ? where(visible, scores, Number.NEGATIVE_INFINITY) : scores, { axis: -1 }));
  const seesAny = notEqual(rowMax, Number.NEGATIVE_INFINITY);
  const shifted = sub(scores, expandDims(where(seesAny, rowMax, 0), -1));
  const e = visible ? onlyWhere(visible, shifted, exp) : exp(shifted);
  const total = sum(e, { axis: -1 });
  const safe = where(seesAny, total, 1);
  const lse = where(seesAny, add(rowMax, log(safe)), Number.NEGATIVE_INFINITY);
  const weights = mul(e, expandDims(where(seesAny, reciprocal(safe), 0), -1));
  const out = matmul(joinGroups(weights, sizes), swapAxes(v!, 1, 2));
  return [toTokens(out, sizes, sizes.valueSize), rowMax, lse];
}

/**
 * Gradient of attention from what its forward left: lse [B, H, T], delta = rowsum(do * o) - dlse [B, H, T].
 *   P = exp(S - lse), dv = P^T do, dP = do v^T, dS = P * (dP - delta) * scale, dq = dS k, dk = dS^T q
 * One output, [B, T, H*D + Hkv*D + Hkv*Dv]: dq, dk and dv of a token, head by head.
 */
export function attentionBackwardReference(
  [q, k, v, lse, delta, dOut, documents]: readonly Tensor[],
  params: AttentionParams,
): Tensor[] {
  const sizes = attentionSizes(q!, k!, v!, documents);
  const { size, valueSize } = sizes;
  const scores = scaledScores(q!, k!, params.scale, sizes);
  const visible = visiblePairs(scores, documents, params);
  const logWeights = sub(scores, expandDims(lse!, -1));
  const weights = visible ? onlyWhere(visible, logWeights, exp) : exp(logWeights);
  const dRows = joinGroups(swapAxes(dOut!, 1, 2), sizes);
  const dWeights = reshape(matmul(dRows, mT(swapAxes(v!, 1, 2))), scores.shape);
  const dScores = joinGroups(mul(mul(weights, sub(dWeights, expandDims(delta!, -1))), params.scale), sizes);
  const dq = matmul(dScores, swapAxes(k!, 1, 2));
  const dk = matmul(mT(dScores), joinGroups(swapAxes(q!, 1, 2), sizes));
  const dv = matmul(mT(joinGroups(weights, sizes)), dRows);
  const flat = (x: Tensor, features: number): Tensor => {
    const tokens = toTokens(x, sizes, features);
    return reshape(tokens, [sizes.batch, sizes.tokens, -1]);
  };
  return [concat([flat(dq, size), flat(dk, size), flat(dv, valueSize)], -1)];
}

/** [B, H, T, T]. */
function scaledScores(q: Tensor, k: Tensor, scale: number, sizes: AttentionSizes): Tensor {
  const { batch, heads, tokens } = sizes;
  const scores = matmul(joinGroups(swapAxes(q, 1, 2), sizes), mT(swapAxes(k, 1, 2)));
  return reshape(mul(scores, scale), [batch, heads, tokens, tokens]);
}

/** [B, H, T, X] as [B, Hkv, group*T, X]: the query heads of a group as further rows beside their key head. */
function joinGroups(x: Tensor, { batch, keyHeads, group, tokens }: AttentionSizes): Tensor {
  return reshape(x, [batch, keyHeads, group * tokens, x.shape[3]!]);
}

/** [B, heads, T, X], possibly with groups joined, as [B, T, heads, X]. */
function toTokens(x: Tensor, { batch, tokens }: AttentionSizes, features: number): Tensor {
  return swapAxes(reshape(x, [batch, -1, tokens, features]), 1, 2);
}

/** bool [B, H, T, T], or undefined where every pair is visible. A token of a negative document sees nothing and is not seen. */
function visiblePairs(scores: Tensor, documents: Tensor | undefined, { causal }: AttentionParams): Tensor | undefined {
  const { shape, device } = scores;
  const past = causal ? greaterEqual(iota(shape, 2, { device }), iota(shape, 3, { device })) : undefined;
  if (!documents) return past;
  const [batch, , tokens] = shape as [number, number, number, number];
  const mine = broadcastTo(reshape(documents, [batch, 1, tokens, 1]), shape);
  const theirs = broadcastTo(reshape(documents, [batch, 1, 1, tokens]), shape);
  const same = logicalAnd(equal(mine, theirs), greaterEqual(mine, 0));
  return past ? logicalAnd(past, same) : same;
}

/** f(x) where visible, else 0. The inner choice keeps f, whose value there may overflow, from making NaN of a zero gradient. */
function onlyWhere(visible: Tensor, x: Tensor, f: (x: Tensor) => Tensor): Tensor {
  return where(visible, f(where(visible, x, 0)), 0);
}
