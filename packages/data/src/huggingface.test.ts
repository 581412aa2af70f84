import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import bpe from "./bpe/fixtures/huggingFace.json";
import { trainBpe } from "./bpe/trainBpe.ts";
import others from "./fixtures/huggingFace.json";
import { huggingFaceTokenizer } from "./huggingface.ts";
import { hostRandom } from "./random.ts";

const { vocabSize, texts, encodings } = bpe;
const trained = await trainBpe(texts, { vocabSize });
const tokenizer = huggingFaceTokenizer(JSON.stringify(trained));

describe("huggingFaceTokenizer(json) of a tokenizer that trainBpe made", () => {
  test("gives the same ids and texts as the tokenizer itself, whatever the characters", () => {
    const random = hostRandom(6);
    const pieces = [
      ..."aä漢🙂 \n\t\r'\u0085\u00a0\ufeff\u2028\u200d\u0301½٣1!",
      "'ll",
      "  ",
      "low",
      "er",
      " tower",
      "漢字",
    ];
    const made = Array.from({ length: 200 }, () =>
      Array.from({ length: 1 + random.below(50) }, () => pieces[random.below(pieces.length)]).join(""),
    );
    for (const text of [...made, ...encodings.map(({ text }) => text)]) {
      const ids = [...trained.encode(text)];
      expect([...tokenizer.encode(text)]).toEqual(ids);
      expect([...tokenizer.encodeDocument(text)]).toEqual([...ids, 0]);
      expect(tokenizer.decode([...ids, 0])).toBe(text);
    }
  });

  test("has the same vocabulary and end of document", () => {
    expect(tokenizer.vocabSize).toBe(trained.vocabSize);
    expect(tokenizer.endOfDocument).toBe(trained.endOfDocument);
  });

  test("takes the parsed object too, and knows special tokens in a text", () => {
    const same = huggingFaceTokenizer(trained.toJSON());
    expect([...same.encode("a<|endoftext|>")]).toEqual([...trained.encode("a"), 0]);
  });
});

describe("huggingFaceTokenizer(json, { endOfDocument, config })", () => {
  test.each(others.tokenizers)(
    "reads $name as Hugging Face's own library does",
    ({ json, endOfDocument, encodings }) => {
      const { encode, decode } = huggingFaceTokenizer(json, { endOfDocument });
      expect(encodings.map(({ text }) => [...encode(text)])).toEqual(encodings.map(({ ids }) => ids));
      expect(encodings.map(({ ids }) => decode(ids))).toEqual(encodings.map(({ decoded }) => decoded));
    },
  );

  test("finds the document's end in the config, or asks for it", () => {
    const [{ json }] = others.tokenizers as [(typeof others.tokenizers)[0]];
    expect(() => huggingFaceTokenizer(json)).toThrow(
      'huggingFaceTokenizer: endOfDocument must be given, because the file does not tell which token ends a document; its special tokens are "<unk>", "<s>", "</s>"',
    );
    for (const eos_token of ["</s>", { content: "</s>" }]) {
      expect(huggingFaceTokenizer(json, { config: { eos_token } }).endOfDocument).toBe(2);
    }
    expect(huggingFaceTokenizer(json, { endOfDocument: "<s>", config: { eos_token: "</s>" } }).endOfDocument).toBe(1);
    expect(() => huggingFaceTokenizer(json, { endOfDocument: "<eos>" })).toThrow(
      'huggingFaceTokenizer: endOfDocument must be a token of the vocabulary, got "<eos>"',
    );
  });

  test("refuses what is not a tokenizer.json, and ids that there are not", () => {
    expect(() => huggingFaceTokenizer("{")).toThrow("huggingFaceTokenizer: the text must be JSON");
    expect(() => huggingFaceTokenizer("{}")).toThrow("the file must be a tokenizer.json, got one without a model");
    expect(() => huggingFaceTokenizer({ ...trained.toJSON(), decoder: { type: "Odd" } })).toThrow(
      "the file must be a tokenizer.json that is supported: Unknown Decoder type: Odd",
    );
    for (const id of [-1, 0.5, trained.vocabSize]) expect(() => tokenizer.decode([id])).toThrow(ValueError);
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode([0])).toBe("");
  });
});
