// batches.ts: sequences in batches, shuffled from a seed for training, or once through for evaluation.
import { ValueError } from "@mc/tensor";
import { type Cursor, checkSettings, cursorCount, cursorRandom } from "./cursor.ts";
import { hostRandom, permutation } from "./random.ts";
import { emptyArrays, IGNORED_LABEL, NO_DOCUMENT, type Packing, type Sequences } from "./sequences.ts";

/** B sequences of T tokens, as flat row-major arrays [B, T] on the host; the fields mean what they mean in `Sequences`. */
export interface Batch<P extends Packing = Packing> {
  /** How the sequences were packed; it decides which arrays `toTensors` gives the model. */
  readonly packing: P;
  /** [B, T]. */
  readonly shape: readonly [number, number];
  readonly inputs: Int32Array;
  readonly labels: Int32Array;
  readonly documents: Int32Array;
  readonly positions: Int32Array;
  /** Labels that count: what a mean loss over the batch is a mean of. */
  readonly labelCount: number;
  /** Positions that hold padding and no token. */
  readonly paddingCount: number;
}

/** Batches, one after another, from a place that can be saved. */
export interface BatchIterator<P extends Packing = Packing> extends IterableIterator<Batch<P>, void, undefined> {
  /** Where the next batch would come from: `shuffledBatches(..., { resume })` goes on there. */
  cursor(): Cursor;
}

/** Options of `shuffledBatches`. */
export interface ShuffledBatchesOptions {
  /** Sequences a batch, B: from 1 to the number of sequences. */
  batchSize: number;
  /** Decides the order of every epoch, an integer in [0, 2^32). Default 0. */
  seed?: number;
  /** How often to go through the sequences. Default Infinity. */
  epochs?: number;
  /** Where to go on: a cursor taken with the same sequences, batch size and seed. Default: the start. */
  resume?: Cursor;
}

/**
 * Batches for training: every epoch goes through the sequences in a new random order.
 *
 * An epoch yields `floor(count / B)` full batches; the few sequences left over wait for another epoch's order. The same seed gives
 * the same batches on every machine. `cursor()` is the place between two batches, as JSON.
 *
 * @throws ValueError at the call for a batch size out of range, an `epochs` below 0, or a cursor of something else
 * @example
 * const documents = [byteTokenizer().encodeDocument("one two three four")];
 * const sequences = packDocuments(documents, { length: 4 }); // 5 sequences
 * for (const batch of shuffledBatches(sequences, { batchSize: 2, seed: 1, epochs: 3 })) {
 *   batch.shape; // [2, 4], six times
 * }
 * const batches = shuffledBatches(sequences, { batchSize: 2, seed: 1 });
 * batches.next();
 * const saved = JSON.stringify(batches.cursor());
 * const again = shuffledBatches(sequences, { batchSize: 2, seed: 1, resume: JSON.parse(saved) }); // begins with the second batch
 */
export function shuffledBatches<P extends Packing>(
  sequences: Sequences<P>,
  { batchSize, seed = 0, epochs = Infinity, resume }: ShuffledBatchesOptions,
): BatchIterator<P> {
  const op = "shuffledBatches";
  const { count } = sequences;
  checkBatchSize(op, batchSize);
  if (batchSize > count) {
    throw new ValueError(`${op}: batchSize must be at most the ${count} sequences, got ${batchSize}`);
  }
  if (!(epochs >= 0)) throw new ValueError(`${op}: epochs must be >= 0, got ${epochs}`);
  const settings = { batchSize, seed, count };
  if (resume) checkSettings(op, resume, settings);
  const random = hostRandom(resume ? cursorRandom(op, resume, "random") : seed);
  const perEpoch = Math.floor(count / batchSize);
  let epoch = resume ? cursorCount(op, resume, "epoch") : 0;
  let batch = resume ? cursorCount(op, resume, "batch", perEpoch - 1) : 0; // the next one, within the epoch
  let before = random.state(); // at the epoch's start
  let order = batch > 0 ? permutation(count, random) : undefined;

  function* batches(): Generator<Batch<P>, void, undefined> {
    while (epoch < epochs) {
      order ??= permutation(count, random);
      const rows = order.subarray(batch * batchSize, (batch + 1) * batchSize);
      batch += 1;
      if (batch === perEpoch) {
        batch = 0;
        epoch += 1;
        before = random.state();
        order = undefined;
      }
      yield gather(sequences, rows, batchSize);
    }
  }
  const cursor = (): Cursor => ({ ...settings, epoch, batch, random: before });
  return Object.assign(batches(), { cursor });
}

/** Options of `orderedBatches`. */
export interface OrderedBatchesOptions {
  /** Sequences a batch, B >= 1. */
  batchSize: number;
}

/**
 * Batches for evaluation: every sequence once, in order.
 *
 * All batches have the same shape, so that one compiled program serves them: the last is filled up with padding rows, whose labels are
 * ignored. Weigh each batch's mean loss by its `labelCount`.
 *
 * @throws ValueError at the call for a batch size below 1
 * @example
 * const documents = [byteTokenizer().encodeDocument("one two three four")];
 * const sequences = packDocuments(documents, { length: 4 }); // 5 sequences
 * let total = 0;
 * for (const batch of orderedBatches(sequences, { batchSize: 2 })) total += batch.labelCount;
 * total === sequences.labelCount; // true
 */
export function orderedBatches<P extends Packing>(
  sequences: Sequences<P>,
  { batchSize }: OrderedBatchesOptions,
): Generator<Batch<P>, void, undefined> {
  checkBatchSize("orderedBatches", batchSize);
  return (function* () {
    for (let at = 0; at < sequences.count; at += batchSize) {
      const rows = Math.min(batchSize, sequences.count - at);
      yield gather(
        sequences,
        Int32Array.from({ length: rows }, (_, i) => at + i),
        batchSize,
      );
    }
  })();
}

/** @throws ValueError for a batch size below 1 */
export function checkBatchSize(op: string, batchSize: number): void {
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw new ValueError(`${op}: batchSize must be an integer >= 1, got ${batchSize}`);
  }
}

function gather<P extends Packing>(sequences: Sequences<P>, rows: Int32Array, batchSize: number): Batch<P> {
  return joinRows(
    Array.from(rows, (row) => ({ sequences, row })),
    batchSize,
  );
}

/** A batch of the named rows, which have one length, and padding up to `batchSize` of them. */
export function joinRows<P extends Packing>(
  rows: readonly { sequences: Sequences<P>; row: number }[],
  batchSize: number,
): Batch<P> {
  const { length, packing } = rows[0]!.sequences;
  const arrays = emptyArrays(batchSize * length);
  rows.forEach(({ sequences, row }, i) => {
    for (const name of ["inputs", "labels", "documents", "positions"] as const) {
      arrays[name].set(sequences[name].subarray(row * length, (row + 1) * length), i * length);
    }
  });
  return {
    packing,
    shape: [batchSize, length],
    ...arrays,
    labelCount: arrays.labels.length - countOf(arrays.labels, IGNORED_LABEL),
    paddingCount: countOf(arrays.documents, NO_DOCUMENT),
  };
}

function countOf(values: Int32Array, wanted: number): number {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i] === wanted) count += 1;
  return count;
}
