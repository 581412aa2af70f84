// files/source.ts: bytes that can be read piece by piece: a file picked in a browser, a file of Node, anything with a size.
import { McError } from "@mc/tensor";
import { type Cursor, cursorCount, cursorWithin } from "../cursor.ts";
import { type DataStream, dataStream, type StreamSource } from "../stream.ts";

/** Data that cannot be read as what it should be: a line that is not JSON, a column that is missing, a file that is gone. */
export class DataError extends McError {
  override name = "DataError";
}

/** Bytes that can be read piece by piece. `fileSource` of `@mc/data/node` makes one of a path; a `Blob` or `File` is one as it is. */
export interface ByteSource {
  /** For error messages. */
  readonly name: string;
  /** Number of bytes. */
  size(): Promise<number>;
  /** The bytes from `start` up to and without `end`, which is at most `size()`. */
  read(start: number, end: number): Promise<Uint8Array>;
}

/** One file or several, read one after another. */
export type Sources = Blob | ByteSource | readonly (Blob | ByteSource)[];

/** A `Blob` or `File` as a `ByteSource`, and a `ByteSource` as it is. */
export function toByteSource(source: Blob | ByteSource): ByteSource {
  if (!(source instanceof Blob)) return source;
  return {
    name: "name" in source ? String(source.name) : "the blob",
    size: async () => source.size,
    read: async (start, end) => new Uint8Array(await source.slice(start, end).arrayBuffer()),
  };
}

/**
 * A stream over several files: what `open` makes of each, one after another.
 *
 * @param open begins to read a file, at its start or at a cursor that an earlier reading of it gave
 */
export function overSources<T>(
  op: string,
  sources: Sources,
  open: (source: ByteSource, cursor?: Cursor) => StreamSource<T>,
): DataStream<T> {
  const all = ("length" in sources ? sources : [sources]).map(toByteSource);
  return dataStream((resume) => {
    let file = resume ? cursorCount(op, resume, "file", all.length) : 0;
    let current = file < all.length ? open(all[file]!, resume && cursorWithin(op, resume, "place")) : undefined;
    return {
      async pull() {
        while (current) {
          const value = await current.pull();
          if (value !== undefined) return value;
          file += 1;
          current = file < all.length ? open(all[file]!) : undefined;
        }
        return undefined;
      },
      cursor: () => ({ file, place: current?.cursor() ?? {} }),
    };
  });
}

/** What a value that is not a text is, for an error message. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "null";
  return Array.isArray(value) ? "an array" : `${/^[aeiou]/.test(typeof value) ? "an" : "a"} ${typeof value}`;
}
