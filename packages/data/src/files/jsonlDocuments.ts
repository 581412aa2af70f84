// files/jsonlDocuments.ts: the documents of JSON Lines files of any size.
import type { DataStream } from "../stream.ts";
import { checkTextFileOptions, type Piece, PieceReader, type TextFileOptions, textOf } from "./pieces.ts";
import { DataError, kindOf, overSources, type Sources } from "./source.ts";

/** Options of `jsonlDocuments`. */
export interface JsonlDocumentsOptions extends TextFileOptions {
  /** The field of each line's object that holds the document. */
  field: string;
}

/**
 * The documents of JSON Lines files, of any size: each line is a JSON object, one of whose fields is the document.
 *
 * Little more than one line is in memory at a time. Blank lines are left out.
 *
 * @param sources a `Blob` or `File`, a `ByteSource` such as `fileSource(path)` of `@mc/data/node`, or a list of them
 * @throws ValueError for sizes below 1; from reading: DataError, with file and line, for a line that is not JSON, not an object, or
 *   without a text in that field; for a file that cannot be read, bytes that are not UTF-8, or a line over `maxDocumentBytes`
 * @example
 * const file = new Blob(['{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n']);
 * for await (const text of jsonlDocuments(file, { field: "text" })) console.log(text); // "one", "two"
 *
 * @see JSON Lines: https://jsonlines.org
 */
export function jsonlDocuments(sources: Sources, { field, ...options }: JsonlDocumentsOptions): DataStream<string> {
  const op = "jsonlDocuments";
  checkTextFileOptions(op, options);
  return overSources(op, sources, (source, cursor) => {
    const reader = new PieceReader(source, new TextEncoder().encode("\n"), options, cursor);
    return {
      async pull() {
        let piece: Piece | undefined;
        while ((piece = await reader.next())) {
          const where = `${op}: ${source.name} line ${piece.number}`;
          const line = textOf(piece, where);
          if (/\S/.test(line)) return fieldOf(line, field, where);
        }
        return undefined;
      },
      cursor: () => reader.cursor(),
    };
  });
}

function fieldOf(line: string, field: string, where: string): string {
  let object: unknown;
  try {
    object = JSON.parse(line);
  } catch (cause) {
    throw new DataError(`${where} must be JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof object !== "object" || object === null || Array.isArray(object)) {
    throw new DataError(`${where} must be a JSON object, got ${kindOf(object)}`);
  }
  if (!Object.hasOwn(object, field)) {
    const names = Object.keys(object).map((name) => JSON.stringify(name));
    throw new DataError(
      `${where} must have the field ${JSON.stringify(field)}, got ${names.length > 0 ? names.join(", ") : "no field"}`,
    );
  }
  const value = (object as Record<string, unknown>)[field];
  if (typeof value !== "string") {
    throw new DataError(`${where} must have a text in the field ${JSON.stringify(field)}, got ${kindOf(value)}`);
  }
  return value;
}
