// batches.ts: sequences in batches, shuffled from a seed for training, or once through for evaluation.
import { ValueError } from "@mc/tensor";
import { IGNORED_LABEL, NO_DOCUMENT, type Sequences } from "./packing.ts";
import { hostRandom, permutation } from "./random.ts";

/** B sequences of T tokens, as flat row-major arrays [B, T] on the host; the fields mean what they mean in `Sequences`. */
export interface Batch {
  /** [B, T]. */
  readonly shape: readonly [number, number];
  readonly inputs: Int32Array;
  readonly labels: Int32Array;
  readonly documents: Int32Array;
  readonly positions: Int32Array;
  /** Labels that count: what a mean loss over the batch is a mean of. */
  readonly labelCount: number;
}

/** Options of `shuffledBatches`. */
export interface ShuffledBatchesOptions {
  /** Sequences a batch, B: from 1 to the number of sequences. */
  batchSize: number;
  /** Decides the order of every epoch, an integer in [0, 2^32). Default 0. */
  seed?: number;
  /** How often to go through the sequences. Default Infinity. */
  epochs?: number;
}

/**
 * Batches for training: every epoch goes through the sequences in a new random order.
 *
 * An epoch yields `floor(count / B)` full batches; the few sequences left over wait for another epoch's order. The same seed gives
 * the same batches on every machine.
 *
 * @throws ValueError at the call for a batch size out of range, or an `epochs` below 0
 * @example
 * const documents = [byteTokenizer().encodeDocument("one two three four")];
 * const sequences = packDocuments(documents, { length: 4 }); // 5 sequences
 * for (const batch of shuffledBatches(sequences, { batchSize: 2, seed: 1, epochs: 3 })) {
 *   batch.shape; // [2, 4], six times
 * }
 */
export function shuffledBatches(
  sequences: Sequences,
  { batchSize, seed = 0, epochs = Infinity }: ShuffledBatchesOptions,
): Generator<Batch, void, undefined> {
  checkBatchSize("shuffledBatches", batchSize);
  if (batchSize > sequences.count) {
    throw new ValueError(
      `shuffledBatches: batchSize must be at most the ${sequences.count} sequences, got ${batchSize}`,
    );
  }
  if (!(epochs >= 0)) throw new ValueError(`shuffledBatches: epochs must be >= 0, got ${epochs}`);
  const random = hostRandom(seed);
  return (function* () {
    for (let epoch = 0; epoch < epochs; epoch++) {
      const order = permutation(sequences.count, random);
      for (let at = 0; at + batchSize <= order.length; at += batchSize) {
        yield gather(sequences, order.subarray(at, at + batchSize), batchSize);
      }
    }
  })();
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
export function orderedBatches(
  sequences: Sequences,
  { batchSize }: OrderedBatchesOptions,
): Generator<Batch, void, undefined> {
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

function checkBatchSize(op: string, batchSize: number): void {
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw new ValueError(`${op}: batchSize must be an integer >= 1, got ${batchSize}`);
  }
}

/** The sequences named by `rows`, and padding up to `batchSize` of them. */
function gather(sequences: Sequences, rows: Int32Array, batchSize: number): Batch {
  const { length } = sequences;
  const pick = (from: Int32Array, padding: number): Int32Array => {
    const to = new Int32Array(batchSize * length).fill(padding);
    rows.forEach((row, i) => void to.set(from.subarray(row * length, (row + 1) * length), i * length));
    return to;
  };
  const labels = pick(sequences.labels, IGNORED_LABEL);
  return {
    shape: [batchSize, length],
    inputs: pick(sequences.inputs, 0),
    labels,
    documents: pick(sequences.documents, NO_DOCUMENT),
    positions: pick(sequences.positions, 0),
    labelCount: labels.reduce((total, label) => total + (label === IGNORED_LABEL ? 0 : 1), 0),
  };
}
