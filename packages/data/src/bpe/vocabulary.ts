// bpe/vocabulary.ts: the tokens that merges make out of bytes.
import { ValueError } from "@mc/tensor";
import { BYTE_CHARACTERS, BYTE_ORDER } from "./bytes.ts";

/** Two ids that `encode` joins. */
export type Merge = readonly [left: number, right: number];

/** What a tokenizer is made of. */
export interface BpeDefinition {
  /** What the end of a document is called. */
  end: string;
  merges: readonly Merge[];
}

/** The id that ends a document: the first, as Hugging Face's trainer gives it to a special token. */
export const END = 0;

/** Number of ids that are no merges: the end of a document, and the bytes. */
export const BASE_SIZE = 1 + BYTE_ORDER.length;

/** The id of each byte. */
export const BYTE_IDS: Int32Array = (() => {
  const ids = new Int32Array(256);
  BYTE_ORDER.forEach((byte, i) => {
    ids[byte] = 1 + i;
  });
  return ids;
})();

const byteOfCharacter = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/** The tokens by id: the end of a document, the bytes, then what merges make, in characters that stand for bytes. */
export class Vocabulary {
  readonly tokens: string[];
  private readonly ids: Map<string, number>;

  constructor(end: string) {
    this.tokens = [end, ...BYTE_ORDER.map((byte) => BYTE_CHARACTERS[byte]!)];
    this.ids = new Map(this.tokens.map((token, id) => [token, id]));
  }

  /** The id of what two tokens make: a new one, or that of another pair that makes the same. */
  join([left, right]: Merge): number {
    const token = this.tokens[left]! + this.tokens[right]!;
    const known = this.ids.get(token);
    if (known !== undefined) return known;
    this.ids.set(token, this.tokens.length);
    return this.tokens.push(token) - 1;
  }

  /** The id of a token; undefined when there is none. */
  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  /** The bytes of a token; none for the end of a document. */
  bytesOf(id: number): Uint8Array {
    if (id === END) return new Uint8Array(0);
    return Uint8Array.from(this.tokens[id]!, (character) => byteOfCharacter.get(character)!);
  }
}

/** @throws ValueError for a name that a token of bytes could have too */
export function checkEnd(op: string, end: string): void {
  if (end.length < 2 || [...end].some((character) => character > "\u00FF" && byteOfCharacter.has(character))) {
    throw new ValueError(
      `${op}: endOfDocument must have two characters or more, and none that stands for a byte (U+0100 to U+0143), got ${JSON.stringify(end)}`,
    );
  }
}
