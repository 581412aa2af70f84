import { type BasicType, parquetWriteBuffer } from "hyparquet-writer";
import { describe, expect, test } from "vitest";
import { type ByteSource, DataError, toByteSource } from "./files/source.ts";
import fixtures from "./fixtures/parquet.json";
import { parquetDocuments } from "./parquet.ts";

const { texts } = fixtures;
const files: Record<string, string> = fixtures.files; // name -> base64, written by another library

const all = async <T>(values: AsyncIterable<T>) => {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
};
const failure = (stream: AsyncIterable<unknown>) =>
  all(stream).then(
    () => undefined,
    (error) => error as Error,
  );
const fileOf = (name: string) =>
  new File([Uint8Array.from(atob(files[name]!), (character) => character.charCodeAt(0))], `${name}.parquet`);

const SAME_TEXTS = Object.keys(files).filter((name) => !["with null", "no rows"].includes(name));

describe("parquetDocuments(sources, { column })", () => {
  test.each(SAME_TEXTS)("reads a file with %s", async (name) => {
    expect(await all(parquetDocuments(fileOf(name), { column: "text" }))).toEqual(texts);
  });

  test("resumes at a cursor saved as JSON, over row groups, pages and files", async () => {
    const stream = parquetDocuments([fileOf("plain pages with an index"), fileOf("no rows"), fileOf("zstd")], {
      column: "text",
    });
    const expected = [...texts, ...texts];
    const reader = stream.read();
    for (let taken = 0; taken <= expected.length; taken++) {
      const cursor = JSON.parse(JSON.stringify(reader.cursor()));
      expect(await all(stream.read(cursor))).toEqual(expected.slice(taken));
      await reader.next();
    }
  });

  test("names the columns there are when one is missing, and the row that holds no text", async () => {
    const messages = await Promise.all([
      failure(parquetDocuments(fileOf("zstd"), { column: "body" })),
      failure(parquetDocuments(fileOf("zstd"), { column: "id" })),
      failure(parquetDocuments(fileOf("zstd"), { column: "meta" })),
      failure(parquetDocuments(fileOf("with null"), { column: "text" })),
    ]);
    expect(messages.map((error) => String(error))).toEqual([
      'DataError: parquetDocuments: zstd.parquet must have the column "body", got "id", "text", "meta"',
      'DataError: parquetDocuments: zstd.parquet row 0 must have a text in the column "id", got a bigint',
      'DataError: parquetDocuments: zstd.parquet row 0 must have a text in the column "meta", got an object',
      'DataError: parquetDocuments: with null.parquet row 2 must have a text in the column "text", got null',
    ]);
  });

  test("refuses what is not Parquet, or damaged", async () => {
    const zstd = new Uint8Array(await fileOf("zstd").arrayBuffer());
    const damaged = zstd.slice();
    damaged.fill(7, 4, 600);
    for (const bytes of ["", "PAR1", "not a Parquet file", zstd.slice(0, 900), zstd.slice(500), damaged]) {
      const error = await failure(parquetDocuments(new File([bytes], "x.parquet"), { column: "text" }));
      expect(error).toBeInstanceOf(DataError);
      expect(error!.message).toContain("parquetDocuments: x.parquet must be a Parquet file that can be decoded: ");
    }
  });

  test.each([true, false])("holds a part of a large file at a time, with a page index: %s", async (offsetIndex) => {
    // 5,000 documents of about 1 KB that hardly compress, in groups of 2,500 rows, in pages of 64 KiB.
    const documents = Array.from({ length: 5000 }, (_, i) => {
      let [text, word] = ["", i];
      for (let j = 0; j < 100; j++) {
        word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
        text += `${word} `;
      }
      return text;
    });
    const column = {
      name: "text",
      data: documents,
      type: "STRING" as BasicType,
      offsetIndex,
      encoding: "PLAIN" as const,
    };
    const file = new Blob([
      parquetWriteBuffer({
        columnData: [{ name: "id", data: documents.map((_, i) => i) }, column],
        rowGroupSize: 2500,
        pageSize: 2 ** 16,
      }),
    ]);
    const { source, largest, total } = counted(toByteSource(file));
    let row = 0;
    for await (const text of parquetDocuments(source, { column: "text" })) {
      if (text !== documents[row]) throw new Error(`row ${row} is another`);
      row += 1;
    }
    expect(row).toBe(documents.length);
    expect(file.size).toBeGreaterThan(4e6);
    expect(largest()).toBeLessThan(offsetIndex ? 1.2 * 2 ** 20 : 0.6 * file.size);
    expect(total()).toBeLessThan(1.2 * file.size);
  });
});

/** A source that remembers how much is read. */
function counted(source: ByteSource) {
  let [largest, total] = [0, 0];
  const read: ByteSource["read"] = (start, end) => {
    largest = Math.max(largest, end - start);
    total += end - start;
    return source.read(start, end);
  };
  return { source: { ...source, read }, largest: () => largest, total: () => total };
}
