// ranges.ts: which keys four neighbouring queries of an attention may see, so that the kernels leave out the others.

/** Who sees whom, before the scores are known. */
export interface KeyRangeOptions {
  readonly queries: number;
  readonly keys: number;
  /** Query i sees the keys j <= i + keys - queries only. */
  readonly causal: boolean;
  /** Of those it sees the last so many. */
  readonly window?: number;
  /** Document of each query and of each key: where they differ the key is hidden. */
  readonly documents?: { readonly query: Int32Array; readonly key: Int32Array };
}

/**
 * The keys [from, to) that any of the queries 4n..4n + 3 sees, at 2n and 2n + 1: multiples of 4 that never fall from one four to
 * the next, as the kernels want them. Where documents lie one after the other the ranges are tight; where they are mixed, wider.
 *
 * @example
 * keyRanges({ queries: 8, keys: 8, causal: true }); // [0, 4, 0, 8]
 * keyRanges({ queries: 8, keys: 8, causal: true, window: 1 }); // [0, 4, 4, 8]
 */
export function keyRanges({ queries, keys, causal, window = keys, documents }: KeyRangeOptions): Int32Array {
  const fours = Math.ceil(queries / 4);
  const ranges = new Int32Array(2 * fours);
  const spans = documents && spansOf(documents.key.subarray(0, keys));
  const endOf = (i: number): number => (causal ? Math.max(0, Math.min(keys, i + 1 + keys - queries)) : keys);
  const beginOf = (i: number): number => (causal ? Math.max(0, endOf(i) - window) : 0);
  for (let n = 0; n < fours; n++) {
    const last = Math.min(4 * n + 3, queries - 1);
    let from = spans ? keys : beginOf(4 * n);
    let to = spans ? 0 : endOf(last);
    for (let i = 4 * n; spans && i <= last; i++) {
      const span = spans.get(documents.query[i]);
      const begin = Math.max(beginOf(i), span?.first ?? keys);
      const end = Math.min(endOf(i), span?.end ?? 0);
      if (begin >= end) continue; // sees nothing
      from = Math.min(from, begin);
      to = Math.max(to, end);
    }
    ranges[2 * n] = from & ~3;
    ranges[2 * n + 1] = (to + 3) & ~3;
  }
  for (let at = 3; at < 2 * fours; at += 2) ranges[at] = Math.max(ranges[at], ranges[at - 2]);
  for (let at = 2 * fours - 4; at >= 0; at -= 2) ranges[at] = Math.min(ranges[at], ranges[at + 2]);
  for (let at = 0; at < 2 * fours; at += 2) ranges[at] = Math.min(ranges[at], ranges[at + 1]);
  return ranges;
}

/** Where each document begins and ends. */
function spansOf(ids: Int32Array): Map<number, { first: number; end: number }> {
  const spans = new Map<number, { first: number; end: number }>();
  ids.forEach((id, j) => {
    const span = spans.get(id);
    if (span) span.end = j + 1;
    else spans.set(id, { first: j, end: j + 1 });
  });
  return spans;
}
