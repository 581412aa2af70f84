// bpe/bytes.ts: GPT-2's way to write bytes as printable characters, and to cut a text into words.

/**
 * The character that stands for each byte in a vocabulary. Printable bytes of Latin-1 stand for themselves; the others, in order, are
 * U+0100 and up: a space is "Ġ", a line feed "Ċ".
 *
 * @see A. Radford et al., GPT-2: https://github.com/openai/gpt-2/blob/master/src/encoder.py
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : 0x100 + others++));
})();

/** The bytes in the order of their characters: the first 256 tokens of a vocabulary. */
export const BYTE_ORDER: readonly number[] = Array.from({ length: 256 }, (_, byte) => byte).sort((a, b) =>
  BYTE_CHARACTERS[a]! < BYTE_CHARACTERS[b]! ? -1 : 1,
);

/**
 * GPT-2's words, as tokenizer.json has them: contractions, letters, digits and other signs, each with the space before it, and
 * white space, of which the last one goes with a word that follows.
 */
export const WORD_PATTERN = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

// JavaScript's \s has U+FEFF and lacks U+0085; other languages take \s for the Unicode property.
const pattern = WORD_PATTERN.replaceAll(String.raw`\s`, String.raw`\p{White_Space}`).replaceAll(
  String.raw`\S`,
  String.raw`\P{White_Space}`,
);

/** The words of a text, which together are the text. */
export function* wordsOf(text: string): Generator<string, void, undefined> {
  for (const [word] of text.matchAll(new RegExp(pattern, "gu"))) yield word;
}
