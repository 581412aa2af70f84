// @mc/data: text to token ids, documents to sequences, sequences to shuffled batches, all on the host until the last step.
export {
  type Batch,
  type OrderedBatchesOptions,
  orderedBatches,
  type ShuffledBatchesOptions,
  shuffledBatches,
} from "./batches.ts";
export { type DocumentSplit, type SplitDocumentsOptions, splitDocuments } from "./documents.ts";
export { type NgramBaseline, type NgramBaselineOptions, ngramBaseline } from "./ngram.ts";
export { IGNORED_LABEL, NO_DOCUMENT, type PackDocumentsOptions, packDocuments, type Sequences } from "./packing.ts";
export { type HostRandom, hostRandom, permutation } from "./random.ts";
export { type BatchField, type ToTensorsOptions, toTensors } from "./tensors.ts";
export { byteTokenizer, type Tokenizer } from "./tokenizer.ts";
