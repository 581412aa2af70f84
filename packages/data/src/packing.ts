// packing.ts: documents of any length, laid end to end and cut into sequences of one length.
import { ValueError } from "@mc/tensor";

/** The label of a position whose prediction does not count, as in PyTorch's `cross_entropy`. */
export const IGNORED_LABEL = -100;

/** The document id of a position that pads the last sequence. */
export const NO_DOCUMENT = -1;

/** Sequences of one length T, as flat row-major arrays [count, T]. */
export interface Sequences {
  /** Number of sequences. */
  readonly count: number;
  /** Tokens in each, T. */
  readonly length: number;
  /** Token ids; padding is id 0. */
  readonly inputs: Int32Array;
  /** The token that follows in the same document, or IGNORED_LABEL where none does. */
  readonly labels: Int32Array;
  /** Document id of each token: the document's index in the list that was packed, or NO_DOCUMENT for padding. */
  readonly documents: Int32Array;
  /** Place of each token, from 0, within its document's part of this sequence: it starts anew with a sequence and with a document. */
  readonly positions: Int32Array;
  /** Labels that count. */
  readonly labelCount: number;
}

/** Options of `packDocuments`. */
export interface PackDocumentsOptions {
  /** Tokens a sequence, T >= 1. */
  length: number;
}

/**
 * Packs documents into sequences without wasting a token: all tokens are laid end to end in the given order and cut every T.
 *
 * Each token is an input once, and its label is the next token *of the same document*, also where that one is already in the next
 * sequence. The last token of a document has the label IGNORED_LABEL, so no label ever crosses into another document, and the labels
 * that count number `sum(document.length - 1)`. What is missing at the end of the last sequence is padding, whose labels are ignored.
 *
 * Attention may still look across a border inside a sequence unless the model masks by `documents`.
 *
 * @param documents token ids of each document; empty ones are allowed and add nothing
 * @throws ValueError for a length below 1, or when there is no token at all
 * @example
 * const { encodeDocument } = byteTokenizer();
 * const sequences = packDocuments([encodeDocument("ab"), encodeDocument("c")], { length: 4 });
 * // inputs [97, 98, 0, 99 | 0, 0, 0, 0]   labels [98, 0, -100, 0 | -100, -100, -100, -100]
 * // documents [0, 0, 0, 1 | 1, -1, -1, -1]   positions [0, 1, 2, 0 | 0, 0, 1, 2]
 */
export function packDocuments(documents: readonly Int32Array[], { length }: PackDocumentsOptions): Sequences {
  if (!Number.isInteger(length) || length < 1) {
    throw new ValueError(`packDocuments: length must be an integer >= 1, got ${length}`);
  }
  const tokens = documents.reduce((total, ids) => total + ids.length, 0);
  if (tokens === 0) throw new ValueError("packDocuments: the documents must have at least one token, got none");

  const count = Math.ceil(tokens / length);
  const inputs = new Int32Array(count * length);
  const labels = new Int32Array(count * length).fill(IGNORED_LABEL);
  const documentIds = new Int32Array(count * length).fill(NO_DOCUMENT);
  const positions = new Int32Array(count * length);

  let at = 0;
  let labelCount = 0;
  documents.forEach((ids, document) => {
    inputs.set(ids, at);
    documentIds.fill(document, at, at + ids.length);
    if (ids.length > 1) {
      labels.set(ids.subarray(1), at);
      labelCount += ids.length - 1;
    }
    at += ids.length;
  });

  for (let i = 0; i < positions.length; i++) {
    const continues = i % length !== 0 && documentIds[i] === documentIds[i - 1];
    positions[i] = continues ? positions[i - 1]! + 1 : 0;
  }
  return { count, length, inputs, labels, documents: documentIds, positions, labelCount };
}
