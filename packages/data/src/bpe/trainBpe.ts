// bpe/trainBpe.ts: learns a vocabulary: again and again, the most frequent pair of tokens becomes a token.
import { ValueError } from "@mc/tensor";
import { checkWellFormed } from "../tokenizer.ts";
import { type BpeTokenizer, tokenizerOf } from "./bpeTokenizer.ts";
import { wordsOf } from "./bytes.ts";
import { Heap } from "./heap.ts";
import { BASE_SIZE, BYTE_IDS, checkEnd, type Merge, Vocabulary } from "./vocabulary.ts";

/** Options of `trainBpe`. */
export interface TrainBpeOptions {
  /** Number of ids to reach, the end of a document and the 256 bytes included: at least 257. */
  vocabSize: number;
  /** Pairs that occur less often are not joined. Default 2. */
  minFrequency?: number;
  /** What the token that ends a document is called; texts must not have it. Default "<|endoftext|>". */
  endOfDocument?: string;
}

/**
 * Trains a byte-level BPE tokenizer, as GPT-2's: a text is cut into words, a word is its bytes, and merges join them.
 *
 * Starting from bytes, the pair of neighbours that occurs most often within words becomes a token, until there are `vocabSize` ids or no
 * pair occurs `minFrequency` times (then there are fewer). Of pairs that occur equally often, the one with the smaller left id comes
 * first, then the one with the smaller right id. The result is that of Hugging Face's trainer: id 0 ends a document, ids 1 to 256 are
 * the bytes, then come the merges in their order.
 *
 * Counts of pairs are kept up to date rather than counted anew, so the cost of a merge is that of the words it changes. What is held is
 * the different words and not the texts.
 *
 * @param texts in memory, or a stream such as `textDocuments(...)`
 * @throws ValueError for a vocabulary below 257, a frequency below 1, no text, or a text with half a surrogate pair or the token that
 *   ends documents
 * @example
 * const tokenizer = await trainBpe(["low lower lowest", "new newer newest"], { vocabSize: 264 });
 * tokenizer.encodeDocument("lower"); // a few ids, and 0
 * const file = JSON.stringify(tokenizer); // a tokenizer.json, for bpeTokenizer(file) and for Hugging Face's libraries
 *
 * @see R. Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, ACL 2016
 */
export async function trainBpe(
  texts: Iterable<string> | AsyncIterable<string>,
  { vocabSize, minFrequency = 2, endOfDocument = "<|endoftext|>" }: TrainBpeOptions,
): Promise<BpeTokenizer> {
  const op = "trainBpe";
  if (!Number.isInteger(vocabSize) || vocabSize < BASE_SIZE || vocabSize > 2 ** 24) {
    throw new ValueError(`${op}: vocabSize must be an integer in [${BASE_SIZE}, 2^24], got ${vocabSize}`);
  }
  if (!(minFrequency >= 1)) throw new ValueError(`${op}: minFrequency must be >= 1, got ${minFrequency}`);
  checkEnd(op, endOfDocument);

  const counts = new Map<string, number>();
  for await (const text of texts) {
    checkWellFormed(op, text);
    if (text.includes(endOfDocument)) {
      throw new ValueError(
        `${op}: texts must not have ${JSON.stringify(endOfDocument)}, which marks document ends, got one at ${text.indexOf(endOfDocument)}; ` +
          "cut them there, or name another endOfDocument",
      );
    }
    for (const word of wordsOf(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  if (counts.size === 0) throw new ValueError(`${op}: the texts must have a character, got none`);
  return tokenizerOf({ end: endOfDocument, merges: learn(counts, { vocabSize, minFrequency, endOfDocument }) });
}

function learn(
  wordCounts: ReadonlyMap<string, number>,
  { vocabSize, minFrequency, endOfDocument }: Required<TrainBpeOptions>,
): Merge[] {
  const vocabulary = new Vocabulary(endOfDocument);
  const encoder = new TextEncoder();
  const words = Array.from(wordCounts.keys(), (word) => Array.from(encoder.encode(word), (byte) => BYTE_IDS[byte]!));
  const frequencies = [...wordCounts.values()];

  // A pair is the number left * vocabSize + right, so that smaller numbers are the pairs that come first among equals.
  const pairs = new PairCounts(vocabSize);
  words.forEach((word, i) => {
    for (let at = 1; at < word.length; at++) pairs.add(word[at - 1]!, word[at]!, frequencies[i]!, i);
  });
  const queue = new Heap<Candidate>((a, b) => a.count > b.count || (a.count === b.count && a.pair < b.pair));
  const enqueue = (pair: number): void => {
    const count = pairs.counts.get(pair);
    if (count !== undefined) queue.push({ pair, count });
  };
  for (const pair of pairs.takeGrown()) enqueue(pair);

  const merges: Merge[] = [];
  while (vocabulary.tokens.length < vocabSize) {
    const top = queue.pop();
    if (!top || top.count < minFrequency) break;
    if (pairs.counts.get(top.pair) !== top.count) {
      enqueue(top.pair); // it has become rarer since it was queued
      continue;
    }
    const right = top.pair % vocabSize;
    const left = (top.pair - right) / vocabSize;
    merges.push([left, right]);
    const joined = vocabulary.join([left, right]);
    for (const i of pairs.takeWords(top.pair)) joinInWord(words[i]!, left, right, joined, pairs, frequencies[i]!, i);
    pairs.counts.delete(top.pair);
    for (const pair of pairs.takeGrown()) enqueue(pair);
  }
  return merges;
}

interface Candidate {
  pair: number;
  count: number;
}

/** How often each pair of neighbours occurs, and in which words. */
class PairCounts {
  readonly counts = new Map<number, number>();
  private readonly stride: number;
  private readonly words = new Map<number, number[]>();
  private grown = new Set<number>();

  constructor(stride: number) {
    this.stride = stride;
  }

  add(left: number, right: number, times: number, word: number): void {
    const pair = left * this.stride + right;
    this.counts.set(pair, (this.counts.get(pair) ?? 0) + times);
    this.grown.add(pair);
    const list = this.words.get(pair);
    if (!list) this.words.set(pair, [word]);
    else if (list.at(-1) !== word) list.push(word);
  }

  remove(left: number, right: number, times: number): void {
    const pair = left * this.stride + right;
    const count = (this.counts.get(pair) ?? 0) - times;
    if (count > 0) this.counts.set(pair, count);
    else this.counts.delete(pair);
  }

  /** The words that a pair may be in, which are forgotten. */
  takeWords(pair: number): readonly number[] {
    const words = this.words.get(pair) ?? [];
    this.words.delete(pair);
    return words;
  }

  /** The pairs that were added to since the last call. */
  takeGrown(): ReadonlySet<number> {
    const { grown } = this;
    this.grown = new Set();
    return grown;
  }
}

/** Joins each `left right` of a word, from left to right, in place, and counts the neighbours that come and go. */
function joinInWord(
  word: number[],
  left: number,
  right: number,
  joined: number,
  pairs: PairCounts,
  times: number,
  index: number,
): void {
  let size = 0; // of the new word, word[0, size)
  for (let at = 0; at < word.length; at++) {
    if (word[at] !== left || word[at + 1] !== right) {
      word[size++] = word[at]!;
      continue;
    }
    if (size > 0) {
      pairs.remove(word[size - 1]!, left, times);
      pairs.add(word[size - 1]!, joined, times, index);
    }
    const behind = word[at + 2];
    if (behind !== undefined) {
      pairs.remove(right, behind, times);
      pairs.add(joined, behind, times, index);
    }
    word[size++] = joined;
    at += 1;
  }
  word.length = size;
}
