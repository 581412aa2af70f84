// Softmax attention of one head, forward and backward, in blocks of query rows: the scores of a block are whole rows,
// so the softmax is the plain one and memory grows with the number of keys, never with its square.

import { expFlushed4 } from "./exp";
import { gemm } from "./gemm";

const BLOCK: i32 = 64; // query rows at a time

/** Rows of the scores that a head needs room for, each as long as the keys padded to 8. */
export function attentionBlockRows(): i32 {
  return BLOCK;
}

// Rows of scores are padded to two vectors.
function padded(keys: i32): i32 {
  return (keys + 7) & ~7;
}

/**
 * o = softmax(scale * q k^T where visible) v for one head. All matrices are dense and row-major:
 * q [queries, size], k [keys, size], v [keys, valueSize], o [queries, valueSize].
 * rowMax[i] gets the largest visible scaled score (-inf if there is none), rowSum[i] the sum of exp(score - rowMax[i]).
 * Query i sees key j if j <= i + keys - queries (when causal) and queryIds[i] = keyIds[j] (when the pointers are not 0;
 * keyIds is padded likewise, to 8). Rows that see nothing give zeros.
 * scores: room for [64, keys padded to 8].
 */
export function attentionForward(
  q: usize, k: usize, v: usize, o: usize, rowMax: usize, rowSum: usize,
  queryIds: usize, keyIds: usize,
  queries: i32, keys: i32, size: i32, valueSize: i32, scale: f32, causal: bool,
  scores: usize, scratch: usize,
): void {
  const stride = padded(keys);
  for (let i = 0; i < queries; i += BLOCK) {
    const rows = min(BLOCK, queries - i);
    const reach = visibleKeys(i + rows - 1, queries, keys, causal);
    gemm(q + (i * size << 2), size, 1, k, 1, size, scores, stride, rows, reach, size, false, scratch);
    for (let row = 0; row < rows; row++) {
      const at = scores + (row * stride << 2);
      const query = i + row;
      const visible = visibleKeys(query, queries, keys, causal);
      const largest = maskRow(at, query, visible, reach, scale, queryIds, keyIds);
      store<f32>(rowMax + (query << 2), largest);
      store<f32>(rowSum + (query << 2), softmaxRow(at, padded(reach), largest));
    }
    gemm(scores, stride, 1, v, valueSize, 1, o + (i * valueSize << 2), valueSize, rows, valueSize, reach, false, scratch);
    for (let row = i; row < i + rows; row++) {
      const sum = load<f32>(rowSum + (row << 2));
      scaleRow(o + (row * valueSize << 2), valueSize, sum == 0 ? 0 : 1 / sum);
    }
  }
}

/**
 * Gradients of one head from the forward's log-sum-exp of each row:
 *   p = exp(score - lse), dv += p^T do, dp = do v^T, ds = scale * p * (dp - rowsum(p * dp)), dq = ds k, dk += ds^T q.
 * dq is replaced; dk and dv are added to, so that the heads of a group share them. Layouts as in the forward.
 * scores and gradients: room for [64, keys padded to 8] each.
 */
export function attentionBackward(
  q: usize, k: usize, v: usize, lse: usize, dO: usize, dq: usize, dk: usize, dv: usize,
  queryIds: usize, keyIds: usize,
  queries: i32, keys: i32, size: i32, valueSize: i32, scale: f32, causal: bool,
  scores: usize, gradients: usize, scratch: usize,
): void {
  const stride = padded(keys);
  for (let i = 0; i < queries; i += BLOCK) {
    const rows = min(BLOCK, queries - i);
    const reach = visibleKeys(i + rows - 1, queries, keys, causal);
    const qRows = q + (i * size << 2);
    const dORows = dO + (i * valueSize << 2);
    gemm(qRows, size, 1, k, 1, size, scores, stride, rows, reach, size, false, scratch);
    gemm(dORows, valueSize, 1, v, 1, valueSize, gradients, stride, rows, reach, valueSize, false, scratch);
    for (let row = 0; row < rows; row++) {
      const at = scores + (row * stride << 2);
      const query = i + row;
      maskRow(at, query, visibleKeys(query, queries, keys, causal), reach, scale, queryIds, keyIds);
      gradientRow(at, gradients + (row * stride << 2), reach, load<f32>(lse + (query << 2)), scale);
    }
    gemm(scores, 1, stride, dORows, valueSize, 1, dv, valueSize, reach, valueSize, rows, true, scratch);
    gemm(gradients, stride, 1, k, size, 1, dq + (i * size << 2), size, rows, size, reach, false, scratch);
    gemm(gradients, 1, stride, qRows, size, 1, dk, size, reach, size, rows, true, scratch);
  }
}

