import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { afterAll, describe, expect, test } from "vitest";
import { jsonlDocuments } from "./files/jsonlDocuments.ts";
import { DataError } from "./files/source.ts";
import { textDocuments } from "./files/textDocuments.ts";
import fixtures from "./fixtures/parquet.json";
import { fileSource } from "./node.ts";
import { batchStream, packStream } from "./packStream.ts";
import { parquetDocuments } from "./parquet.ts";
import { shuffleStream } from "./shuffleStream.ts";
import { mapStream } from "./stream.ts";
import { byteTokenizer } from "./tokenizer.ts";

const folder = await mkdtemp(join(tmpdir(), "data-"));
afterAll(() => rm(folder, { recursive: true }));
const path = (name: string) => join(folder, name);

const all = async <T>(values: AsyncIterable<T>) => {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
};

describe("fileSource(path)", () => {
  test("is a file for text, JSON Lines and Parquet", async () => {
    await writeFile(path("a.txt"), "one\ntwo\n");
    await writeFile(path("b.txt"), "three");
    await writeFile(path("c.jsonl"), '{"text": "four"}\n');
    await writeFile(path("d.parquet"), Buffer.from(fixtures.files.zstd, "base64"));
    const texts = [path("a.txt"), path("b.txt")].map(fileSource);
    expect(await all(textDocuments(texts, { document: "line" }))).toEqual(["one", "two", "three"]);
    expect(await all(jsonlDocuments(fileSource(path("c.jsonl")), { field: "text" }))).toEqual(["four"]);
    expect(await all(parquetDocuments(fileSource(path("d.parquet")), { column: "text" }))).toEqual(fixtures.texts);
  });

  test("says what is wrong with a file that cannot be read", async () => {
    await writeFile(path("locked.txt"), "x");
    await chmod(path("locked.txt"), 0o000);
    const failure = (name: string) =>
      all(textDocuments(fileSource(path(name)), { document: "line" })).then(
        () => undefined,
        (error) => error as Error,
      );
    expect(await failure("missing.txt")).toBeInstanceOf(DataError);
    expect((await failure("missing.txt"))!.message).toBe(
      `${path("missing.txt")}: cannot be read: there is no such file`,
    );
    expect((await failure("."))!.message).toContain("cannot be read: it is not a file");
    const locked = await failure("locked.txt"); // root reads it all the same
    if (locked) expect(locked.message).toContain("cannot be read: reading is not allowed");
  });

  test("streams 23 MB into batches within a few MB of memory", async () => {
    const file = createWriteStream(path("large.jsonl"));
    const line = (i: number) => `${JSON.stringify({ id: i, text: `document ${i} `.repeat(80) })}\n`;
    for (let i = 0; i < 200; i++) {
      file.write(Array.from({ length: 100 }, (_, j) => line(i * 100 + j)).join(""));
      if (file.writableNeedDrain) await once(file, "drain");
    }
    file.end();
    await finished(file);
    const source = fileSource(path("large.jsonl"));
    expect(await source.size()).toBeGreaterThan(23e6);

    const texts = shuffleStream(jsonlDocuments(source, { field: "text" }), { bufferSize: 200, seed: 1, epochs: 1 });
    const sequences = packStream(mapStream(texts, byteTokenizer().encodeDocument), { length: 1024, packing: "masked" });
    const held = async () => {
      for (let i = 0; i < 3; i++) {
        (globalThis as { gc?: () => void }).gc?.();
        await new Promise((resolve) => setTimeout(resolve, 20)); // array buffers are freed by and by
      }
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return heapUsed + arrayBuffers;
    };
    const start = await held();
    let [batches, labels, most] = [0, 0, 0];
    for await (const batch of batchStream(sequences, { batchSize: 8 })) {
      labels += batch.labelCount;
      if (++batches % 700 === 0) most = Math.max(most, (await held()) - start);
    }
    expect(labels).toBeGreaterThan(22e6); // all but the last tokens of documents
    expect(most / 1e6).toBeLessThan(8);
  });
});
