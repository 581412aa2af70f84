// documents.ts: which documents a model learns from, and which ones it is measured on.
import { ValueError } from "@mc/tensor";
import { hostRandom, permutation } from "./random.ts";

/** Options of `splitDocuments`. */
export interface SplitDocumentsOptions {
  /** Part of the documents, by number, that validation gets, in (0, 1). Default 0.1. */
  validationFraction?: number;
  /** Decides which ones, an integer in [0, 2^32). Default 0. */
  seed?: number;
}

/** Documents of either side, each side in the order in which the documents came. */
export interface DocumentSplit<T> {
  train: T[];
  validation: T[];
}

/**
 * Splits documents into a training and a validation part, by whole documents: text beside a training text is not a fair test.
 *
 * Validation gets `round(fraction * number)` documents, but each side at least one.
 *
 * @param documents what is split: texts, token ids, anything; at least two
 * @throws ValueError for fewer than two documents, or a fraction out of (0, 1)
 * @example
 * const { train, validation } = splitDocuments(["a", "b", "c", "d"], { validationFraction: 0.25 }); // 3 and 1
 */
export function splitDocuments<T>(
  documents: readonly T[],
  { validationFraction = 0.1, seed = 0 }: SplitDocumentsOptions = {},
): DocumentSplit<T> {
  if (documents.length < 2) {
    throw new ValueError(`splitDocuments: at least two documents are required, got ${documents.length}`);
  }
  if (!(validationFraction > 0 && validationFraction < 1)) {
    throw new ValueError(`splitDocuments: validationFraction must be in (0, 1), got ${validationFraction}`);
  }
  const wanted = Math.round(validationFraction * documents.length);
  const size = Math.min(Math.max(wanted, 1), documents.length - 1);
  const chosen = new Set(permutation(documents.length, hostRandom(seed)).subarray(0, size));
  return {
    train: documents.filter((_, i) => !chosen.has(i)),
    validation: documents.filter((_, i) => chosen.has(i)),
  };
}
