// bpe/bpeTokenizer.ts: byte-level byte-pair encoding: text to token ids and back, by merges.
import { ValueError } from "@mc/tensor";
import { checkWellFormed, type Tokenizer } from "../tokenizer.ts";
import { wordsOf } from "./bytes.ts";
import { Heap } from "./heap.ts";
import { readTokenizerJson, type TokenizerJson, writeTokenizerJson } from "./tokenizerJson.ts";
import { type BpeDefinition, BYTE_IDS, END, type Merge, Vocabulary } from "./vocabulary.ts";

/** A tokenizer whose vocabulary was trained: bytes, and longer and longer tokens merged from them. */
export interface BpeTokenizer extends Tokenizer {
  /** Pairs of ids in the order in which they were learned, which is that in which `encode` joins them. */
  readonly merges: readonly Merge[];
  /** The bytes of a token; none for the end of a document. */
  bytesOf(id: number): Uint8Array;
  /** The tokenizer as Hugging Face's tokenizer.json: `JSON.stringify(tokenizer)` is the file. */
  toJSON(): TokenizerJson;
}

/**
 * The tokenizer that a `BpeTokenizer` was saved as, read back.
 *
 * Other tokenizers' files are for `huggingFaceTokenizer` of `@mc/data/huggingface`.
 *
 * @param json the text of the file, or its parsed object
 * @throws ValueError for anything but a tokenizer.json as `trainBpe`'s tokenizers write it
 * @example
 * const tokenizer = await trainBpe(["low lower lowest"], { vocabSize: 260 });
 * const again = bpeTokenizer(JSON.stringify(tokenizer));
 * again.decode(again.encode("lowest")); // "lowest"
 */
export function bpeTokenizer(json: string | object): BpeTokenizer {
  return tokenizerOf(readTokenizerJson(json));
}

// Words are few and come again and again: their ids are remembered.
const CACHED_WORDS = 2 ** 16;

/** The tokenizer of merges. */
export function tokenizerOf({ end, merges }: BpeDefinition): BpeTokenizer {
  const vocabulary = new Vocabulary(end);
  const results = merges.map((merge) => vocabulary.join(merge));
  const vocabSize = vocabulary.tokens.length;
  const ranks = new Map(merges.map(([left, right], rank) => [left * vocabSize + right, rank]));
  const bytes = vocabulary.tokens.map((_, id) => vocabulary.bytesOf(id));
  const encoder = new TextEncoder();
  let cache = new Map<string, Int32Array>();

  function idsOfWord(word: string): Int32Array {
    const cached = cache.get(word);
    if (cached) return cached;
    const ids = mergeWord(Int32Array.from(encoder.encode(word), (byte) => BYTE_IDS[byte]!));
    if (cache.size >= CACHED_WORDS) cache = new Map();
    cache.set(word, ids);
    return ids;
  }

  // The earliest merge that fits anywhere comes next; where it fits at several places, the leftmost.
  function mergeWord(ids: Int32Array): Int32Array {
    const size = ids.length;
    const next = Int32Array.from({ length: size }, (_, i) => i + 1); // place of the token behind; `size` when there is none
    const previous = Int32Array.from({ length: size }, (_, i) => i - 1);
    const queue = new Heap<number>((a, b) => a < b); // rank * size + place
    const consider = (place: number): void => {
      const behind = next[place]!;
      if (behind >= size) return;
      const rank = ranks.get(ids[place]! * vocabSize + ids[behind]!);
      if (rank !== undefined) queue.push(rank * size + place);
    };
    for (let i = 0; i < size; i++) consider(i);
    let left = size;
    for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
      const place = entry % size;
      const rank = (entry - place) / size;
      const behind = next[place]!;
      // The tokens may have become parts of others since: ids of joined places are -1, which no merge has.
      if (behind >= size || ids[place] !== merges[rank]![0] || ids[behind] !== merges[rank]![1]) continue;
      ids[place] = results[rank]!;
      ids[behind] = -1;
      next[place] = next[behind]!;
      if (next[place]! < size) previous[next[place]!] = place;
      left -= 1;
      consider(place);
      if (previous[place]! >= 0) consider(previous[place]!);
    }
    return left === size ? ids : ids.filter((id) => id >= 0);
  }

  function encode(text: string, ...ending: number[]): Int32Array {
    checkWellFormed("bpeTokenizer", text);
    const marked = text.indexOf(end);
    if (marked >= 0) {
      throw new ValueError(
        `bpeTokenizer: the text must not have ${JSON.stringify(end)}, which marks document ends, got one at ${marked}`,
      );
    }
    const words = [...wordsOf(text)].map(idsOfWord);
    const ids = new Int32Array(words.reduce((total, word) => total + word.length, ending.length));
    let at = 0;
    for (const word of words) {
      ids.set(word, at);
      at += word.length;
    }
    ids.set(ending, at);
    return ids;
  }

  function bytesOf(id: number): Uint8Array {
    const token = bytes[id];
    if (!token) throw new ValueError(`bpeTokenizer: ids must be integers in [0, ${vocabSize}), got ${id}`);
    return token;
  }

  return {
    vocabSize,
    endOfDocument: END,
    merges,
    bytesOf: (id) => bytesOf(id).slice(),
    encode: (text) => encode(text),
    encodeDocument: (text) => encode(text, END),
    decode: (ids) => {
      const parts = Array.from(ids, bytesOf);
      const joined = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
      let at = 0;
      for (const part of parts) {
        joined.set(part, at);
        at += part.length;
      }
      return new TextDecoder("utf-8", { ignoreBOM: true }).decode(joined);
    },
    toJSON: () => writeTokenizerJson(merges, vocabulary),
  };
}
