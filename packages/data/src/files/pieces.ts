// files/pieces.ts: the pieces of a file between delimiters, one after another, holding little more than one piece at a time.
import { ValueError } from "@mc/tensor";
import { type Cursor, cursorCount } from "../cursor.ts";
import { type ByteSource, DataError } from "./source.ts";

/** Options of every reader of text. */
export interface TextFileOptions {
  /** A document with more bytes than this is an error, for all of it has to be in memory. Default 2^26, 64 MiB. */
  maxDocumentBytes?: number;
  /** Bytes read from a file at a time. Default 2^18, 256 KiB. */
  chunkBytes?: number;
}

/** The bytes between two delimiters. */
export interface Piece {
  /** Only until the next call. */
  bytes: Uint8Array;
  /** From 1. */
  number: number;
  /** Where it begins, in bytes from the file's start. */
  at: number;
}

/** Reads the pieces of a file from one place on. */
export class PieceReader {
  private readonly source: ByteSource;
  private readonly delimiter: Uint8Array;
  readonly maxBytes: number;
  private readonly chunkBytes: number;
  private at: number; // where the next piece begins, in bytes from the file's start
  private number: number; // pieces before it
  private size: number | undefined; // of the file
  private window = new Uint8Array(0); // holds file[at, at + held) from `start` on
  private start = 0;
  private held = 0;

  /**
   * @param delimiter what ends a piece and belongs to none; empty: the file is one piece
   * @param cursor where an earlier reading was; default: the start
   */
  constructor(
    source: ByteSource,
    delimiter: Uint8Array,
    { maxDocumentBytes = 2 ** 26, chunkBytes = 2 ** 18 }: TextFileOptions,
    cursor: Cursor = { byte: 0, piece: 0 },
  ) {
    this.source = source;
    this.delimiter = delimiter;
    this.maxBytes = maxDocumentBytes;
    this.chunkBytes = chunkBytes;
    this.at = cursorCount(source.name, cursor, "byte");
    this.number = cursorCount(source.name, cursor, "piece");
  }

  /** The place before the next piece. */
  cursor(): Cursor {
    return { byte: this.at, piece: this.number };
  }

  /** The next piece; nothing at the end. A file that ends with a delimiter has no empty piece after it. */
  async next(): Promise<Piece | undefined> {
    let searched = 0;
    for (;;) {
      const found = this.find(searched);
      if (found >= 0) return this.take(found, this.delimiter.length);
      searched = Math.max(0, this.held - this.delimiter.length + 1);
      if (this.held > this.maxBytes) throw this.tooLong();
      if (!(await this.readOn())) return this.held > 0 ? this.take(this.held, 0) : undefined;
    }
  }

  /** @throws DataError, because the piece that comes next is larger than allowed */
  tooLong(): DataError {
    return new DataError(
      `${this.source.name}: a document must have at most maxDocumentBytes = ${this.maxBytes} bytes, got more from byte ${this.at} on; ` +
        "raise that, or cut the file into more documents",
    );
  }

  private take(size: number, delimiter: number): Piece {
    const bytes = this.window.subarray(this.start, this.start + size);
    if (size > this.maxBytes) throw this.tooLong();
    const piece = { bytes, number: this.number + 1, at: this.at };
    this.start += size + delimiter;
    this.held -= size + delimiter;
    this.at += size + delimiter;
    this.number += 1;
    return piece;
  }

  /** Where the delimiter is in what is held, from `from` on; -1 if nowhere. */
  private find(from: number): number {
    const { delimiter, start } = this;
    if (delimiter.length === 0) return -1;
    const held = this.window.subarray(start, start + this.held);
    for (let i = held.indexOf(delimiter[0]!, from); i >= 0; i = held.indexOf(delimiter[0]!, i + 1)) {
      if (delimiter.every((byte, j) => held[i + j] === byte)) return i;
    }
    return -1;
  }

  /** Reads another chunk behind what is held; false at the file's end. */
  private async readOn(): Promise<boolean> {
    this.size ??= await this.source.size();
    const from = this.at + this.held;
    if (from > this.size) {
      throw new DataError(`${this.source.name}: a cursor names byte ${from}, but the file has ${this.size} bytes`);
    }
    const chunk = await this.source.read(from, Math.min(from + this.chunkBytes, this.size));
    if (chunk.length === 0 && from < this.size) {
      throw new DataError(
        `${this.source.name}: the file must have ${this.size} bytes as it had before, got an end at ${from}`,
      );
    }
    if (this.start + this.held + chunk.length > this.window.length) this.makeRoom(chunk.length);
    this.window.set(chunk, this.start + this.held);
    this.held += chunk.length;
    return chunk.length > 0;
  }

  // What is held moves to the front, of a larger window where it is long: a piece is copied a few times at most.
  private makeRoom(size: number): void {
    const needed = this.held + size;
    const held = this.window.subarray(this.start, this.start + this.held);
    if (needed * 2 > this.window.length) {
      this.window = new Uint8Array(needed * 2);
      this.window.set(held);
    } else {
      this.window.set(held); // within one buffer too, `set` copies as if through another
    }
    this.start = 0;
  }
}

/** @throws ValueError for a number of bytes below 1 */
export function checkTextFileOptions(op: string, { maxDocumentBytes = 1, chunkBytes = 1 }: TextFileOptions): void {
  for (const [name, value] of Object.entries({ maxDocumentBytes, chunkBytes })) {
    if (!Number.isInteger(value) || value < 1)
      throw new ValueError(`${op}: ${name} must be an integer >= 1, got ${value}`);
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The text of a piece, with CR LF as LF, and without the byte order mark that a file may begin with.
 *
 * @throws DataError for bytes that are not UTF-8
 */
export function textOf({ bytes, at }: Piece, where: string): string {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch (cause) {
    throw new DataError(`${where} must be text in UTF-8, got bytes that are not`, { cause });
  }
  if (at === 0 && text.startsWith("\uFEFF")) text = text.slice(1);
  return text.replaceAll("\r\n", "\n").replace(/\r$/, "");
}
