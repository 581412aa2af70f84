import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { hostRandom } from "../random.ts";
import { jsonlDocuments } from "./jsonlDocuments.ts";
import { type ByteSource, DataError, type Sources } from "./source.ts";
import { type TextDocumentsOptions, textDocuments } from "./textDocuments.ts";

const all = async <T>(values: AsyncIterable<T>) => {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
};
/** A file in memory. */
function fileOf(content: string | Uint8Array, name = "corpus.txt"): ByteSource {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return { name, size: async () => bytes.length, read: async (start, end) => bytes.slice(start, end) };
}
const failure = (stream: AsyncIterable<unknown>) =>
  all(stream).then(
    () => undefined,
    (error) => error as Error,
  );

const TEXT = "\uFEFFone\r\ntwo 漢字 🙂\r\n\r\n  \r\nthree\n\n\nfour\r\nfive";
const EXPECTED: [TextDocumentsOptions["document"], string[]][] = [
  ["line", ["one", "two 漢字 🙂", "three", "four", "five"]],
  ["paragraph", ["one\ntwo 漢字 🙂", "three", "four\nfive"]],
  ["file", ["one\ntwo 漢字 🙂\n\n  \nthree\n\n\nfour\nfive"]],
  [{ separator: "three" }, ["one\ntwo 漢字 🙂\n\n  ", "four\nfive"]],
  [{ separator: "漢字" }, ["one\ntwo ", " 🙂\n\n  \nthree\n\n\nfour\nfive"]],
  [{ separator: "nowhere" }, ["one\ntwo 漢字 🙂\n\n  \nthree\n\n\nfour\nfive"]],
];

describe("textDocuments(sources, { document })", () => {
  test.each(EXPECTED)(
    "cuts at %o, with either line ending, whatever the chunks a file is read in",
    async (document, expected) => {
      for (const chunkBytes of [1, 2, 3, 5, 7, 64, 2 ** 18]) {
        expect(await all(textDocuments(fileOf(TEXT), { document, chunkBytes }))).toEqual(expected);
        expect(await all(textDocuments(fileOf(`${TEXT}\r\n`), { document, chunkBytes }))).toEqual(expected);
      }
    },
  );

  test.each(EXPECTED)(
    "resumes at a cursor saved as JSON, cut at %o, over two files and an empty one",
    async (document, expected) => {
      const sources = [fileOf(TEXT), fileOf(""), fileOf(TEXT)];
      const stream = textDocuments(sources, { document, chunkBytes: 3 });
      const documents = [...expected, ...expected];
      const reader = stream.read();
      for (let taken = 0; taken <= documents.length; taken++) {
        const cursor = JSON.parse(JSON.stringify(reader.cursor()));
        expect(await all(stream.read(cursor))).toEqual(documents.slice(taken));
        await reader.next();
      }
    },
  );

  test("reads a File and a Blob, in pieces too", async () => {
    const sources = [new File([TEXT], "a.txt"), new Blob([TEXT])];
    const stream = textDocuments(sources, { document: "line", chunkBytes: 10 });
    expect(await all(stream)).toEqual([...EXPECTED[0]![1], ...EXPECTED[0]![1]]);
    const bytes = Uint8Array.of(97, 0xc3);
    const messages = [new File([bytes], "a.txt"), new Blob([bytes])].map(async (source) =>
      failure(textDocuments(source, { document: "line" })),
    );
    expect((await Promise.all(messages)).map((error) => error?.message.split(" must")[0])).toEqual([
      "textDocuments: a.txt line 1",
      "textDocuments: the blob line 1",
    ]);
  });

  test("finds a separator that begins like another of itself, across chunks", async () => {
    const file = fileOf("a<|<|end|><|end|>b<|end|");
    for (const chunkBytes of [1, 2, 4, 100]) {
      expect(await all(textDocuments(file, { document: { separator: "<|end|>" }, chunkBytes }))).toEqual([
        "a<|",
        "b<|end|",
      ]);
    }
  });

  test("names the file and the line where the bytes are not UTF-8", async () => {
    const bytes = Uint8Array.of(97, 10, 98, 10, 0xc3, 10);
    expect(String(await failure(textDocuments(fileOf(bytes), { document: "line" })))).toBe(
      "DataError: textDocuments: corpus.txt line 3 must be text in UTF-8, got bytes that are not",
    );
    const cut = Uint8Array.of(97, 0xe6, 0xbc); // a file that ends within a character
    expect(await failure(textDocuments(fileOf(cut), { document: "file" }))).toBeInstanceOf(DataError);
  });

  test("refuses a document over maxDocumentBytes before it has read it all", async () => {
    const big = endless("x".repeat(100));
    for (const document of ["line", "file", { separator: "\t" }] as const) {
      const error = await failure(textDocuments(big.source, { document, maxDocumentBytes: 1000, chunkBytes: 64 }));
      expect(error).toBeInstanceOf(DataError);
      expect(error!.message).toContain("endless: a document must have at most maxDocumentBytes = 1000 bytes");
    }
    const paragraphs = endless("xxxx\n");
    const error = await failure(textDocuments(paragraphs.source, { document: "paragraph", maxDocumentBytes: 1000 }));
    expect(error!.message).toContain("at most maxDocumentBytes = 1000");
    expect(await all(textDocuments(fileOf("abc\nde"), { document: "line", maxDocumentBytes: 3 }))).toEqual([
      "abc",
      "de",
    ]);
    expect(await failure(textDocuments(fileOf("abcd\nde"), { document: "line", maxDocumentBytes: 3 }))).toBeInstanceOf(
      DataError,
    );
  });

  test("refuses options that there are not, and cursors of other files", async () => {
    const file = fileOf("a\nb");
    expect(() => textDocuments(file, { document: { separator: "" } })).toThrow('use document: "file"');
    // @ts-expect-error: the types refuse it too
    expect(() => textDocuments(file, { document: "word" })).toThrow('got "word"');
    expect(() => textDocuments(file, { document: "line", chunkBytes: 0 })).toThrow(ValueError);
    expect(() => textDocuments(file, { document: "line" }).read({ file: 2 })).toThrow(ValueError);
    const far = { file: 0, place: { byte: 100, piece: 7 } };
    expect((await failure(textDocuments(file, { document: "line" }).read(far)))!.message).toBe(
      "corpus.txt: a cursor names byte 100, but the file has 3 bytes",
    );
  });
});

