import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { UsageError } from "../options.ts";
import { cutText, loadTextFile } from "./textFile.ts";

const folder = mkdtempSync(join(tmpdir(), "text-file-"));
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe("loadTextFile(path)", () => {
  test("gives the text of the file in pieces, with line ends as \\n", () => {
    const path = write("a.txt", "one\r\ntwo\rthree\n".repeat(500));
    expect(loadTextFile(path).join("")).toBe("one\ntwo\nthree\n".repeat(500));
  });

  test("refuses what is missing, a folder, empty, binary or not UTF-8, with the path and the reason", () => {
    const cases: [string, string][] = [
      [join(folder, "none.txt"), "there is no such file"],
      [folder, "it is a folder"],
      [write("empty.txt", ""), "got an empty file"],
      [write("blank.txt", " \n\n "), "got an empty file"],
      [write("binary", Uint8Array.of(97, 0, 98)), "got a binary file"],
      [write("latin1.txt", Uint8Array.of(110, 233, 10)), "must be text in UTF-8"],
    ];
    for (const [path, reason] of cases) {
      expect(() => loadTextFile(path)).toThrow(UsageError);
      expect(() => loadTextFile(path)).toThrow(reason);
      expect(() => loadTextFile(path)).toThrow(path);
    }
  });
});

describe("cutText(text)", () => {
  test("loses nothing, and gives about two hundred pieces of a long text", () => {
    const text = "A line of words.\nAnother one.\n\n".repeat(20_000);
    const pieces = cutText(text);
    expect(pieces.join("")).toBe(text);
    expect(pieces.length).toBeGreaterThan(150);
    expect(pieces.length).toBeLessThanOrEqual(200);
    expect(pieces.every((piece) => piece.endsWith("\n\n"))).toBe(true);
  });

  test("cuts at lines, at words, and anywhere but inside a character, as the text allows", () => {
    expect(cutText("line\n".repeat(1000)).every((piece) => piece.endsWith("\n"))).toBe(true);
    expect(cutText("word ".repeat(1000)).every((piece) => piece.endsWith(" "))).toBe(true);
    const pieces = cutText(`a${"😀".repeat(3000)}`);
    expect(pieces.length).toBeGreaterThan(1);
    expect(pieces.join("")).toBe(`a${"😀".repeat(3000)}`);
    for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u);
  });
});
