// packStream.ts: a stream of documents as a stream of sequences, and those as a stream of batches.
import { ValueError } from "@mc/tensor";
import { type Batch, checkBatchSize, joinRows } from "./batches.ts";
import { checkSettings, cursorCount, cursorWithin } from "./cursor.ts";
import { Packer, type Row } from "./packer.ts";
import { checkPacking, emptyArrays, type Packing, type PackOptions, type Sequences } from "./sequences.ts";
import { type DataStream, dataStream } from "./stream.ts";

// Document ids are i32: they start anew before they would overflow. They need to differ within a sequence only.
const DOCUMENT_IDS = 2 ** 31;

/**
 * Packs a stream of documents, as `packDocuments` packs a list: the same documents give the same sequences, one at a time (`count` 1).
 *
 * What is held is one document and one sequence. A cursor names the document that comes next in the sequence, and its next token.
 *
 * @param documents token ids of each document; empty ones are allowed and add nothing
 * @throws ValueError for a length below 1 or an unknown packing; from reading, for a cursor of another stream
 * @example
 * const documents = mapStream(streamOf(["one text", "another"]), byteTokenizer().encodeDocument);
 * for await (const sequence of packStream(documents, { length: 8, packing: "masked" })) {
 *   sequence.inputs; // 8 token ids
 * }
 */
export function packStream<P extends Packing = "chunks">(
  documents: DataStream<Int32Array>,
  { length, packing = "chunks" as P }: PackOptions<P>,
): DataStream<Sequences<P>> {
  const op = "packStream";
  checkPacking(op, { length, packing });
  return dataStream((resume) => {
    if (resume) checkSettings(op, resume, { length, packing });
    const reader = documents.read(resume && cursorWithin(op, resume, "source"));
    const packer = new Packer(length, packing, () => emptyArrays(length));
    let document = resume ? cursorCount(op, resume, "document") : 0;
    let from = resume ? cursorCount(op, resume, "token") : 0; // tokens of the next document that came before
    let place = { source: reader.cursor(), document, token: from }; // before the document in the packer

    return {
      async pull() {
        for (;;) {
          const row = packer.next();
          if (row) {
            place = { ...place, token: packer.taken };
            return toSequences(row, length, packing);
          }
          place = { source: reader.cursor(), document, token: from };
          const { done, value } = await reader.next();
          if (done) {
            const last = packer.finish();
            return last && toSequences(last, length, packing);
          }
          if (from > value.length) {
            throw new ValueError(
              `${op}: the documents must be those that the cursor was taken with, got ${value.length} tokens where ${from} were used`,
            );
          }
          packer.feed(value, document, from);
          document = (document + 1) % DOCUMENT_IDS;
          from = 0;
        }
      },
      cursor: () => ({ length, packing, ...place }),
    };
  });
}

function toSequences<P extends Packing>(row: Row, length: number, packing: P): Sequences<P> {
  return { packing, count: 1, length, ...row };
}

/** Options of `batchStream`. */
export interface BatchStreamOptions {
  /** Sequences a batch, B >= 1. */
  batchSize: number;
}

/**
 * Batches of a stream of sequences, in their order, as `orderedBatches` makes them of sequences in memory.
 *
 * All batches have the same shape: if the stream ends, its last batch is filled up with padding rows, whose labels are ignored.
 *
 * @param sequences from `packStream`, shuffled or not; all of one length
 * @throws ValueError for a batch size below 1; from reading, for sequences of different lengths
 * @example
 * const texts = streamOf(["one text", "another text", "a third text"]);
 * const documents = mapStream(shuffleStream(texts, { bufferSize: 3, seed: 1, epochs: 2 }), byteTokenizer().encodeDocument);
 * const batches = batchStream(packStream(documents, { length: 8, packing: "masked" }), { batchSize: 2 });
 *
 * const reader = batches.read();
 * for await (const batch of reader) {
 *   const { inputs, labels, documents, positions } = toTensors(batch); // i32 [2, 8] each
 *   const saved = JSON.stringify(reader.cursor()); // batches.read(JSON.parse(saved)) begins with the next batch
 * }
 */
export function batchStream<P extends Packing>(
  sequences: DataStream<Sequences<P>>,
  { batchSize }: BatchStreamOptions,
): DataStream<Batch<P>> {
  checkBatchSize("batchStream", batchSize);
  return dataStream((resume) => {
    const reader = sequences.read(resume);
    return {
      async pull() {
        const rows: { sequences: Sequences<P>; row: number }[] = [];
        while (rows.length < batchSize) {
          const { done, value } = await reader.next();
          if (done) break;
          const { length } = rows[0]?.sequences ?? value;
          if (value.length !== length) {
            throw new ValueError(`batchStream: sequences must have one length, got ${length} and ${value.length}`);
          }
          rows.push({ sequences: value, row: 0 });
        }
        return rows.length > 0 ? joinRows(rows, batchSize) : undefined;
      },
      cursor: () => reader.cursor(),
    };
  });
}
