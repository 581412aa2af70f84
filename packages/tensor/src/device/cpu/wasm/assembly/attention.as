// Softmax attention of one head, forward and backward, a few query rows at a time: the scores of a row are there as a
// whole, so the softmax is the plain one and memory grows with the number of keys, never with its square.
//
// The products are small and thin (a head has 16 to 128 features), so nothing is packed: every product is made of
// tiles of 4 x 8 values whose right operand is read by rows. Where a product needs a matrix by columns, the caller
// lays it out transposed.

import { expFlushed4 } from "./exp";

const BLOCK: i32 = 32; // query rows whose scores the backward holds at a time; a multiple of 4

/** Rows of scores that the backward needs room for, each as long as the keys padded to 8; the forward needs 4. */
export function attentionBlockRows(): i32 {
  return BLOCK;
}

/**
 * o = softmax(scale * q k^T where visible) v for one head, row-major:
 * q [queries, size], kT [size, keys], v [keys, valueSize], o [queries, valueSize].
 * rowMax[i] gets the largest visible scaled score (-inf if there is none), rowSum[i] the sum of exp(score - rowMax[i]).
 * Query i sees key j if j <= i + keys - queries (when causal) and queryIds[i] = keyIds[j] (when the pointers are not 0).
 * Rows that see nothing give zeros.
 *
 * All matrices are padded with zeros: queries to a multiple of 4, keys and features to multiples of 8. size and valueSize
 * are the padded ones; queries and keys are not. rowMax, rowSum and the ids are as long as their padded axes.
 * scores: room for [4, keys].
 */
export function attentionForward(
  q: usize, kT: usize, v: usize, o: usize, rowMax: usize, rowSum: usize,
  queryIds: usize, keyIds: usize,
  queries: i32, keys: i32, size: i32, valueSize: i32, scale: f32, causal: bool,
  scores: usize,
): void {
  const stride = padded(keys) << 2;
  for (let i = 0; i < queries; i += 4) {
    const reach = padded(visibleKeys(i + 3, queries, keys, causal));
    products(q + (i * size << 2), size << 2, 4, kT, stride, scores, stride, 4, reach, size, false);
    for (let row = i; row < i + 4; row++) {
      const at = scores + (row - i) * stride;
      const largest = maskRow(at, row, visibleKeys(row, queries, keys, causal), reach, scale, queryIds, keyIds);
      const sum = softmaxRow(at, reach, largest);
      store<f32>(rowMax + (row << 2), largest);
      store<f32>(rowSum + (row << 2), sum);
    }
    const to = o + (i * valueSize << 2);
    products(scores, stride, 4, v, valueSize << 2, to, valueSize << 2, 4, valueSize, reach, false);
    for (let row = i; row < i + 4; row++) {
      const sum = load<f32>(rowSum + (row << 2));
      scaleRow(o + (row * valueSize << 2), valueSize, sum == 0 ? 0 : 1 / sum);
    }
  }
}

/**
 * Gradients of one head from the forward's log-sum-exp of each row, and delta = rowsum(do * o) - dlse:
 *   p = exp(score - lse), dv += p^T do, dp = do v^T, ds = scale * p * (dp - delta), dq = ds k, dk += ds^T q.
 * dq is replaced; dk and dv are added to, so that the heads of a group share them. Layouts as in the forward, and k
 * [keys, size], vT [valueSize, keys]. scores and gradients: room for [32, keys] each.
 */