// How many leading keys a query sees, before documents.
function visibleKeys(query: i32, queries: i32, keys: i32, causal: bool): i32 {
  return causal ? max(0, min(keys, query + 1 + keys - queries)) : keys;
}

// Scales the scores of a row, makes those that are hidden and the padding -inf, and gives the maximum (NaN wins).
function maskRow(row: usize, query: i32, visible: i32, reach: i32, scale: f32, queryIds: usize, keyIds: usize): f32 {
  const hidden = f32x4.splat(-Infinity);
  const scales = f32x4.splat(scale);
  const end = i32x4.splat(visible);
  const id = i32x4.splat(keyIds ? load<i32>(queryIds + (query << 2)) : 0);
  const size = padded(reach);
  let most = hidden;
  let keys = i32x4(0, 1, 2, 3);
  for (let j = 0; j < size; j += 4) {
    let seen = i32x4.lt_s(keys, end);
    if (keyIds) seen = v128.and(seen, i32x4.eq(id, v128.load(keyIds + (j << 2))));
    const at = row + (j << 2);
    const score = v128.bitselect(f32x4.mul(scales, v128.load(at)), hidden, seen);
    v128.store(at, score);
    most = f32x4.max(most, score);
    keys = i32x4.add(keys, i32x4.splat(4));
  }
  return max(
    max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
    max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
  );
}

// row = exp(row - largest), and returns the sum; a row of -inf becomes zeros.
function softmaxRow(row: usize, size: i32, largest: f32): f32 {
  const end = row + (size << 2);
  const shift = f32x4.splat(largest == -Infinity ? 0 : largest);
  let sum = f32x4.splat(0);
  for (let at = row; at < end; at += 32) {
    const low = expFlushed4(f32x4.sub(v128.load(at), shift));
    const high = expFlushed4(f32x4.sub(v128.load(at, 16), shift));
    sum = f32x4.add(sum, f32x4.add(low, high));
    v128.store(at, low);
    v128.store(at, high, 16);
  }
  return sumLanes(sum);
}

// row = p = exp(row - lse), gradient = scale * p * (gradient - sum(p * gradient)), zero where hidden.
function gradientRow(row: usize, gradient: usize, reach: i32, lse: f32, scale: f32): void {
  const size = padded(reach);
  for (let j = reach; j < size; j++) store<f32>(gradient + (j << 2), 0);
  const bytes = size << 2;
  const shift = f32x4.splat(lse == -Infinity ? 0 : lse);
  let dots = f32x4.splat(0);
  for (let at = 0; at < bytes; at += 32) {
    const low = expFlushed4(f32x4.sub(v128.load(row + at), shift));
    const high = expFlushed4(f32x4.sub(v128.load(row + at, 16), shift));
    v128.store(row + at, low);
    v128.store(row + at, high, 16);
    const lowDot = f32x4.mul(low, v128.load(gradient + at));
    dots = f32x4.add(dots, f32x4.add(lowDot, f32x4.mul(high, v128.load(gradient + at, 16))));
  }
  const dot = f32x4.splat(sumLanes(dots));
  const scales = f32x4.splat(scale);
  for (let at = 0; at < bytes; at += 16) {
    const p = f32x4.mul(scales, v128.load(row + at));
    v128.store(gradient + at, f32x4.mul(p, f32x4.sub(v128.load(gradient + at), dot)));
  }
}

function sumLanes(x: v128): f32 {
  return (f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1)) + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3));
}

function scaleRow(row: usize, size: i32, factor: f32): void {
  for (let j = 0; j < size; j++) store<f32>(row + (j << 2), load<f32>(row + (j << 2)) * factor);
}
