import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { hostRandom } from "../random.ts";
import { streamOf } from "../stream.ts";
import { wordsOf } from "./bytes.ts";
import huggingFace from "./fixtures/huggingFace.json";
import { trainBpe } from "./trainBpe.ts";

const { vocabSize, minFrequency, texts, merges, encodings } = huggingFace;

/** The definition, slow and plain: every pair counted anew for every merge. */
function mergesByDefinition(texts: readonly string[], size: number, minFrequency: number): [number, number][] {
  const words = texts.flatMap((text) =>
    [...wordsOf(text)].map((word) => [...new TextEncoder().encode(word)].map((byte) => [byte])),
  );
  const ids = new Map<string, number>(); // of tokens, as their bytes
  const idOf = (token: readonly number[]) => ids.get(token.join())!;
  const order = [...range(33, 126), ...range(161, 172), ...range(174, 255)];
  const bytes = [...order, ...range(0, 255).filter((byte) => !order.includes(byte))];
  for (const byte of bytes) ids.set(String(byte), 1 + ids.size);
  const merges: [number, number][] = [];
  while (1 + ids.size < size) {
    const counts = new Map<string, { left: number[]; right: number[]; count: number }>();
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        const [left, right] = [word[i - 1]!, word[i]!];
        const name = `${left.join()}|${right.join()}`;
        counts.set(name, { left, right, count: (counts.get(name)?.count ?? 0) + 1 });
      }
    }
    const [best] = [...counts.values()].sort(
      (a, b) => b.count - a.count || idOf(a.left) - idOf(b.left) || idOf(a.right) - idOf(b.right),
    );
    if (!best || best.count < minFrequency) break;
    merges.push([idOf(best.left), idOf(best.right)]);
    const joined = [...best.left, ...best.right];
    if (!ids.has(joined.join())) ids.set(joined.join(), 1 + ids.size);
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        if (word[i - 1]!.join() === best.left.join() && word[i]!.join() === best.right.join()) {
          word.splice(i - 1, 2, joined);
        }
      }
    }
  }
  return merges;
}

const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

describe("trainBpe(texts, { vocabSize, minFrequency })", () => {
  test("learns the merges of Hugging Face's trainer, in its order, and encodes as its tokenizer", async () => {
    const tokenizer = await trainBpe(texts, { vocabSize, minFrequency });
    expect(tokenizer.toJSON().model.merges).toEqual(merges);
    expect(encodings.map(({ text }) => [...tokenizer.encode(text)])).toEqual(encodings.map(({ ids }) => ids));
  });

  test("learns what its definition says, over random texts, with ties and runs of one letter", async () => {
    const random = hostRandom(3);
    const alphabets = [["a", "b", " "], ["a"], ["ab", "ba", "aab", " "], ["x", "y", "z", "1", "!", "\n"]];
    for (let run = 0; run < 24; run++) {
      const alphabet = alphabets[run % alphabets.length]!;
      const texts = range(0, random.below(4)).map(() =>
        range(0, random.below(60))
          .map(() => alphabet[random.below(alphabet.length)])
          .join(""),
      );
      const options = { vocabSize: 258 + random.below(20), minFrequency: 1 + (run % 2) };
      const tokenizer = await trainBpe(texts, options);
      expect(tokenizer.merges).toEqual(mergesByDefinition(texts, options.vocabSize, options.minFrequency));
    }
  });

  test("takes a stream as it takes a list, and gives the same tokenizer every time", async () => {
    const list = await trainBpe(texts, { vocabSize });
    const stream = await trainBpe(streamOf(texts), { vocabSize });
    expect(JSON.stringify(stream)).toBe(JSON.stringify(list));
  });

  test("ends before the size asked for when no pair is frequent enough", async () => {
    const tokenizer = await trainBpe(["abab abab"], { vocabSize: 1000 });
    expect(tokenizer.vocabSize).toBe(257 + tokenizer.merges.length);
    expect(tokenizer.vocabSize).toBeLessThan(262);
    expect((await trainBpe(["ab"], { vocabSize: 300 })).merges).toEqual([]);
    expect((await trainBpe(["ab"], { vocabSize: 300, minFrequency: 1 })).merges.length).toBe(1);
  });

  test("refuses sizes out of range, no text, and texts that it cannot give back", async () => {
    await expect(trainBpe(["a"], { vocabSize: 256 })).rejects.toThrow(
      "trainBpe: vocabSize must be an integer in [257, 2^24], got 256",
    );
    await expect(trainBpe(["a"], { vocabSize: 300, minFrequency: 0 })).rejects.toThrow(ValueError);
    await expect(trainBpe([], { vocabSize: 300 })).rejects.toThrow("the texts must have a character, got none");
    await expect(trainBpe(["a\uD800"], { vocabSize: 300 })).rejects.toThrow("got half a surrogate pair at 1");
    await expect(trainBpe(["one<|endoftext|>two"], { vocabSize: 300 })).rejects.toThrow("got one at 3");
    for (const endOfDocument of ["", "a", "<\u0120>"]) {
      await expect(trainBpe(["a"], { vocabSize: 300, endOfDocument })).rejects.toThrow(ValueError);
    }
  });

  test("learns 1000 tokens from a text of 1 MB within seconds", async () => {
    const random = hostRandom(1);
    const words = range(0, 9999).map(() =>
      range(0, 1 + random.below(8))
        .map(() => String.fromCharCode(97 + Math.min(random.below(26), random.below(26))))
        .join(""),
    );
    const text = range(0, 170_000)
      .map(() => words[Math.min(random.below(10_000), random.below(10_000), random.below(10_000))])
      .join(" ");
    expect(text.length).toBeGreaterThan(900_000);
    const start = performance.now();
    const tokenizer = await trainBpe([text], { vocabSize: 1000 });
    expect(tokenizer.vocabSize).toBe(1000);
    expect(performance.now() - start).toBeLessThan(10_000); // alone on a core it takes a fifth of a second
    expect(tokenizer.decode(tokenizer.encode(text)) === text).toBe(true);
  });
});
