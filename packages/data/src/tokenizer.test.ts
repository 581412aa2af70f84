import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { hostRandom } from "./random.ts";
import { byteTokenizer } from "./tokenizer.ts";

const { decode, encode, encodeDocument, endOfDocument, vocabSize } = byteTokenizer();

describe("byteTokenizer()", () => {
  test("decode(encode(text)) is the text, for texts of random characters of every length in UTF-8", () => {
    const random = hostRandom(1);
    const ranges = [
      [1, 0x7f],
      [0x80, 0x7ff],
      [0x800, 0xd7ff],
      [0xe000, 0xffff],
      [0x10000, 0x10ffff],
    ] as const;
    for (let run = 0; run < 300; run++) {
      const codes = Array.from({ length: random.below(40) }, () => {
        const [low, high] = ranges[random.below(ranges.length)]!;
        return low + random.below(high - low + 1);
      });
      const text = String.fromCodePoint(...codes);
      const ids = encode(text);
      expect(decode(ids)).toBe(text);
      expect(ids.every((id) => id > 0 && id < vocabSize)).toBe(true);
    }
  });

  test("encode gives the bytes of UTF-8, and a byte order mark is a character like any other", () => {
    expect([...encode("né")]).toEqual([110, 195, 169]);
    expect(decode(encode("\uFEFFa"))).toBe("\uFEFFa");
  });

  test("encodeDocument ends with the end of the document, which decode leaves out", () => {
    expect([...encodeDocument("ab")]).toEqual([97, 98, endOfDocument]);
    expect([...encodeDocument("")]).toEqual([endOfDocument]);
    expect(decode([...encodeDocument("ab"), ...encodeDocument("c")])).toBe("abc");
  });

  test("decode turns half a character into U+FFFD", () => {
    expect(decode([97, 195])).toBe("a\uFFFD");
  });

  test("encode refuses NUL and half a surrogate pair, and says where", () => {
    expect(() => encode("ab\0")).toThrow(ValueError);
    expect(() => encode("ab\0")).toThrow("got one at 2");
    expect(() => encodeDocument("a\uD800b")).toThrow("got half a surrogate pair at 1");
  });

  test.each([-1, 256, 1.5, Number.NaN])("decode refuses the id %s", (id) => {
    expect(() => decode([id])).toThrow("byteTokenizer: ids must be integers in [0, 256)");
  });
});
