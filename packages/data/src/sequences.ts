// sequences.ts: what packing makes: token ids, labels, documents and positions, all of one length.
import { ValueError } from "@mc/tensor";

/** The label of a position whose prediction does not count, as in PyTorch's `cross_entropy`. */
export const IGNORED_LABEL = -100;

/** The document id of a position that holds no token. */
export const NO_DOCUMENT = -1;

/**
 * How documents become sequences.
 *
 * - `"padded"`: one document a sequence. A short one is filled up with padding, the end of a long one is thrown away.
 * - `"chunks"`: documents laid end to end and cut every T tokens. Labels cross no border between documents, but attention does:
 *   a token also sees the documents before its own, which have nothing to do with it.
 * - `"masked"`: the same sequences, and the model also gets `documents` and `positions`, so that a token sees nothing but its own
 *   document, which begins at position 0.
 */
export type Packing = "padded" | "chunks" | "masked";

/** Sequences of one length T, as flat row-major arrays [count, T]. */
export interface Sequences<P extends Packing = Packing> {
  /** How the documents were packed; it decides which arrays `toTensors` gives the model. */
  readonly packing: P;
  /** Number of sequences. */
  readonly count: number;
  /** Tokens in each, T. */
  readonly length: number;
  /** Token ids; padding is id 0. */
  readonly inputs: Int32Array;
  /** The token that follows in the same document, or IGNORED_LABEL where none does. */
  readonly labels: Int32Array;
  /** Document id of each token: the document's index in what was packed, or NO_DOCUMENT for padding. */
  readonly documents: Int32Array;
  /** Place of each token, from 0, within its document's part of this sequence: it starts anew with a sequence and with a document. */
  readonly positions: Int32Array;
  /** Labels that count. */
  readonly labelCount: number;
  /** Positions that hold padding and no token. */
  readonly paddingCount: number;
  /** Tokens thrown away because their document was longer than T; only "padded" throws any away. */
  readonly droppedCount: number;
}

/** Options of `packDocuments` and `packStream`. */
export interface PackOptions<P extends Packing = Packing> {
  /** Tokens a sequence, T >= 1. */
  length: number;
  /** How documents share sequences. Default "chunks". */
  packing?: P;
}

/** The four arrays of some positions. */
export type Arrays = Pick<Sequences, "inputs" | "labels" | "documents" | "positions">;

/** The arrays of `size` positions that hold no token. */
export function emptyArrays(size: number): Arrays {
  return {
    inputs: new Int32Array(size),
    labels: new Int32Array(size).fill(IGNORED_LABEL),
    documents: new Int32Array(size).fill(NO_DOCUMENT),
    positions: new Int32Array(size),
  };
}

const PACKINGS: readonly string[] = ["padded", "chunks", "masked"] satisfies Packing[];

/** @throws ValueError for a length or a packing that there is not */
export function checkPacking(op: string, { length, packing }: { length: number; packing: string }): void {
  if (!Number.isInteger(length) || length < 1) {
    throw new ValueError(`${op}: length must be an integer >= 1, got ${length}`);
  }
  if (!PACKINGS.includes(packing)) {
    throw new ValueError(`${op}: packing must be "padded", "chunks" or "masked", got ${JSON.stringify(packing)}`);
  }
}
