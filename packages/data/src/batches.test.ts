import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { orderedBatches, shuffledBatches } from "./batches.ts";
import type { Cursor } from "./cursor.ts";
import { packDocuments } from "./packing.ts";
import { IGNORED_LABEL, NO_DOCUMENT } from "./sequences.ts";

/** `count` sequences of 3 tokens; sequence i starts with token 3i. */
const sequencesOf = (count: number) =>
  packDocuments([Int32Array.from({ length: 3 * count }, (_, i) => i)], { length: 3 });

const starts = (batch: { inputs: Int32Array }) => [...batch.inputs].filter((_, i) => i % 3 === 0).map((id) => id / 3);

describe("shuffledBatches(sequences, { batchSize, seed, epochs })", () => {
  test("an epoch has every sequence at most once, in full batches, and leaves out fewer than a batch", () => {
    for (let count = 1; count <= 20; count++) {
      for (let batchSize = 1; batchSize <= count; batchSize++) {
        const seen = [...shuffledBatches(sequencesOf(count), { batchSize, seed: count, epochs: 1 })].flatMap(starts);
        expect(new Set(seen).size).toBe(seen.length);
        expect(seen.length).toBe(count - (count % batchSize));
      }
    }
  });

  test("each epoch has another order, and a seed gives the same batches again", () => {
    const order = (seed: number) =>
      [...shuffledBatches(sequencesOf(40), { batchSize: 40, seed, epochs: 3 })].map(starts);
    const [first, second, third] = order(1);
    expect(first).not.toEqual(second);
    expect(second).not.toEqual(third);
    expect(order(1)).toEqual([first, second, third]);
    expect(order(2)).not.toEqual([first, second, third]);
  });

  test("keeps the rows of all arrays together", () => {
    const documents = Array.from({ length: 9 }, (_, i) => new Int32Array(5).fill(i + 1));
    const sequences = packDocuments(documents, { length: 4 });
    for (const batch of shuffledBatches(sequences, { batchSize: 2, epochs: 4 })) {
      expect(batch.shape).toEqual([2, 4]);
      batch.inputs.forEach((id, i) => {
        expect(batch.documents[i]).toBe(id - 1); // the fill names the document
        if (batch.labels[i] !== IGNORED_LABEL) expect(batch.labels[i]).toBe(id);
      });
      expect(batch.labelCount).toBe(batch.labels.filter((label) => label !== IGNORED_LABEL).length);
    }
  });

  test("goes on for ever by default", () => {
    const batches = shuffledBatches(sequencesOf(2), { batchSize: 2 });
    for (let i = 0; i < 100; i++) expect(batches.next().done).toBe(false);
  });

  test("resumes at a cursor saved as JSON with exactly the batches that would have come, from any place", () => {
    for (const [count, batchSize, epochs] of [
      [7, 2, 4],
      [6, 3, 3],
      [5, 5, 3],
      [9, 1, 2],
    ] as const) {
      const sequences = sequencesOf(count);
      const options = { batchSize, seed: count, epochs };
      const all = [...shuffledBatches(sequences, options)];
      const batches = shuffledBatches(sequences, options);
      for (let taken = 0; taken <= all.length; taken++) {
        const resume = JSON.parse(JSON.stringify(batches.cursor()));
        expect([...shuffledBatches(sequences, { ...options, resume })]).toEqual(all.slice(taken));
        expect(batches.next().value).toEqual(all[taken]);
      }
    }
  });

  test("resumes from what a resumed run saved", () => {
    const sequences = sequencesOf(5);
    let resume: Cursor | undefined;
    const seen = Array.from({ length: 11 }, () => {
      const batches = shuffledBatches(sequences, { batchSize: 2, seed: 4, ...(resume && { resume }) });
      const { value } = batches.next();
      resume = JSON.parse(JSON.stringify(batches.cursor()));
      return value;
    });
    const straight = shuffledBatches(sequences, { batchSize: 2, seed: 4 });
    expect(seen).toEqual(Array.from({ length: 11 }, () => straight.next().value));
  });

  test("refuses the cursor of something else, and says what differs", () => {
    const sequences = sequencesOf(6);
    const resume = shuffledBatches(sequences, { batchSize: 2, seed: 1 }).cursor();
    expect(() => shuffledBatches(sequences, { batchSize: 2, seed: 2, resume })).toThrow(
      "shuffledBatches: a cursor resumes what it was taken from, with seed 1, got 2",
    );
    expect(() => shuffledBatches(sequences, { batchSize: 3, seed: 1, resume })).toThrow("with batchSize 2, got 3");
    expect(() => shuffledBatches(sequencesOf(5), { batchSize: 2, seed: 1, resume })).toThrow("with count 6, got 5");
    expect(() => shuffledBatches(sequences, { batchSize: 2, resume: {} })).toThrow(
      'the cursor must be one that shuffledBatches gave, whose "batchSize" is 2, got undefined',
    );
    const damages: Cursor[] = [{ batch: 3 }, { batch: -1 }, { epoch: "1" }, { random: [1] }, { random: [1, 2, 3, -4] }];
    for (const damage of damages) {
      expect(() => shuffledBatches(sequences, { batchSize: 2, seed: 1, resume: { ...resume, ...damage } })).toThrow(
        ValueError,
      );
    }
  });

  test("refuses sizes and counts out of range at the call", () => {
    expect(() => shuffledBatches(sequencesOf(2), { batchSize: 3 })).toThrow(
      "shuffledBatches: batchSize must be at most the 2 sequences, got 3",
    );
    for (const batchSize of [0, 1.5, -1]) {
      expect(() => shuffledBatches(sequencesOf(2), { batchSize })).toThrow(ValueError);
      expect(() => orderedBatches(sequencesOf(2), { batchSize })).toThrow(ValueError);
    }
    expect(() => shuffledBatches(sequencesOf(2), { batchSize: 1, epochs: -1 })).toThrow(ValueError);
  });
});

describe("orderedBatches(sequences, { batchSize })", () => {
  test("gives every sequence once and in order, in batches of one shape, the last one padded with ignored rows", () => {
    for (let count = 1; count <= 10; count++) {
      for (let batchSize = 1; batchSize <= 12; batchSize++) {
        const sequences = sequencesOf(count);
        const batches = [...orderedBatches(sequences, { batchSize })];
        expect(batches.length).toBe(Math.ceil(count / batchSize));
        for (const batch of batches) expect(batch.shape).toEqual([batchSize, 3]);
        const inputs = batches.flatMap((batch) => [...batch.inputs]);
        const labels = batches.flatMap((batch) => [...batch.labels]);
        const ids = batches.flatMap((batch) => [...batch.documents]);
        expect(inputs.slice(0, 3 * count)).toEqual([...sequences.inputs]);
        expect(labels.slice(0, 3 * count)).toEqual([...sequences.labels]);
        expect(labels.slice(3 * count).every((label) => label === IGNORED_LABEL)).toBe(true);
        expect(ids.slice(3 * count).every((id) => id === NO_DOCUMENT)).toBe(true);
        expect(batches.reduce((sum, batch) => sum + batch.labelCount, 0)).toBe(sequences.labelCount);
        expect(batches.reduce((sum, batch) => sum + batch.paddingCount, 0)).toBe(
          3 * (batches.length * batchSize - count),
        );
      }
    }
  });
});