export function attentionBackward(
  q: usize, k: usize, kT: usize, vT: usize, lse: usize, delta: usize, dO: usize, dq: usize, dk: usize, dv: usize,
  queryIds: usize, keyIds: usize,
  queries: i32, keys: i32, size: i32, valueSize: i32, scale: f32, causal: bool,
  scores: usize, gradients: usize,
): void {
  const stride = padded(keys) << 2;
  for (let block = 0; block < queries; block += BLOCK) {
    const end = min(block + BLOCK, (queries + 3) & ~3);
    for (let i = block; i < end; i += 4) {
      const reach = padded(visibleKeys(i + 3, queries, keys, causal));
      const p = scores + (i - block) * stride;
      const ds = gradients + (i - block) * stride;
      products(q + (i * size << 2), size << 2, 4, kT, stride, p, stride, 4, reach, size, false);
      products(dO + (i * valueSize << 2), valueSize << 2, 4, vT, stride, ds, stride, 4, reach, valueSize, false);
      for (let row = i; row < i + 4; row++) {
        const at = (row - i) * stride;
        maskRow(p + at, row, visibleKeys(row, queries, keys, causal), reach, scale, queryIds, keyIds);
        gradientRow(p + at, ds + at, reach, load<f32>(lse + (row << 2)), load<f32>(delta + (row << 2)), scale);
      }
      products(ds, stride, 4, k, size << 2, dq + (i * size << 2), size << 2, 4, size, reach, false);
    }
    const reach = padded(visibleKeys(end - 1, queries, keys, causal));
    for (let j = 0; j < reach; j += 4) {
      // rows before the first that reaches these keys hold no scores for them
      const first = causal ? max(block, (j + queries - keys) & ~3) : block;
      const from = (first - block) * stride + (j << 2);
      const rows = end - first;
      products(gradients + from, 4, stride, q + (first * size << 2), size << 2, dk + (j * size << 2), size << 2, 4, size, rows, true);
      products(scores + from, 4, stride, dO + (first * valueSize << 2), valueSize << 2, dv + (j * valueSize << 2), valueSize << 2, 4, valueSize, rows, true);
    }
  }
}

// c[m, n] (+)= a[m, depth] b[depth, n] in tiles: m is a multiple of 4, n of 8. Steps are in bytes; a has any, b and c unit columns.
function products(
  a: usize, aRow: i32, aStep: i32, b: usize, bRow: i32, c: usize, cRow: i32,
  m: i32, n: i32, depth: i32, add: bool,
): void {
  for (let i = 0; i < m; i += 4) {
    for (let j = 0; j < n; j += 8) tile(a + i * aRow, aRow, aStep, b + (j << 2), bRow, c + i * cRow + (j << 2), cRow, depth, add);
  }
}

function tile(a: usize, aRow: i32, aStep: i32, b: usize, bRow: i32, c: usize, cRow: i32, depth: i32, add: bool): void {
  let c00 = f32x4.splat(0), c01 = f32x4.splat(0);
  let c10 = f32x4.splat(0), c11 = f32x4.splat(0);
  let c20 = f32x4.splat(0), c21 = f32x4.splat(0);
  let c30 = f32x4.splat(0), c31 = f32x4.splat(0);
  const row1 = aRow, row2 = aRow << 1, row3 = row1 + row2;
  for (let p = 0; p < depth; p++) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    const a0 = v128.load32_splat(a), a1 = v128.load32_splat(a + row1);
    c00 = f32x4.add(c00, f32x4.mul(a0, b0));
    c01 = f32x4.add(c01, f32x4.mul(a0, b1));
    c10 = f32x4.add(c10, f32x4.mul(a1, b0));
    c11 = f32x4.add(c11, f32x4.mul(a1, b1));
    const a2 = v128.load32_splat(a + row2), a3 = v128.load32_splat(a + row3);
    c20 = f32x4.add(c20, f32x4.mul(a2, b0));
    c21 = f32x4.add(c21, f32x4.mul(a2, b1));
    c30 = f32x4.add(c30, f32x4.mul(a3, b0));
    c31 = f32x4.add(c31, f32x4.mul(a3, b1));
    a += aStep;
    b += bRow;
  }
  put(c, c00, c01, add);
  put(c + cRow, c10, c11, add);
  put(c + (cRow << 1), c20, c21, add);
  put(c + cRow * 3, c30, c31, add);
}

