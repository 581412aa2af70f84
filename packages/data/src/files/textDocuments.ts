// files/textDocuments.ts: the documents of text files of any size.
import { ValueError } from "@mc/tensor";
import type { DataStream } from "../stream.ts";
import { checkTextFileOptions, PieceReader, type TextFileOptions, textOf } from "./pieces.ts";
import { overSources, type Sources } from "./source.ts";

/** Options of `textDocuments`. */
export interface TextDocumentsOptions extends TextFileOptions {
  /**
   * What a document is: each "line"; each "paragraph", which blank lines separate; each "file"; or what lies between separators such as
   * `{ separator: "<|endoftext|>" }`.
   */
  document: "line" | "paragraph" | "file" | { readonly separator: string };
}

/**
 * The documents of text files in UTF-8, of any size: little more than one document is in memory at a time.
 *
 * Line endings become "\n". A document does not have those at its own end, nor those beside a separator. Blank ones are left out.
 *
 * @param sources a `Blob` or `File`, a `ByteSource` such as `fileSource(path)` of `@mc/data/node`, or a list of them
 * @throws ValueError for a separator without a character, or sizes below 1; from reading: DataError for a file that cannot be read, bytes
 *   that are not UTF-8, or a document over `maxDocumentBytes`
 * @example
 * const file = new Blob(["one\ntext\n\nanother\n"]); // in a browser, a File that the user picked
 * for await (const text of textDocuments(file, { document: "paragraph" })) console.log(text); // "one\ntext", "another"
 */
export function textDocuments(sources: Sources, { document, ...options }: TextDocumentsOptions): DataStream<string> {
  const op = "textDocuments";
  checkTextFileOptions(op, options);
  const separator = typeof document === "object" ? document.separator : document === "file" ? "" : "\n";
  if (typeof document === "object" && document.separator === "") {
    throw new ValueError(`${op}: a separator must have a character, got none; use document: "file"`);
  }
  if (typeof document === "string" && !["line", "paragraph", "file"].includes(document)) {
    throw new ValueError(
      `${op}: document must be "line", "paragraph", "file" or { separator }, got ${JSON.stringify(document)}`,
    );
  }
  const delimiter = new TextEncoder().encode(separator);
  const unit = separator === "\n" ? "line" : "document";

  return overSources(op, sources, (source, cursor) => {
    const reader = new PieceReader(source, delimiter, options, cursor);
    const next = async () => {
      const piece = await reader.next();
      return piece && textOf(piece, `${op}: ${source.name} ${unit} ${piece.number}`);
    };

    async function paragraph(): Promise<string | undefined> {
      const lines: string[] = [];
      let characters = 0;
      for (;;) {
        const line = await next();
        if (line === undefined || isBlank(line)) {
          if (lines.length > 0) return lines.join("\n");
          if (line === undefined) return undefined;
        } else {
          lines.push(line);
          characters += line.length + 1;
          if (characters > reader.maxBytes) throw reader.tooLong(); // a character has at least one byte
        }
      }
    }

    async function piece(): Promise<string | undefined> {
      for (;;) {
        const text = await next();
        if (text === undefined || !isBlank(text)) return text?.replace(/^\n+|\n+$/g, "");
      }
    }

    return { pull: document === "paragraph" ? paragraph : piece, cursor: () => reader.cursor() };
  });
}

const isBlank = (text: string): boolean => !/\S/.test(text);
