import { describe, expect, test } from "vitest";
import { tokenizer } from "./corpus.ts";
import { printable, promptOf } from "./sample.ts";

describe("promptOf(document)", () => {
  const promptText = (text: string) => tokenizer.decode(promptOf(tokenizer.encodeDocument(text)));

  test("is the first whole words of a document", () => {
    expect(promptText("Once the center of power for the large Austro-Hungarian Empire")).toBe(
      "Once the center of power for the large",
    );
  });

  test("never ends in half a character", () => {
    for (const text of ["é".repeat(60), `a${"é".repeat(60)}`, "😀".repeat(60), `ab${"😀".repeat(60)}`]) {
      expect(promptText(text)).not.toContain("\uFFFD");
      expect(promptText(text).length).toBeGreaterThan(10);
    }
  });

  test("has at least one token, and no document's end", () => {
    expect(promptText("a")).toBe("a");
    expect(promptText("é")).toBe("é");
    expect(promptText("a b")).toBe("a");
  });
});

test("printable(text) keeps lines, and makes control characters visible", () => {
  expect(printable("a\n\tb\x1b[2J\r\0\x9b é")).toBe("a\n\tb\uFFFD[2J\uFFFD\uFFFD\uFFFD é");
});