// @ts-ignore: decorator
@inline
function put(to: usize, low: v128, high: v128, add: bool): void {
  if (add) {
    low = f32x4.add(v128.load(to), low);
    high = f32x4.add(v128.load(to, 16), high);
  }
  v128.store(to, low);
  v128.store(to, high, 16);
}

/** to[i, j] = from[i, j] for i < rows, j < columns; steps are in bytes. */
export function copyMatrix(from: usize, fromRow: i32, fromColumn: i32, to: usize, toRow: i32, toColumn: i32, rows: i32, columns: i32): void {
  const whole = fromColumn == 4 && toColumn == 4 ? columns & ~3 : 0;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < whole; j += 4) v128.store(to + (j << 2), v128.load(from + (j << 2)));
    for (let j = whole; j < columns; j++) store<f32>(to + j * toColumn, load<f32>(from + j * fromColumn));
    from += fromRow;
    to += toRow;
  }
}

function padded(keys: i32): i32 {
  return (keys + 7) & ~7;
}

// How many leading keys a query sees, before documents.
function visibleKeys(query: i32, queries: i32, keys: i32, causal: bool): i32 {
  return causal ? max(0, min(keys, query + 1 + keys - queries)) : keys;
}

// Scales the scores of a row, makes those that are hidden and the padding -inf, and gives the maximum (NaN wins).
function maskRow(row: usize, query: i32, visible: i32, reach: i32, scale: f32, queryIds: usize, keyIds: usize): f32 {
  const hidden = f32x4.splat(-Infinity);
  const scales = f32x4.splat(scale);
  let most = hidden;
  let j = 0;
  if (!keyIds) {
    // all of these are seen
    for (; j + 4 <= visible; j += 4) {
      const at = row + (j << 2);
      const score = f32x4.mul(scales, v128.load(at));
      v128.store(at, score);
      most = f32x4.max(most, score);
    }
  }
  const end = i32x4.splat(visible);
  const id = i32x4.splat(keyIds ? load<i32>(queryIds + (query << 2)) : 0);
  for (; j < reach; j += 4) {
    let seen = i32x4.lt_s(i32x4.add(i32x4.splat(j), i32x4(0, 1, 2, 3)), end);
    if (keyIds) seen = v128.and(seen, i32x4.eq(id, v128.load(keyIds + (j << 2))));
    const at = row + (j << 2);
    const score = v128.bitselect(f32x4.mul(scales, v128.load(at)), hidden, seen);
    v128.store(at, score);
    most = f32x4.max(most, score);
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

// row = p = exp(row - lse), gradient = scale * p * (gradient - delta); both zero where hidden.
function gradientRow(row: usize, gradient: usize, size: i32, lse: f32, delta: f32, scale: f32): void {
  const bytes = size << 2;
  const shift = f32x4.splat(lse == -Infinity ? 0 : lse);
  const deltas = f32x4.splat(delta);
  const scales = f32x4.splat(scale);
  for (let at = 0; at < bytes; at += 32) {
    const low = expFlushed4(f32x4.sub(v128.load(row + at), shift));
    const high = expFlushed4(f32x4.sub(v128.load(row + at, 16), shift));
    v128.store(row + at, low);
    v128.store(row + at, high, 16);
    v128.store(gradient + at, f32x4.mul(f32x4.mul(scales, low), f32x4.sub(v128.load(gradient + at), deltas)));
    v128.store(gradient + at, f32x4.mul(f32x4.mul(scales, high), f32x4.sub(v128.load(gradient + at, 16), deltas)), 16);
  }
}

function sumLanes(x: v128): f32 {
  return (f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1)) + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3));
}

function scaleRow(row: usize, size: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  for (let j = 0; j < size; j += 4) v128.store(row + (j << 2), f32x4.mul(factors, v128.load(row + (j << 2))));
}
