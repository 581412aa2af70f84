import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { IGNORED_LABEL, NO_DOCUMENT, packDocuments } from "./packing.ts";
import { hostRandom } from "./random.ts";

/** Random documents whose every token names its document and its place there. */
function tracedDocuments(seed: number): Int32Array[] {
  const random = hostRandom(seed);
  const documents = Array.from({ length: 1 + random.below(8) }, (_, document) =>
    Int32Array.from({ length: random.below(30) }, (_, place) => document * 1000 + place),
  );
  return [...documents, Int32Array.of(documents.length * 1000)];
}

const total = (documents: readonly Int32Array[]) => documents.reduce((sum, ids) => sum + ids.length, 0);

describe("packDocuments(documents, { length })", () => {
  test("lays two documents into two sequences as its example says", () => {
    const packed = packDocuments([Int32Array.of(97, 98, 0), Int32Array.of(99, 0)], { length: 4 });
    expect(packed).toEqual({
      count: 2,
      length: 4,
      inputs: Int32Array.of(97, 98, 0, 99, 0, 0, 0, 0),
      labels: Int32Array.of(98, 0, -100, 0, -100, -100, -100, -100),
      documents: Int32Array.of(0, 0, 0, 1, 1, -1, -1, -1),
      positions: Int32Array.of(0, 1, 2, 0, 0, 0, 1, 2),
      labelCount: 3,
    });
  });

  test("takes every token as an input once and in order, over 200 random lists of documents", () => {
    for (let seed = 0; seed < 200; seed++) {
      const documents = tracedDocuments(seed);
      const { inputs, documents: ids, count, length } = packDocuments(documents, { length: 1 + (seed % 9) });
      expect(inputs.length).toBe(count * length);
      expect([...inputs.subarray(0, total(documents))]).toEqual(documents.flatMap((document) => [...document]));
      ids.forEach((id, i) => {
        expect(id).toBe(i < total(documents) ? Math.floor(inputs[i]! / 1000) : NO_DOCUMENT);
      });
    }
  });

  test("labels are the next token of the same document and never cross into another", () => {
    for (let seed = 0; seed < 200; seed++) {
      const documents = tracedDocuments(seed);
      const { inputs, labels, labelCount } = packDocuments(documents, { length: 1 + (seed % 9) });
      let counted = 0;
      labels.forEach((label, i) => {
        const document = Math.floor(inputs[i]! / 1000);
        const isLast = i >= total(documents) || inputs[i]! % 1000 === documents[document]!.length - 1;
        expect(label).toBe(isLast ? IGNORED_LABEL : inputs[i]! + 1);
        if (label !== IGNORED_LABEL) counted += 1;
      });
      expect(labelCount).toBe(counted);
      expect(labelCount).toBe(documents.reduce((sum, ids) => sum + Math.max(ids.length - 1, 0), 0));
    }
  });

  test("positions count up by one and start anew with a sequence and with a document", () => {
    for (let seed = 0; seed < 200; seed++) {
      const length = 1 + (seed % 9);
      const { documents, positions } = packDocuments(tracedDocuments(seed), { length });
      positions.forEach((position, i) => {
        const starts = i % length === 0 || documents[i] !== documents[i - 1];
        expect(position).toBe(starts ? 0 : positions[i - 1]! + 1);
      });
    }
  });

  test("refuses a length below one and documents without a token", () => {
    for (const length of [0, -1, 1.5]) expect(() => packDocuments([Int32Array.of(1)], { length })).toThrow(ValueError);
    expect(() => packDocuments([], { length: 4 })).toThrow("packDocuments: the documents must have at least one token");
    expect(() => packDocuments([new Int32Array(0)], { length: 4 })).toThrow(ValueError);
  });
});
