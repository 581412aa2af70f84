// Softmax attention of one head, forward and backward, a few query rows at a time: the scores of a row are there as a
// whole, so the softmax is the plain one and memory grows with the number of keys, never with its square.
//
// The products are small and thin (a head has 16 to 128 features), so nothing is packed: every product is made of
// tiles of 4 x 8 values whose right operand is read by rows. Where a product needs a matrix by columns, the caller
// lays it out transposed.

import { expFlushed4 } from "./exp";
import { tanh4, tanhGap4, tanhSlope4 } from "./tanh";

const BLOCK: i32 = 32; // query rows whose scores the backward holds at a time; a multiple of 4

/** Rows of scores that the backward needs room for, each as long as the keys padded to 8; the forward needs 4. */
export function attentionBlockRows(): i32 {
  return BLOCK;
}

/**
 * o = softmax(s where visible) v for one head, row-major: q [queries, size], kT [size, keys], v [keys, valueSize],
 * o [queries, valueSize]. With r = scale q k^T the softmax's inputs s are
 *   s = r, or softCap tanh(r / softCap) unless softCap is 0, less slope (i + keys - queries - j).
 * rowMax[i] gets the largest visible r (-inf if there is none), rowShift[i] the largest visible s, rowSum[i] the sum of
 * exp(s - rowShift[i]). rowShift may be rowMax where softCap and slope are 0.
 *
 * Query i is at key i + keys - queries. It sees the keys up to there when causal, the last `window` of those only unless
 * window is 0, and of those the ones with queryIds[i] = keyIds[j] (when the pointers are not 0). Rows that see nothing give zeros.
 * ranges: two integers for each four queries, the keys [from, to) that any of the four sees: multiples of 4 that never
 * fall. Keys outside cost nothing.
 *
 * All matrices are padded with zeros: queries to a multiple of 4, keys and features to multiples of 8. size and valueSize
 * are the padded ones; queries and keys are not. rowMax, rowShift, rowSum and the ids are as long as their padded axes.
 * scores: room for [4, keys].
 */
export function attentionForward(
  q: usize, kT: usize, v: usize, o: usize, rowMax: usize, rowShift: usize, rowSum: usize,
  ranges: usize, queryIds: usize, keyIds: usize,
  queries: i32, keys: i32, size: i32, valueSize: i32,
  scale: f32, causal: bool, window: i32, softCap: f32, slope: f32,
  scores: usize,
): void {
  const stride = padded(keys) << 2;
  const asTheyAre = softCap == 0 && slope == 0;
  const finiteV = !keyIds || isFinite4(v, keys * valueSize);
  for (let i = 0; i < queries; i += 4) {
    const from = firstKey(ranges, i), count = endKey(ranges, i) - from;
    const first = scores + (from << 2);
    products(q + (i * size << 2), size << 2, 4, kT + (from << 2), stride, first, stride, 4, count, size, false);
    for (let row = i; row < i + 4; row++) {
      const at = first + (row - i) * stride;
      const ids = keyIds ? keyIds + (from << 2) : 0;
      const id = keyIds ? load<i32>(queryIds + (row << 2)) : 0;
      const visible = visibleKeys(row, queries, keys, causal) - from;
      const hidden = window ? max(0, visible - window) : 0;
      let largest: f32;
      if (asTheyAre) {
        largest = maskRow(at, hidden, visible, count, scale, id, ids);
        store<f32>(rowMax + (row << 2), largest);
      } else {
        const position = row + keys - queries - from;
        largest = transformRow(at, 0, hidden, visible, count, scale, softCap, slope, position, id, ids, rowMax + (row << 2));
      }
      store<f32>(rowShift + (row << 2), largest);
      store<f32>(rowSum + (row << 2), softmaxRow(at, count, largest));
    }
    const to = o + (i * valueSize << 2);
    productsOfVisible(first, stride, 4, v + (from * valueSize << 2), valueSize << 2, to, valueSize << 2, 4, valueSize, count, false, finiteV);
    for (let row = i; row < i + 4; row++) {
      const sum = load<f32>(rowSum + (row << 2));
      scaleRow(o + (row * valueSize << 2), valueSize, sum == 0 ? 0 : 1 / sum);
    }
  }
}

/**
 * Gradients of one head from the forward's log-sum-exp of each row, and delta = rowsum(do * o) - dlse:
 *   p = exp(s - lse), dv += p^T do, dp = do v^T, dr = scale * p * (dp - delta) * ds/dr, dq = dr k, dk += dr^T q
 * with ds/dr = 1 - tanh^2(r / softCap), or 1 where softCap is 0.
 * dq is replaced; dk and dv are added to, so that the heads of a group share them. Layouts as in the forward, and k
 * [keys, size], vT [valueSize, keys]. scores and gradients: room for [32, keys] each; slopes: for [keys].
 */
