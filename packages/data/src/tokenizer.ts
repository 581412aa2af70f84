// tokenizer.ts: text to token ids and back, one id a byte.
import { ValueError } from "@mc/tensor";

/** Turns text into token ids and back. */
export interface Tokenizer {
  /** Number of ids; ids are in [0, vocabSize). */
  readonly vocabSize: number;
  /** The id that `encodeDocument` puts at the end of a document. */
  readonly endOfDocument: number;
  /** The ids of a text, without an end. */
  encode(text: string): Int32Array;
  /** The ids of a whole document: those of its text, then `endOfDocument`. */
  encodeDocument(text: string): Int32Array;
  /** The text of ids; ends of documents are left out. */
  decode(ids: Iterable<number>): string;
}

const END = 0;

/**
 * The tokenizer without a vocabulary to train: 256 ids, each a byte of the text in UTF-8.
 *
 * Id 0 marks the end of a document: the character NUL does not occur in text, so the byte is free, and the vocabulary stays at 256.
 * A text that has it is refused. `decode(encode(text)) === text` for every text that `encode` takes; bytes that are not UTF-8, such
 * as a character cut in half by sampling, decode to U+FFFD.
 *
 * @throws ValueError from `encode` for a text with NUL or half a surrogate pair; from `decode` for an id out of [0, 256)
 * @example
 * const { encode, decode } = byteTokenizer();
 * encode("né"); // Int32Array [110, 195, 169]
 * decode([110, 195, 169, 0]); // "né"
 */
export function byteTokenizer(): Tokenizer {
  const encoder = new TextEncoder();

  function bytesOf(text: string): Uint8Array {
    const nul = text.indexOf("\0");
    if (nul >= 0) {
      throw new ValueError(`byteTokenizer: the text must not have NUL, which marks document ends, got one at ${nul}`);
    }
    checkWellFormed("byteTokenizer", text);
    return encoder.encode(text);
  }

  function decode(ids: Iterable<number>): string {
    const bytes: number[] = [];
    for (const id of ids) {
      if (!Number.isInteger(id) || id < 0 || id > 255) {
        throw new ValueError(`byteTokenizer: ids must be integers in [0, 256), got ${id}`);
      }
      if (id !== END) bytes.push(id);
    }
    // ignoreBOM keeps a leading U+FEFF, which is a character like any other here.
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  }

  return {
    vocabSize: 256,
    endOfDocument: END,
    encode: (text) => Int32Array.from(bytesOf(text)),
    encodeDocument: (text) => {
      const bytes = bytesOf(text);
      const ids = new Int32Array(bytes.length + 1).fill(END);
      ids.set(bytes);
      return ids;
    },
    decode,
  };
}

/** @throws ValueError for a text with half a surrogate pair, which has no UTF-8 */
export function checkWellFormed(op: string, text: string): void {
  const half = text.search(/\p{Surrogate}/u);
  if (half >= 0) throw new ValueError(`${op}: the text must be well-formed, got half a surrogate pair at ${half}`);
}