describe("jsonlDocuments(sources, { field })", () => {
  test("gives the field of every line, with either line ending, whatever the chunks a file is read in", async () => {
    const random = hostRandom(1);
    const texts = Array.from({ length: 30 }, () => 'é漢🙂\n\r"\\ a'.repeat(random.below(4)));
    const lines = texts.map((text, id) => JSON.stringify({ id, text, other: { text: 1 } }));
    for (const end of ["\n", "\r\n", "\n\n \n"]) {
      for (const chunkBytes of [1, 7, 64, 2 ** 18]) {
        for (const last of ["", end]) {
          const file = fileOf(`\uFEFF${lines.join(end)}${last}`);
          expect(await all(jsonlDocuments(file, { field: "text", chunkBytes }))).toEqual(texts);
        }
      }
    }
  });

  test("resumes at a cursor saved as JSON", async () => {
    const file = fileOf('{"t": "a"}\n\n{"t": "b"}\r\n{"t": "c"}');
    const stream = jsonlDocuments([file, file], { field: "t", chunkBytes: 4 });
    const reader = stream.read();
    for (let taken = 0; taken <= 6; taken++) {
      const cursor = JSON.parse(JSON.stringify(reader.cursor()));
      expect(await all(stream.read(cursor))).toEqual(["a", "b", "c", "a", "b", "c"].slice(taken));
      await reader.next();
    }
  });

  test.each([
    ['{"text": "ok"}\n\n{"text: 1}\n', "jsonlDocuments: corpus.txt line 3 must be JSON: "],
    ['{"text": "ok"}\n["text"]', "jsonlDocuments: corpus.txt line 2 must be a JSON object, got an array"],
    ["null", "jsonlDocuments: corpus.txt line 1 must be a JSON object, got null"],
    ['{"id": 1, "body": ""}', 'jsonlDocuments: corpus.txt line 1 must have the field "text", got "id", "body"'],
    ["{}", 'jsonlDocuments: corpus.txt line 1 must have the field "text", got no field'],
    ['{"text": 12}', 'jsonlDocuments: corpus.txt line 1 must have a text in the field "text", got a number'],
    ['{"text": null}', 'jsonlDocuments: corpus.txt line 1 must have a text in the field "text", got null'],
  ])("says where %j is not what it must be", async (content, message) => {
    const error = await failure(jsonlDocuments(fileOf(content), { field: "text" }));
    expect(error).toBeInstanceOf(DataError);
    expect(error!.message).toContain(message);
  });

  test("goes on counting lines from a cursor", async () => {
    const stream = jsonlDocuments(fileOf('{"t": "a"}\n{"t": "b"}\nx'), { field: "t" });
    const reader = stream.read();
    await reader.next();
    await reader.next();
    const error = await failure(stream.read(reader.cursor()));
    expect(error!.message).toContain("corpus.txt line 3");
  });
});

describe("a file larger than memory", () => {
  // 8 MB that exist only while they are read: what is held is what has been read and not yet given out.
  test.each([
    ["textDocuments", (source: Sources, chunkBytes: number) => textDocuments(source, { document: "line", chunkBytes })],
    ["jsonlDocuments", (source: Sources, chunkBytes: number) => jsonlDocuments(source, { field: "text", chunkBytes })],
  ])("is read by %s in small chunks, in order, each once, and never further ahead than a chunk", async (_, open) => {
    const line = `${JSON.stringify({ text: "räume 漢字 ".repeat(40) })}\n`;
    const bytes = new TextEncoder().encode(line).length;
    const chunkBytes = 2 ** 14;
    const file = endless(line, Math.ceil(8e6 / bytes));
    let [given, ahead] = [0, 0];
    for await (const text of open(file.source, chunkBytes)) {
      given += text.length > 0 ? bytes : 0;
      ahead = Math.max(ahead, file.read() - given);
    }
    expect(given).toBe(await file.source.size());
    expect(file.read()).toBe(given);
    expect(file.largest()).toBe(chunkBytes);
    expect(ahead).toBeLessThan(chunkBytes + bytes);
  });
});

/** A file of one text again and again, which makes its bytes when they are read. */
function endless(text: string, times = Infinity) {
  const unit = new TextEncoder().encode(text);
  let [at, largest] = [0, 0];
  const source: ByteSource = {
    name: "endless",
    size: async () => (times === Infinity ? Number.MAX_SAFE_INTEGER : times * unit.length),
    async read(start, end) {
      if (start !== 0) expect(start).toBe(at);
      at = end;
      largest = Math.max(largest, end - start);
      const bytes = new Uint8Array(end - start);
      for (let i = 0; i < bytes.length; i++) bytes[i] = unit[(start + i) % unit.length]!;
      return bytes;
    },
  };
  return { source, read: () => at, largest: () => largest };
}
