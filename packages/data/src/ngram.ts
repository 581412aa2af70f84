// ngram.ts: what counting alone reaches, the number that a model must beat.
import { ValueError } from "@mc/tensor";

/** Options of `ngramBaseline`. */
export interface NgramBaselineOptions {
  /** Tokens of context: 0 counts tokens alone, 1 pairs (a bigram model), 2 triples. */
  order: number;
  /** Number of token ids. Default 256. */
  vocabSize?: number;
}

/** How well the n-gram model predicts the validation documents. */
export interface NgramBaseline {
  order: number;
  /** Mean negative log-likelihood a token, in nats. */
  loss: number;
  /** Tokens that were predicted: all but each document's first, as in `packDocuments`. */
  tokens: number;
}

// A table has vocabSize^(order + 1) counts of 4 bytes: at most 256 MiB.
const LARGEST_TABLE = 2 ** 26;

/**
 * The loss of an n-gram model, counted on the training documents, on the validation documents.
 *
 * Probabilities are interpolated with Witten-Bell smoothing, from the uniform distribution up to contexts h of `order` tokens, h' being
 * h without its oldest token, c the counts and t(h) the number of different tokens seen after h:
 *
 *     p(x | h) = (c(h x) + t(h) p(x | h')) / (c(h) + t(h)),   below order 0: 1 / vocabSize
 *
 * A context never seen falls back to the shorter one, and so does a document's beginning. Contexts never cross a document's border.
 *
 * @param train token ids of the documents to count
 * @param validation token ids of the documents to predict
 * @throws ValueError for an order below 0, a table over 2^26 counts, an id out of range, or no token to predict
 * @example
 * const { encodeDocument } = byteTokenizer();
 * const { loss } = ngramBaseline([encodeDocument("abababab")], [encodeDocument("abab")], { order: 1 });
 * loss / Math.LN2; // bits a byte
 *
 * @see I. H. Witten and T. C. Bell, The zero-frequency problem, IEEE Trans. Inf. Theory 37 (1991)
 */
export function ngramBaseline(
  train: readonly Int32Array[],
  validation: readonly Int32Array[],
  { order, vocabSize = 256 }: NgramBaselineOptions,
): NgramBaseline {
  if (!Number.isInteger(order) || order < 0) {
    throw new ValueError(`ngramBaseline: order must be an integer >= 0, got ${order}`);
  }
  if (!Number.isInteger(vocabSize) || vocabSize < 1) {
    throw new ValueError(`ngramBaseline: vocabSize must be an integer >= 1, got ${vocabSize}`);
  }
  if (vocabSize ** (order + 1) > LARGEST_TABLE) {
    throw new ValueError(
      `ngramBaseline: vocabSize^(order + 1) must be at most 2^26, got ${vocabSize}^${order + 1}; use a smaller order`,
    );
  }
  const tables = Array.from({ length: order + 1 }, (_, size) => new Table(size, vocabSize));
  for (const document of train) {
    checkIds(document, vocabSize);
    for (const table of tables) table.count(document);
  }

  let nats = 0;
  let tokens = 0;
  for (const document of validation) {
    checkIds(document, vocabSize);
    for (let at = 1; at < document.length; at++) {
      let p = 1 / vocabSize;
      for (let size = 0; size <= Math.min(order, at); size++) p = tables[size]!.probability(document, at, p);
      nats -= Math.log(p);
      tokens += 1;
    }
  }
  if (tokens === 0) throw new ValueError("ngramBaseline: validation must have a document of two tokens, got none");
  return { order, loss: nats / tokens, tokens };
}

function checkIds(document: Int32Array, vocabSize: number): void {
  for (const id of document) {
    if (id < 0 || id >= vocabSize) throw new ValueError(`ngramBaseline: ids must be in [0, ${vocabSize}), got ${id}`);
  }
}

/** Counts of all contexts of one size; a context is the number whose digits, in base vocabSize, are its tokens. */
class Table {
  readonly size: number;
  readonly vocabSize: number;
  readonly counts: Uint32Array; // c(h x) at h * vocabSize + x
  readonly totals: Uint32Array; // c(h)
  readonly kinds: Uint32Array; // t(h)

  constructor(size: number, vocabSize: number) {
    this.size = size;
    this.vocabSize = vocabSize;
    this.counts = new Uint32Array(vocabSize ** (size + 1));
    this.totals = new Uint32Array(vocabSize ** size);
    this.kinds = new Uint32Array(vocabSize ** size);
  }

  count(document: Int32Array): void {
    for (let at = this.size; at < document.length; at++) {
      const h = this.context(document, at);
      const hx = h * this.vocabSize + document[at]!;
      if (this.counts[hx] === 0) this.kinds[h]! += 1;
      this.counts[hx]! += 1;
      this.totals[h]! += 1;
    }
  }

  probability(document: Int32Array, at: number, shorter: number): number {
    const h = this.context(document, at);
    const kinds = this.kinds[h]!;
    if (kinds === 0) return shorter;
    return (this.counts[h * this.vocabSize + document[at]!]! + kinds * shorter) / (this.totals[h]! + kinds);
  }

  private context(document: Int32Array, at: number): number {
    let h = 0;
    for (let i = at - this.size; i < at; i++) h = h * this.vocabSize + document[i]!;
    return h;
  }
}
