import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { packDocuments } from "./packing.ts";
import { hostRandom } from "./random.ts";
import { IGNORED_LABEL, NO_DOCUMENT } from "./sequences.ts";

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
      packing: "chunks",
      paddingCount: 3,
      droppedCount: 0,
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

describe('packDocuments(documents, { length, packing: "masked" })', () => {
  test("gives the sequences of chunks; what differs is what a model gets of them", () => {
    for (let seed = 0; seed < 20; seed++) {
      const documents = tracedDocuments(seed);
      const length = 1 + (seed % 9);
      const { packing, ...masked } = packDocuments(documents, { length, packing: "masked" });
      const { packing: other, ...chunks } = packDocuments(documents, { length, packing: "chunks" });
      expect([packing, other]).toEqual(["masked", "chunks"]);
      expect(masked).toEqual(chunks);
    }
  });
});

describe('packDocuments(documents, { length, packing: "padded" })', () => {
  test("lays two documents into two sequences, and cuts a third that is too long", () => {
    const documents = [Int32Array.of(97, 98, 0), Int32Array.of(99, 0), Int32Array.of(1, 2, 3, 4, 5, 6)];
    expect(packDocuments(documents, { length: 4, packing: "padded" })).toEqual({
      packing: "padded",
      count: 3,
      length: 4,
      inputs: Int32Array.of(97, 98, 0, 0, 99, 0, 0, 0, 1, 2, 3, 4),
      labels: Int32Array.of(98, 0, -100, -100, 0, -100, -100, -100, 2, 3, 4, 5),
      documents: Int32Array.of(0, 0, 0, -1, 1, 1, -1, -1, 2, 2, 2, 2),
      positions: Int32Array.of(0, 1, 2, 0, 0, 1, 0, 1, 0, 1, 2, 3),
      labelCount: 7,
      paddingCount: 3,
      droppedCount: 2,
    });
  });

  test("has one document a sequence, over 200 random lists, and says what that wastes", () => {
    for (let seed = 0; seed < 200; seed++) {
      const length = 1 + (seed % 9);
      const documents = tracedDocuments(seed);
      const filled = documents.filter((ids) => ids.length > 0);
      const packed = packDocuments(documents, { length, packing: "padded" });
      expect(packed.count).toBe(filled.length);
      const rows = filled.map((_, row) => [...packed.inputs.subarray(row * length, (row + 1) * length)]);
      expect(rows).toEqual(filled.map((ids) => Array.from({ length }, (_, i) => ids[i] ?? 0)));
      const labels = filled.map((_, row) => [...packed.labels.subarray(row * length, (row + 1) * length)]);
      expect(labels).toEqual(filled.map((ids) => Array.from({ length }, (_, i) => ids[i + 1] ?? IGNORED_LABEL)));
      expect(packed.labelCount).toBe(packed.labels.filter((label) => label !== IGNORED_LABEL).length);
      expect(packed.paddingCount).toBe(packed.documents.filter((id) => id === NO_DOCUMENT).length);
      expect(total(documents) + packed.paddingCount - packed.droppedCount).toBe(packed.count * length);
    }
  });
});

describe("the three ways of packing", () => {
  test("waste as much as their counts say", () => {
    const documents = [20, 3, 5, 4, 12, 2].map((size) => new Int32Array(size).fill(7)); // 46 tokens
    const counts = (packing: "padded" | "chunks" | "masked") => {
      const { count, labelCount, paddingCount, droppedCount } = packDocuments(documents, { length: 8, packing });
      return { count, labelCount, paddingCount, droppedCount };
    };
    expect(counts("padded")).toEqual({ count: 6, labelCount: 26, paddingCount: 18, droppedCount: 16 });
    expect(counts("chunks")).toEqual({ count: 6, labelCount: 40, paddingCount: 2, droppedCount: 0 });
    expect(counts("masked")).toEqual(counts("chunks"));
  });

  test("are three, and another name is refused", () => {
    const documents = [Int32Array.of(1, 2)];
    // @ts-expect-error: the types refuse it too
    expect(() => packDocuments(documents, { length: 4, packing: "packed" })).toThrow(
      'packDocuments: packing must be "padded", "chunks" or "masked", got "packed"',
    );
  });
});
