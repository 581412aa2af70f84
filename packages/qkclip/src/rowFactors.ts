// rowFactors.ts: one factor for each row of a weight, put together from the factors of heads: by views alone where the rows
// repeat from head to head (they nearly always do) in all of the weight, by one small kernel for all layers where they do not.
import {
  broadcastTo,
  type Device,
  iota,
  less,
  pad,
  reshape,
  sliceAxis,
  split,
  stack,
  type Tensor,
  ValueError,
  where,
} from "@mc/tensor";

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

/** A part of vectors: values [...shape, width], or ones. */
interface Part {
  readonly width: number;
  readonly values: Tensor | 1;
}

/** The parts side by side along the last axis. A choice by position, not a concat: that takes one kernel, however many they are. */
function sideBySide(shape: readonly number[], parts: readonly Part[], device: Device): Part {
  const width = parts.reduce((sum, part) => sum + part.width, 0);
  const position = iota([...shape, width], shape.length, { device });
  let start = 0;
  let joined: Tensor | 1 | undefined;
  for (const part of parts) {
    const { values } = part;
    const before = start;
    start += part.width;
    const none = shape.map((): [number, number] => [0, 0]);
    const placed = values === 1 || parts.length === 1 ? values : pad(values, [...none, [before, width - start]]);
    joined = joined === undefined ? placed : where(less(position, before), joined, placed);
  }
  return { width, values: joined ?? 1 };
}

/** A weight, and what its rows are multiplied by. */
export interface ScaledRows {
  readonly path: string;
  readonly rows: number;
  readonly segments: readonly Segment[];
}

/**
 * The factors of the rows of weights, f32 [rows] each; rows outside all segments have exactly 1. Those of weights that are tiled
 * alike (those of all layers) are computed together.
 *
 * @throws ValueError, naming the path, if segments overlap or end beyond the weight
 */
export function rowFactors(weights: readonly ScaledRows[]): Map<string, Tensor> {
  const alike = new Map<string, { paths: string[]; tilings: Segment[][] }>();
  for (const { path, rows, segments } of weights) {
    const tiles = tile(path, segments, rows);
    const kinds = [...new Set(tiles.map(({ factors }) => factors))];
    const id = tiles.map((t) => [t.rows, t.head, t.factors && [kinds.indexOf(t.factors), ...t.factors.shape]]);
    const group = alike.get(JSON.stringify(id));
    if (group) {
      group.paths.push(path);
      group.tilings.push(tiles);
    } else alike.set(JSON.stringify(id), { paths: [path], tilings: [tiles] });
  }
  const factors = new Map<string, Tensor>();
  for (const { paths, tilings } of alike.values()) {
    const rows = split(factorsOfAlike(tilings), paths.length);
    for (const [i, path] of paths.entries()) factors.set(path, reshape(rows[i]!, [-1]));
  }
  return factors;
}

/** [n, rows] for n weights with like tiles. */
function factorsOfAlike(tilings: readonly (readonly Segment[])[]): Tensor {
  const [tiles] = tilings as [readonly Segment[]];
  const n = tilings.length;
  const { device } = tiles.find(({ factors }) => factors !== null)!.factors as Tensor;
  const parts: Part[] = [];
  for (let at = 0; at < tiles.length; ) {
    const { pattern, count } = longestRun(tiles, at);
    const columns = pattern.map(({ rows, head, factors }, j): Part => {
      if (factors === null) return { width: rows, values: 1 };
      const ofHeads = sliceAxis(stack(tilings.map((own) => own[at + j]!.factors as Tensor)), 1, head, head + count);
      return { width: rows, values: broadcastTo(reshape(ofHeads, [n, count, 1]), [n, count, rows]) };
    });
    const { width, values } = sideBySide([n, count], columns, device);
    parts.push({ width: width * count, values: values === 1 ? 1 : reshape(values, [n, width * count]) });
    at += pattern.length * count;
  }
  return sideBySide([n], parts, device).values as Tensor;
}
