// packing.ts: documents in memory as sequences, in one of three ways.
import { ValueError } from "@mc/tensor";
import { Packer, type Row } from "./packer.ts";
import { checkPacking, emptyArrays, type Packing, type PackOptions, type Sequences } from "./sequences.ts";

/**
 * Packs documents into sequences of one length, in one of three ways.
 *
 * The label of a token is the next token *of the same document*, also where that one is already in the next sequence or cut off. The
 * last token of a document has the label IGNORED_LABEL, so no label ever crosses into another document.
 *
 * "chunks" and "masked" waste nothing: each token is an input once and in order, and the labels that count number
 * `sum(document.length - 1)`. What is missing at the end of the last sequence is padding. "padded" begins every sequence with a
 * document: `paddingCount` and `droppedCount` tell what that costs.
 *
 * @param documents token ids of each document; empty ones are allowed and add nothing
 * @throws ValueError for a length below 1, an unknown packing, or when there is no token at all
 * @example
 * const { encodeDocument } = byteTokenizer();
 * const documents = [encodeDocument("ab"), encodeDocument("c")]; // [97, 98, 0] and [99, 0]
 * const sequences = packDocuments(documents, { length: 4, packing: "masked" });
 * // inputs [97, 98, 0, 99 | 0, 0, 0, 0]   labels [98, 0, -100, 0 | -100, -100, -100, -100]
 * // documents [0, 0, 0, 1 | 1, -1, -1, -1]   positions [0, 1, 2, 0 | 0, 0, 1, 2]
 * const alone = packDocuments(documents, { length: 4, packing: "padded" });
 * // inputs [97, 98, 0, 0 | 99, 0, 0, 0]   labels [98, 0, -100, -100 | 0, -100, -100, -100]   paddingCount 3
 */
export function packDocuments<P extends Packing = "chunks">(
  documents: readonly Int32Array[],
  { length, packing = "chunks" as P }: PackOptions<P>,
): Sequences<P> {
  checkPacking("packDocuments", { length, packing });
  const filled = documents.filter((ids) => ids.length > 0).length;
  const tokens = documents.reduce((total, ids) => total + ids.length, 0);
  if (tokens === 0) throw new ValueError("packDocuments: the documents must have at least one token, got none");

  const count = packing === "padded" ? filled : Math.ceil(tokens / length);
  const all = emptyArrays(count * length);
  let rows = 0;
  const packer = new Packer(length, packing, () => {
    const start = rows++ * length;
    return {
      inputs: all.inputs.subarray(start, start + length),
      labels: all.labels.subarray(start, start + length),
      documents: all.documents.subarray(start, start + length),
      positions: all.positions.subarray(start, start + length),
    };
  });
  let [labelCount, paddingCount, droppedCount] = [0, 0, 0];
  const add = (row: Row | undefined): boolean => {
    labelCount += row?.labelCount ?? 0;
    paddingCount += row?.paddingCount ?? 0;
    droppedCount += row?.droppedCount ?? 0;
    return row !== undefined;
  };
  documents.forEach((ids, document) => {
    packer.feed(ids, document);
    while (add(packer.next())) {}
  });
  add(packer.finish());
  return { packing, count, length, ...all, labelCount, paddingCount, droppedCount };
}
