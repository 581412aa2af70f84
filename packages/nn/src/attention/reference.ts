// attention/reference.ts: attention and its gradient in plain ops. They say what the kernels compute; on a real device they
// hold [B, H, T, T] scores.
import {
  add,
  broadcastTo,
  cast,
  concat,
  div,
  equal,
  exp,
  expandDims,
  full,
  greaterEqual,
  iota,
  less,
  log,
  logicalAnd,
  matmul,
  max,
  mT,
  mul,
  notEqual,
  reciprocal,
  reshape,
  square,
  stopGradient,
  sub,
  sum,
  swapAxes,
  type Tensor,
  tanh,
  where,
} from "@mc/tensor";
import { type AttentionParams, type AttentionSizes, attentionSizes } from "./sizes.ts";

/**
 * R = scale q k^T; S = R, or c tanh(R / c) with a soft cap, less slope (i - j) with ALiBi; hidden where the mask is false;
 * P = softmax(S); o = P v; rowMax = max R; rowLogSumExp = log sum exp S.
 * Rows that see nothing: o = 0, rowMax = rowLogSumExp = -infinity.
 */
export function attentionReference([q, k, v, documents]: readonly Tensor[], params: AttentionParams): Tensor[] {
  const sizes = attentionSizes(q!, k!, v!, documents);
  const raw = scaledScores(q!, k!, params.scale, sizes);
  const visible = visiblePairs(raw, documents, params);
  const largest = (x: Tensor): Tensor =>
    stopGradient(max(visible ? where(visible, x, Number.NEGATIVE_INFINITY) : x, { axis: -1 }));
  const rowMax = largest(raw);
  const scores = softmaxInputs(raw, params);
  const shift = scores === raw ? rowMax : largest(scores);
  const seesAny = notEqual(shift, Number.NEGATIVE_INFINITY);
  const shifted = sub(scores, expandDims(where(seesAny, shift, 0), -1));
  const e = visible ? onlyWhere(visible, shifted, exp) : exp(shifted);
  const total = sum(e, { axis: -1 });
  const safe = where(seesAny, total, 1);
  const lse = where(seesAny, add(shift, log(safe)), Number.NEGATIVE_INFINITY);
  const weights = mul(e, expandDims(where(seesAny, reciprocal(safe), 0), -1));
  const out = matmul(joinGroups(weights, sizes), swapAxes(v!, 1, 2));
  return [toTokens(out, sizes, sizes.valueSize), rowMax, lse];
}

/**
 * Gradient of attention from what its forward left: lse [B, H, T], delta = rowsum(do * o) - dlse [B, H, T].
 *   P = exp(S - lse), dv = P^T do, dP = do v^T, dS = P * (dP - delta),
 *   dR = scale dS, times 1 - tanh^2(R / c) with a soft cap, dq = dR k, dk = dR^T q
 * One output, [B, T, H*D + Hkv*D + Hkv*Dv]: dq, dk and dv of a token, head by head.
 */
export function attentionBackwardReference(
  [q, k, v, lse, delta, dOut, documents]: readonly Tensor[],
  params: AttentionParams,
): Tensor[] {
  const sizes = attentionSizes(q!, k!, v!, documents);
  const { size, valueSize } = sizes;
  const raw = scaledScores(q!, k!, params.scale, sizes);
  const visible = visiblePairs(raw, documents, params);
  const logWeights = sub(softmaxInputs(raw, params), expandDims(lse!, -1));
  const weights = visible ? onlyWhere(visible, logWeights, exp) : exp(logWeights);
  const dRows = joinGroups(swapAxes(dOut!, 1, 2), sizes);
  const dWeights = reshape(matmul(dRows, mT(swapAxes(v!, 1, 2))), raw.shape);
  const dScores = mul(mul(weights, sub(dWeights, expandDims(delta!, -1))), params.scale);
  const dRaw = joinGroups(
    params.softCap === undefined ? dScores : mul(dScores, sub(1, square(tanh(div(raw, params.softCap))))),
    sizes,
  );
  const dq = matmul(dRaw, swapAxes(k!, 1, 2));
  const dk = matmul(mT(dRaw), joinGroups(swapAxes(q!, 1, 2), sizes));
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

/** The inputs of the softmax, [B, H, T, T], from the scaled scores: capped, then with the bias that grows with the distance. */
function softmaxInputs(raw: Tensor, { softCap, slopes }: AttentionParams): Tensor {
  const capped = softCap === undefined ? raw : mul(tanh(div(raw, softCap)), softCap);
  if (!slopes) return capped;
  const { device } = raw;
  const bySlope = reshape(concat(slopes.map((slope) => full([1], slope, { device }))), [slopes.length, 1, 1]);
  return sub(capped, mul(bySlope, cast(distances(raw), "f32")));
}

/** i - j, i32 [B, H, T, T]. */
function distances({ shape, device }: Tensor): Tensor {
  return sub(iota(shape, 2, { device }), iota(shape, 3, { device }));
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
function visiblePairs(
  scores: Tensor,
  documents: Tensor | undefined,
  { causal, window }: AttentionParams,
): Tensor | undefined {
  const { shape } = scores;
  const before = causal ? greaterEqual(distances(scores), 0) : undefined;
  const past = before && window !== undefined ? logicalAnd(before, less(distances(scores), window)) : before;
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
