// corpus.ts: the text of a run, as training and validation sequences.
import {
  byteTokenizer,
  type NgramBaseline,
  ngramBaseline,
  packDocuments,
  type Sequences,
  splitDocuments,
} from "@mc/data";
import { loadFactbook } from "./data/factbook.ts";
import { loadTextFile } from "./data/textFile.ts";
import { type TrainOptions, UsageError } from "./options.ts";

/** A text, cut and packed. */
export interface Corpus {
  /** For people. */
  name: string;
  /** Token ids of each document. */
  documents: { train: Int32Array[]; validation: Int32Array[] };
  sequences: { train: Sequences; validation: Sequences };
  /** Losses of the order-1 and order-2 n-gram models on the validation documents. */
  baselines: NgramBaseline[];
}

// The split stays the same for every --seed, so that runs can be compared.
const SPLIT_SEED = 1;
const VALIDATION_FRACTION = 0.05;
// More validation text than this would take longer to measure than it tells.
const LARGEST_VALIDATION = 150_000;

export const tokenizer = byteTokenizer();

/**
 * Loads the text, splits it by document, packs it, and counts the baselines.
 *
 * @throws UsageError for a text file that cannot be used, or a text too short for one batch
 */
export function loadCorpus({
  text,
  context,
  batch,
  packing,
}: Pick<TrainOptions, "text" | "context" | "batch" | "packing">): Corpus {
  const name = text ?? "the World Factbook";
  const documents = (text === undefined ? loadFactbook() : loadTextFile(text)).map(tokenizer.encodeDocument);
  const needed = batch * context;
  if (documents.length < 2 || count(documents) <= needed) throw tooShort(name, needed, documents);
  const validationFraction = Math.min(VALIDATION_FRACTION, LARGEST_VALIDATION / count(documents));
  const { train, validation } = splitDocuments(documents, { validationFraction, seed: SPLIT_SEED });
  if (count(train) < needed) throw tooShort(name, needed, train);
  return {
    name,
    documents: { train, validation },
    sequences: {
      train: packDocuments(train, { length: context, packing }),
      validation: packDocuments(validation, { length: context, packing }),
    },
    baselines: [1, 2].map((order) => ngramBaseline(train, validation, { order })),
  };
}

function tooShort(name: string, needed: number, documents: readonly Int32Array[]): UsageError {
  return new UsageError(
    `--text: ${name} is too short: a batch (--batch times --context) needs ${needed} bytes to train on, and validation some more, ` +
      `got ${count(documents)}`,
  );
}

/** Tokens in all documents. */
export function count(documents: readonly Int32Array[]): number {
  return documents.reduce((sum, ids) => sum + ids.length, 0);
}
