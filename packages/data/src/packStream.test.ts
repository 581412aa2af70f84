import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { type Batch, orderedBatches } from "./batches.ts";
import { packDocuments } from "./packing.ts";
import { batchStream, packStream } from "./packStream.ts";
import { hostRandom } from "./random.ts";
import type { Packing, Sequences } from "./sequences.ts";
import { shuffleStream } from "./shuffleStream.ts";
import { mapStream, streamOf } from "./stream.ts";

const all = async <T>(values: AsyncIterable<T>) => {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
};

const PACKINGS: readonly Packing[] = ["padded", "chunks", "masked"];

/** Documents of 0 to 20 random tokens, the last one not empty. */
function randomDocuments(seed: number, count: number): Int32Array[] {
  const random = hostRandom(seed);
  const document = (size: number) => Int32Array.from({ length: size }, () => random.below(100));
  return [...Array.from({ length: count - 1 }, () => document(random.below(21))), document(3)];
}

/** Sequences as one, to be compared with those packed in memory. */
function joined(parts: readonly Sequences[]): Sequences {
  const flat = (name: "inputs" | "labels" | "documents" | "positions") =>
    Int32Array.from(parts.flatMap((part) => [...part[name]]));
  const sum = (name: "count" | "labelCount" | "paddingCount" | "droppedCount") =>
    parts.reduce((total, part) => total + part[name], 0);
  return {
    packing: parts[0]!.packing,
    length: parts[0]!.length,
    inputs: flat("inputs"),
    labels: flat("labels"),
    documents: flat("documents"),
    positions: flat("positions"),
    count: sum("count"),
    labelCount: sum("labelCount"),
    paddingCount: sum("paddingCount"),
    droppedCount: sum("droppedCount"),
  };
}

describe("packStream(documents, { length, packing })", () => {
  test("gives the sequences that packDocuments gives, in each of the three ways, over random documents", async () => {
    for (let seed = 0; seed < 30; seed++) {
      const documents = randomDocuments(seed, 1 + (seed % 12));
      const length = 1 + (seed % 9);
      for (const packing of PACKINGS) {
        const sequences = await all(packStream(streamOf(documents), { length, packing }));
        expect(sequences.every(({ count }) => count === 1)).toBe(true);
        expect(joined(sequences)).toEqual(packDocuments(documents, { length, packing }));
      }
    }
  });

  test("lays documents end to end by default, and gives nothing for nothing", async () => {
    const [sequence] = await all(packStream(streamOf([Int32Array.of(1, 2)]), { length: 3 }));
    expect(sequence!.packing).toBe("chunks");
    expect(await all(packStream(streamOf([new Int32Array(0)]), { length: 3 }))).toEqual([]);
  });

  test("resumes at a cursor saved as JSON from every place, also within a long document", async () => {
    const documents = [Int32Array.of(1, 2), new Int32Array(23).fill(3), new Int32Array(0), ...randomDocuments(1, 5)];
    for (const packing of PACKINGS) {
      const stream = packStream(streamOf(documents), { length: 4, packing });
      const expected = await all(stream);
      const reader = stream.read();
      for (let taken = 0; taken <= expected.length; taken++) {
        const cursor = JSON.parse(JSON.stringify(reader.cursor()));
        expect(await all(stream.read(cursor))).toEqual(expected.slice(taken));
        await reader.next();
      }
    }
  });

  test("refuses lengths and packings that there are not, other cursors, and documents that have changed", async () => {
    const documents = streamOf([Int32Array.of(1, 2, 3, 4, 5)]);
    expect(() => packStream(documents, { length: 0 })).toThrow("packStream: length must be an integer >= 1, got 0");
    // @ts-expect-error: the types refuse it too
    expect(() => packStream(documents, { length: 4, packing: "tight" })).toThrow(ValueError);
    const reader = packStream(documents, { length: 4 }).read();
    await reader.next();
    const cursor = reader.cursor();
    expect(() => packStream(documents, { length: 5 }).read(cursor)).toThrow("with length 4, got 5");
    expect(() => packStream(documents, { length: 4, packing: "masked" }).read(cursor)).toThrow(
      'with packing "chunks", got "masked"',
    );
    const others = packStream(streamOf([Int32Array.of(1)]), { length: 4 });
    await expect(others.read(cursor).next()).rejects.toThrow("got 1 tokens where 4 were used");
  });
});

describe("batchStream(sequences, { batchSize })", () => {
  test("gives the batches that orderedBatches gives of the same documents, in each of the three ways", async () => {
    for (let seed = 0; seed < 12; seed++) {
      const documents = randomDocuments(seed, 2 + seed);
      const [length, batchSize] = [2 + (seed % 5), 1 + (seed % 4)];
      for (const packing of PACKINGS) {
        const batches = await all(batchStream(packStream(streamOf(documents), { length, packing }), { batchSize }));
        expect(batches).toEqual([...orderedBatches(packDocuments(documents, { length, packing }), { batchSize })]);
      }
    }
  });

  test("resumes exactly through text, shuffling, packing and batches: one cursor holds the places of all", async () => {
    const texts = ["ab", "cde", "", "fghijklmnopqr", "s", "tu", "vwxyz", "0123456789"];
    for (const packing of PACKINGS) {
      const shuffled = shuffleStream(streamOf(texts), { bufferSize: 3, seed: 2, epochs: 3 });
      const documents = mapStream(shuffled, (text) => Int32Array.from(text, (c) => c.charCodeAt(0)));
      const stream = batchStream(packStream(documents, { length: 4, packing }), { batchSize: 2 });
      const expected = await all(stream);
      expect(expected.length).toBeGreaterThan(8);
      const seen: Batch[] = [];
      for (let cursor: string | undefined, more = true; more; ) {
        const reader = stream.read(cursor ? JSON.parse(cursor) : undefined);
        const { done, value } = await reader.next();
        if (done) more = false;
        else seen.push(value);
        cursor = JSON.stringify(reader.cursor());
      }
      expect(seen).toEqual(expected);
    }
  });

  test("refuses a batch size below one and sequences of different lengths", async () => {
    const sequences = packStream(streamOf([Int32Array.of(1, 2)]), { length: 2 });
    expect(() => batchStream(sequences, { batchSize: 0 })).toThrow(
      "batchStream: batchSize must be an integer >= 1, got 0",
    );
    const mixed = streamOf([2, 3].map((length) => packDocuments([Int32Array.of(1)], { length })));
    await expect(batchStream(mixed, { batchSize: 2 }).read().next()).rejects.toThrow(
      "batchStream: sequences must have one length, got 2 and 3",
    );
  });
});
