import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { hostRandom } from "../random.ts";
import { type BpeTokenizer, bpeTokenizer } from "./bpeTokenizer.ts";
import huggingFace from "./fixtures/huggingFace.json";
import { trainBpe } from "./trainBpe.ts";

const { vocabSize, minFrequency, texts, encodings } = huggingFace;
const tokenizer = await trainBpe(texts, { vocabSize, minFrequency });

/** The definition: the earliest merge that fits is done at every place, from left to right, until none fits. */
function encodeWordByDefinition({ merges, bytesOf, vocabSize }: BpeTokenizer, word: string): number[] {
  const byBytes = new Map(Array.from({ length: vocabSize }, (_, id) => [bytesOf(id).join(), id]));
  let ids = [...new TextEncoder().encode(word)].map((byte) => byBytes.get(String(byte))!);
  for (;;) {
    const fits = ([left, right]: readonly [number, number]) => ids.some((id, i) => id === left && ids[i + 1] === right);
    const merge = merges.find(fits);
    if (!merge) return ids;
    const joined = byBytes.get([...bytesOf(merge[0]), ...bytesOf(merge[1])].join())!;
    const next: number[] = [];
    for (let i = 0; i < ids.length; i++) {
      if (ids[i] === merge[0] && ids[i + 1] === merge[1]) {
        next.push(joined);
        i += 1;
      } else next.push(ids[i]!);
    }
    ids = next;
  }
}

describe("a tokenizer of trainBpe", () => {
  test("gives every text back, whatever its characters", () => {
    const random = hostRandom(2);
    const ranges = [
      [0, 0x7f],
      [0x80, 0x7ff],
      [0x800, 0xd7ff],
      [0xe000, 0xffff],
      [0x10000, 0x10ffff],
    ] as const;
    for (let run = 0; run < 200; run++) {
      const text = String.fromCodePoint(
        ...Array.from({ length: random.below(60) }, () => {
          const [low, high] = ranges[random.below(ranges.length)]!;
          return low + random.below(high - low + 1);
        }),
      );
      const ids = tokenizer.encode(text);
      expect(tokenizer.decode(ids)).toBe(text);
      expect(ids.every((id) => id > 0 && id < tokenizer.vocabSize)).toBe(true);
    }
  });

  test("joins by the definition, in long words too", () => {
    const random = hostRandom(4);
    for (let run = 0; run < 60; run++) {
      const word = Array.from({ length: 1 + random.below(40) }, () => "aabtowerls"[random.below(10)]).join("");
      expect([...tokenizer.encode(word)]).toEqual(encodeWordByDefinition(tokenizer, word));
    }
    const run = "a".repeat(100_003);
    expect(tokenizer.decode(tokenizer.encode(run)) === run).toBe(true);
  });

  test("ends documents with id 0, which decode leaves out", () => {
    const ids = tokenizer.encodeDocument("lower");
    expect([...ids]).toEqual([...tokenizer.encode("lower"), 0]);
    expect(tokenizer.endOfDocument).toBe(0);
    expect(tokenizer.decode([...ids, ...tokenizer.encodeDocument("!")])).toBe("lower!");
    expect([...tokenizer.encodeDocument("")]).toEqual([0]);
    expect(tokenizer.decode([])).toBe("");
    expect([...tokenizer.bytesOf(0)]).toEqual([]);
  });

  test("decodes half a character to U+FFFD", () => {
    const [first] = tokenizer.encode("\u00e9");
    expect(tokenizer.decode([first!])).toBe("\uFFFD");
  });

  test("refuses the text that marks ends, half a surrogate pair, and ids that there are not", () => {
    expect(() => tokenizer.encode("ab<|endoftext|>")).toThrow(
      'bpeTokenizer: the text must not have "<|endoftext|>", which marks document ends, got one at 2',
    );
    expect(() => tokenizer.encodeDocument("\uDC00")).toThrow("got half a surrogate pair at 0");
    for (const id of [-1, 0.5, tokenizer.vocabSize, Number.NaN]) {
      expect(() => tokenizer.decode([id])).toThrow(`bpeTokenizer: ids must be integers in [0, ${tokenizer.vocabSize})`);
    }
  });
});

describe("bpeTokenizer(json)", () => {
  test("reads back what JSON.stringify(tokenizer) wrote, from text and from an object", () => {
    const file = JSON.stringify(tokenizer);
    for (const again of [bpeTokenizer(file), bpeTokenizer(JSON.parse(file))]) {
      expect(JSON.stringify(again)).toBe(file);
      expect(encodings.map(({ text }) => [...again.encode(text)])).toEqual(encodings.map(({ ids }) => ids));
    }
  });

  test("takes merges as pairs too, as newer files of other libraries have them", () => {
    const json = tokenizer.toJSON();
    const merges = json.model.merges.map((merge) => merge.split(" "));
    const again = bpeTokenizer({ ...json, model: { ...json.model, merges } });
    expect(again.merges).toEqual(tokenizer.merges);
  });

  test("keeps another name of the document's end", async () => {
    const named = await trainBpe(texts, { vocabSize: 260, endOfDocument: "</s>" });
    const again = bpeTokenizer(JSON.stringify(named));
    expect(() => again.encode("</s>")).toThrow(ValueError);
    expect(again.toJSON().added_tokens[0]!.content).toBe("</s>");
  });

  test("refuses every other file and says why", () => {
    const json = tokenizer.toJSON();
    const refused: [unknown, string][] = [
      ["{", "the text must be JSON"],
      ["null", "other special tokens than one at id 0"],
      [{ ...json, added_tokens: [] }, "other special tokens than one at id 0"],
      [{ ...json, model: { ...json.model, type: "WordPiece" } }, 'a model of type "WordPiece"'],
      [{ ...json, pre_tokenizer: { type: "ByteLevel" } }, "another way to cut a text into words"],
      [{ ...json, normalizer: { type: "NFC" } }, "another way to cut a text into words"],
      [{ ...json, model: { ...json.model, merges: null } }, "a model without vocab and merges"],
      [
        { ...json, model: { ...json.model, merges: ["qq qq"] } },
        'the merge "qq qq" of tokens that are not made before',
      ],
      [{ ...json, model: { ...json.model, merges: json.model.merges.slice(1) } }, "got"],
      [{ ...json, model: { ...json.model, vocab: { ...json.model.vocab, a: 7 } } }, "ids in another order"],
    ];
    for (const [file, message] of refused) {
      expect(() => bpeTokenizer(file as object)).toThrow(ValueError);
      expect(() => bpeTokenizer(file as object)).toThrow(message);
    }
    expect(() => bpeTokenizer({})).toThrow("use huggingFaceTokenizer of @mc/data/huggingface");
  });
});
