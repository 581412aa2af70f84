// @mc/data: text to token ids, documents to sequences, sequences to shuffled batches, all on the host until the last step.
export {
  type Batch,
  type BatchIterator,
  type OrderedBatchesOptions,
  orderedBatches,
  type ShuffledBatchesOptions,
  shuffledBatches,
} from "./batches.ts";
export { type BpeTokenizer, bpeTokenizer } from "./bpe/bpeTokenizer.ts";
export type { TokenizerJson } from "./bpe/tokenizerJson.ts";
export { type TrainBpeOptions, trainBpe } from "./bpe/trainBpe.ts";
export type { Merge } from "./bpe/vocabulary.ts";
export type { Cursor, CursorValue } from "./cursor.ts";
export { type DocumentSplit, type SplitDocumentsOptions, splitDocuments } from "./documents.ts";
export { type JsonlDocumentsOptions, jsonlDocuments } from "./files/jsonlDocuments.ts";
export type { TextFileOptions } from "./files/pieces.ts";
export { type ByteSource, DataError, type Sources } from "./files/source.ts";
export { type TextDocumentsOptions, textDocuments } from "./files/textDocuments.ts";
export { type NgramBaseline, type NgramBaselineOptions, ngramBaseline } from "./ngram.ts";
export { packDocuments } from "./packing.ts";
export { type BatchStreamOptions, batchStream, packStream } from "./packStream.ts";
export { type HostRandom, hostRandom, permutation, type RandomState } from "./random.ts";
export { IGNORED_LABEL, NO_DOCUMENT, type Packing, type PackOptions, type Sequences } from "./sequences.ts";
export { type ShuffleStreamOptions, shuffleStream } from "./shuffleStream.ts";
export { type DataStream, dataStream, mapStream, type StreamReader, type StreamSource, streamOf } from "./stream.ts";
export { type BatchField, type BatchTensors, type ToTensorsOptions, toTensors } from "./tensors.ts";
export { byteTokenizer, type Tokenizer } from "./tokenizer.ts";
