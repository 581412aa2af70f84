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
export function loadCorpus({ text, context, batch }: Pick<TrainOptions, "text" | "context" | "batch">): Corpus {
  const name = text ?? "World Factbook";
  const documents = (text === undefined ? loadFactbook() : loadTextFile(text)).map(tokenizer.encodeDocument);
  const tokens = count(documents);
  const needed = batch * context;
  const tooShort = (got: number) =>
    new UsageError(
      `${text === undefined ? "--context" : "--text"}: a batch of ${batch} sequences of ${context} bytes needs ${needed} bytes ` +
        `to train on, and more to validate on, but ${name} is too short: it has ${got}`,
    );
  if (documents.length < 2) throw tooShort(tokens);
  const validationFraction = Math.min(VALIDATION_FRACTION, LARGEST_VALIDATION / tokens);
  const { train, validation } = splitDocuments(documents, { validationFraction, seed: SPLIT_SEED });
  if (count(train) < needed) throw tooShort(count(train));
  return {
    name,
    documents: { train, validation },
    sequences: {
      train: packDocuments(train, { length: context }),
      validation: packDocuments(validation, { length: context }),
    },
    baselines: [1, 2].map((order) => ngramBaseline(train, validation, { order })),
  };
}

/** Tokens in all documents. */
export function count(documents: readonly Int32Array[]): number {
  return documents.reduce((sum, ids) => sum + ids.length, 0);
}
