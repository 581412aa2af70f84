import { describe, expect, test } from "vitest";
import { loadFactbook } from "./factbook.ts";

describe("loadFactbook()", () => {
  const documents = loadFactbook();

  test("has a document for each of the 260 profiles that have prose, 1.8 million characters in all", () => {
    expect(documents.length).toBe(260);
    const characters = documents.reduce((sum, document) => sum + document.length, 0);
    expect(characters).toBeGreaterThan(1.8e6);
    expect(characters).toBeLessThan(1.9e6);
  });

  test("leaves no tag, entity, list mark, control character or loose space", () => {
    for (const document of documents) {
      expect(document).not.toMatch(/<\/?[a-z][^>]*>|&[a-z]+;|&#\d+;|\+\+|[^\S\n]{2}|\n\n|^\s|\s$/i);
      expect(document).not.toMatch(/[\0-\t\v-\x1f]/);
    }
  });

  test("is the same each time, and countries stay apart", () => {
    expect(loadFactbook()).toEqual(documents);
    const austria = documents.filter((document) =>
      document.includes("Once the center of power for the large Austro-Hungarian"),
    );
    expect(austria.length).toBe(1);
    expect(austria[0]).not.toContain("Liechtenstein was established");
  });
});
