import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { count, loadCorpus } from "./corpus.ts";
import { UsageError } from "./options.ts";

const folder = mkdtempSync(join(tmpdir(), "corpus-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("loadCorpus(options)", () => {
  test("of the World Factbook has the baselines that are known for it", () => {
    const { baselines, sequences, documents } = loadCorpus({
      text: undefined,
      context: 128,
      batch: 8,
      packing: "chunks",
    });
    expect(baselines.map(({ order }) => order)).toEqual([1, 2]);
    expect(Math.abs(baselines[0]!.loss - 2.57)).toBeLessThan(0.03);
    expect(Math.abs(baselines[1]!.loss - 2.07)).toBeLessThan(0.03);
    expect(documents.validation.length).toBe(13);
    expect(sequences.validation.labelCount).toBe(baselines[0]!.tokens);
    expect(sequences.train.length).toBe(128);
  });

  test("refuses a text that is too short for a batch, and says what it has", () => {
    const path = join(folder, "short.txt");
    writeFileSync(path, "Some words. ".repeat(50));
    expect(() => loadCorpus({ text: path, context: 128, batch: 8, packing: "chunks" })).toThrow(UsageError);
    expect(() => loadCorpus({ text: path, context: 128, batch: 8, packing: "chunks" })).toThrow(`${path} is too short`);
    writeFileSync(path, "Some words. ".repeat(300));
    expect(() => loadCorpus({ text: path, context: 512, batch: 8, packing: "chunks" })).toThrow(
      "needs 4096 bytes to train on, and validation some more, got 3",
    );
    const { documents } = loadCorpus({ text: path, context: 16, batch: 8, packing: "chunks" });
    expect(count(documents.train) + count(documents.validation)).toBe(
      3600 + documents.train.length + documents.validation.length,
    );
  });

  test("measures on no more than about 150,000 bytes of a long text", () => {
    const path = join(folder, "long.txt");
    writeFileSync(path, "A line of words that goes on for a while.\n".repeat(200_000));
    const { documents } = loadCorpus({ text: path, context: 128, batch: 8, packing: "chunks" });
    expect(count(documents.validation)).toBeLessThan(200_000);
  });
});