export function attentionBackward(
  q: usize, k: usize, kT: usize, vT: usize, lse: usize, delta: usize, dO: usize, dq: usize, dk: usize, dv: usize,
  ranges: usize, queryIds: usize, keyIds: usize,
  queries: i32, keys: i32, size: i32, valueSize: i32,
  scale: f32, causal: bool, window: i32, softCap: f32, slope: f32,
  scores: usize, gradients: usize, slopes: usize,
): void {
  const stride = padded(keys) << 2;
  const asTheyAre = softCap == 0 && slope == 0;
  const finiteQ = !keyIds || isFinite4(q, queries * size);
  const finiteK = !keyIds || isFinite4(k, keys * size);
  const finiteDO = !keyIds || isFinite4(dO, queries * valueSize);
  for (let block = 0; block < queries; block += BLOCK) {
    const end = min(block + BLOCK, (queries + 3) & ~3);
    for (let i = block; i < end; i += 4) {
      const from = firstKey(ranges, i), count = endKey(ranges, i) - from;
      const p = scores + (i - block) * stride + (from << 2);
      const dr = gradients + (i - block) * stride + (from << 2);
      products(q + (i * size << 2), size << 2, 4, kT + (from << 2), stride, p, stride, 4, count, size, false);
      products(dO + (i * valueSize << 2), valueSize << 2, 4, vT + (from << 2), stride, dr, stride, 4, count, valueSize, false);
      for (let row = i; row < i + 4; row++) {
        const at = (row - i) * stride;
        const ids = keyIds ? keyIds + (from << 2) : 0;
        const id = keyIds ? load<i32>(queryIds + (row << 2)) : 0;
        const visible = visibleKeys(row, queries, keys, causal) - from;
        const hidden = window ? max(0, visible - window) : 0;
        if (asTheyAre) {
          maskRow(p + at, hidden, visible, count, scale, id, ids);
        } else {
          const position = row + keys - queries - from;
          transformRow(p + at, slopes, hidden, visible, count, scale, softCap, slope, position, id, ids, 0);
        }
        gradientRow(p + at, dr + at, count, load<f32>(lse + (row << 2)), load<f32>(delta + (row << 2)), scale);
        if (softCap != 0) multiplyRow(dr + at, slopes, count);
        if (keyIds) hideRow(p + at, dr + at, hidden, visible, count, id, ids);
      }
      productsOfVisible(dr, stride, 4, k + (from * size << 2), size << 2, dq + (i * size << 2), size << 2, 4, size, count, false, finiteK);
    }
    // the rows first..last reach the keys j..j + 3: others hold no scores for them
    let first = block, last = block;
    const stop = load<i32>(ranges + (end - 4 << 1), 4);
    for (let j = load<i32>(ranges + (block << 1)); j < stop; j += 4) {
      while (load<i32>(ranges + (first << 1), 4) <= j) first += 4;
      while (last < end && load<i32>(ranges + (last << 1)) <= j) last += 4;
      const at = (first - block) * stride + (j << 2);
      const rows = last - first;
      productsOfVisible(gradients + at, 4, stride, q + (first * size << 2), size << 2, dk + (j * size << 2), size << 2, 4, size, rows, true, finiteQ);
      productsOfVisible(scores + at, 4, stride, dO + (first * valueSize << 2), valueSize << 2, dv + (j * valueSize << 2), valueSize << 2, 4, valueSize, rows, true, finiteDO);
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

// As products, where a is 0 for hidden pairs. Unless b is finite, slowly: no infinity or NaN of a hidden b gets into a sum.
function productsOfVisible(
  a: usize, aRow: i32, aStep: i32, b: usize, bRow: i32, c: usize, cRow: i32,
  m: i32, n: i32, depth: i32, add: bool, finite: bool,
): void {
  if (finite) {
    products(a, aRow, aStep, b, bRow, c, cRow, m, n, depth, add);
    return;
  }
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j += 4) {
      let sum = f32x4.splat(0);
      for (let p = 0; p < depth; p++) {
        const x = v128.load32_splat(a + i * aRow + p * aStep);
        const xy = f32x4.mul(x, v128.load(b + p * bRow + (j << 2)));
        sum = f32x4.add(sum, v128.and(xy, f32x4.ne(x, f32x4.splat(0))));
      }
      const to = c + i * cRow + (j << 2);
      v128.store(to, add ? f32x4.add(v128.load(to), sum) : sum);
    }
  }
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

// Whether all values are finite; `count` is a multiple of 8.
function isFinite4(at: usize, count: i32): bool {
  const end = at + (count << 2);
  let sum = f32x4.splat(0);
  for (; at < end; at += 32) {
    const low = v128.load(at), high = v128.load(at, 16);
    sum = f32x4.add(sum, f32x4.add(f32x4.sub(low, low), f32x4.sub(high, high))); // 0, or NaN for ever
  }
  return sumLanes(sum) == 0;
}

// The keys that the four queries from i on need scores for, as multiples of 8.
function firstKey(ranges: usize, i: i32): i32 {
  return load<i32>(ranges + (i << 1)) & ~7;
}

function endKey(ranges: usize, i: i32): i32 {
  return padded(load<i32>(ranges + (i << 1), 4));
}

// How many leading keys a query sees, before windows and documents.
function visibleKeys(query: i32, queries: i32, keys: i32, causal: bool): i32 {
  return causal ? max(0, min(keys, query + 1 + keys - queries)) : keys;
}

// Which of the keys j..j + 3 are seen: those in [hidden, visible), of document `id` where there are ids.
// @ts-ignore: decorator
@inline
function seenKeys(j: i32, hidden: i32, visible: i32, id: i32, ids: usize): v128 {
  const keys = i32x4.add(i32x4.splat(j), i32x4(0, 1, 2, 3));
  const seen = v128.and(i32x4.lt_s(keys, i32x4.splat(visible)), i32x4.ge_s(keys, i32x4.splat(hidden)));
  return ids ? v128.and(seen, i32x4.eq(i32x4.splat(id), v128.load(ids + (j << 2)))) : seen;
}

// Scales the scores of a row of `count` keys, makes those that are hidden and the padding -inf, and gives the maximum (NaN wins).
function maskRow(row: usize, hidden: i32, visible: i32, count: i32, scale: f32, id: i32, ids: usize): f32 {
  const none = f32x4.splat(-Infinity);
  const scales = f32x4.splat(scale);
  let most = none;
  let j = 0;
  if (!ids && !hidden) {
    // all of these are seen
    for (; j + 4 <= visible; j += 4) {
      const at = row + (j << 2);
      const score = f32x4.mul(scales, v128.load(at));
      v128.store(at, score);
      most = f32x4.max(most, score);
    }
  }
  for (; j < count; j += 4) {
    const at = row + (j << 2);
    const score = v128.bitselect(f32x4.mul(scales, v128.load(at)), none, seenKeys(j, hidden, visible, id, ids));
    v128.store(at, score);
    most = f32x4.max(most, score);
  }
  return largestLane(most);
}

// As maskRow, for softmax inputs that are not the scaled scores: gives their maximum, and stores that of the scaled scores at
// rowMax if it is not 0. slopes, if it is not 0, gets the derivatives of the inputs by the scaled scores. The query is at key `position`.
function transformRow(
  row: usize, slopes: usize, hidden: i32, visible: i32, count: i32,
  scale: f32, softCap: f32, slope: f32, position: i32, id: i32, ids: usize, rowMax: usize,
): f32 {
  const none = f32x4.splat(-Infinity);
  const scales = f32x4.splat(scale), caps = f32x4.splat(softCap), inverse = f32x4.splat(1 / softCap), bias = f32x4.splat(slope);
  let mostRaw = none, most = none;
  for (let j = 0; j < count; j += 4) {
    const at = row + (j << 2);
    const seen = seenKeys(j, hidden, visible, id, ids);
    let score = f32x4.mul(scales, v128.load(at));
    mostRaw = f32x4.max(mostRaw, v128.bitselect(score, none, seen));
    if (softCap != 0) {
      const x = f32x4.mul(score, inverse), gap = tanhGap4(x);
      if (slopes) v128.store(slopes + (j << 2), tanhSlope4(gap));
      score = f32x4.mul(caps, tanh4(x, gap));
    }
    const distance = i32x4.sub(i32x4.splat(position - j), i32x4(0, 1, 2, 3));
    score = f32x4.sub(score, f32x4.mul(bias, f32x4.convert_i32x4_s(distance)));
    score = v128.bitselect(score, none, seen);
    v128.store(at, score);
    most = f32x4.max(most, score);
  }
  if (rowMax) store<f32>(rowMax, largestLane(mostRaw));
  return largestLane(most);
}

function largestLane(x: v128): f32 {
  return max(
    max(f32x4.extract_lane(x, 0), f32x4.extract_lane(x, 1)),
    max(f32x4.extract_lane(x, 2), f32x4.extract_lane(x, 3)),
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

// Zeros what gradientRow left at hidden keys: a NaN or an infinity of another document would show there.
function hideRow(row: usize, gradient: usize, hidden: i32, visible: i32, count: i32, id: i32, ids: usize): void {
  for (let j = 0; j < count; j += 4) {
    const at = j << 2;
    const seen = seenKeys(j, hidden, visible, id, ids);
    v128.store(row + at, v128.and(v128.load(row + at), seen));
    v128.store(gradient + at, v128.and(v128.load(gradient + at), seen));
  }
}

// row = row * factors
function multiplyRow(row: usize, factors: usize, size: i32): void {
  for (let j = 0; j < size; j += 4) {
    const at = row + (j << 2);
    v128.store(at, f32x4.mul(v128.load(at), v128.load(factors + (j << 2))));
  }
}

function sumLanes(x: v128): f32 {
  return (f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1)) + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3));
}

function scaleRow(row: usize, size: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  for (let j = 0; j < size; j += 4) v128.store(row + (j << 2), f32x4.mul(factors, v128.load(row + (j << 2))));
}
