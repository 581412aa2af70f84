// rowFactors.ts: one factor for each row of a weight, put together from the factors of heads by views alone where the rows
// repeat from head to head (they nearly always do), so that the product fuses into the kernel that writes the weight.
import { broadcastTo, concat, mul, ones, reshape, sliceAxis, type Tensor, ValueError } from "@mc/tensor";

/** Consecutive rows with one factor: element `head` of `factors`; without `factors` the rows stay as they are. */
export interface Segment {
  readonly start: number;
  readonly rows: number;
  readonly head: number;
  /** f32 [numHeads]. */
  readonly factors: Tensor | null;
}

/** `count` repetitions of a pattern of segments, the head rising by one from each to the next. */
interface Run {
  readonly pattern: readonly Segment[];
  readonly count: number;
}

/** Sorts the segments by row and fills what lies between them with untouched rows. */
function tile(path: string, segments: readonly Segment[], rows: number): Segment[] {
  const out: Segment[] = [];
  let end = 0;
  const gap = (to: number): void => {
    if (to > end) out.push({ start: end, rows: to - end, head: 0, factors: null });
  };
  for (const segment of [...segments].sort((a, b) => a.start - b.start)) {
    if (segment.start < end)
      throw new ValueError(`qkClip: row ${segment.start} of "${path}" must belong to one head, got two`);
    gap(segment.start);
    out.push(segment);
    end = segment.start + segment.rows;
  }
  if (end > rows) throw new ValueError(`qkClip: "${path}" has ${rows} rows, got a head that ends at row ${end}`);
  gap(rows);
  return out;
}

const follows = (a: Segment, b: Segment): boolean =>
  b.rows === a.rows && b.factors === a.factors && (b.factors === null || b.head === a.head + 1);

/** The run that starts at `at` and covers most segments; of equals, that with the shortest pattern. */
function longestRun(segments: readonly Segment[], at: number): Run {
  let best: Run = { pattern: segments.slice(at, at + 1), count: 1 };
  for (let period = 1; period <= 3 && at + period <= segments.length; period++) {
    let covered = period;
    while (at + covered < segments.length && follows(segments[at + covered - period]!, segments[at + covered]!))
      covered++;
    const count = Math.floor(covered / period);
    if (count > 1 && count * period > best.pattern.length * best.count)
      best = { pattern: segments.slice(at, at + period), count };
  }
  return best;
}

/** The rows of a run as one vector: [count, rows of a pattern], flattened. */
function expandRun({ pattern, count }: Run, like: Tensor): Tensor {
  const columns = pattern.map(({ rows, head, factors }) => {
    if (factors === null) return ones([count, rows], { device: like.device });
    return broadcastTo(reshape(sliceAxis(factors, 0, head, head + count), [count, 1]), [count, rows]);
  });
  return reshape(concat(columns, 1), [-1]);
}

/**
 * The weight with each row (of a bias: each element) multiplied by its factor; rows outside all segments by exactly 1.
 *
 * @param path names the weight in errors
 * @param weight f32 [rows, ...]
 * @throws ValueError if segments overlap or end beyond the weight
 */
export function scaleRows(path: string, weight: Tensor, segments: readonly Segment[]): Tensor {
  const [rows, ...rest] = weight.shape as [number, ...number[]];
  const tiles = tile(path, segments, rows);
  const parts: Tensor[] = [];
  for (let at = 0; at < tiles.length; ) {
    const run = longestRun(tiles, at);
    parts.push(expandRun(run, weight));
    at += run.pattern.length * run.count;
  }
  return mul(weight, reshape(concat(parts), [rows, ...rest.map(() => 1)]));
}
