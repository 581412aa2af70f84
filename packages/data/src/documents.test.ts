import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { splitDocuments } from "./documents.ts";

const documents = (n: number) => Array.from({ length: n }, (_, i) => i);

describe("splitDocuments(documents)", () => {
  test("puts every document on exactly one side, in the given order, for 2 to 60 documents and several fractions", () => {
    for (let n = 2; n <= 60; n++) {
      for (const validationFraction of [0.01, 0.1, 0.5, 0.99]) {
        const { train, validation } = splitDocuments(documents(n), { validationFraction, seed: n });
        expect([...train, ...validation].sort((a, b) => a - b)).toEqual(documents(n));
        expect(train).toEqual([...train].sort((a, b) => a - b));
        expect(validation).toEqual([...validation].sort((a, b) => a - b));
        expect(validation.length).toBe(Math.min(Math.max(Math.round(validationFraction * n), 1), n - 1));
      }
    }
  });

  test("depends on the seed alone", () => {
    expect(splitDocuments(documents(100), { seed: 5 })).toEqual(splitDocuments(documents(100), { seed: 5 }));
    expect(splitDocuments(documents(100), { seed: 5 })).not.toEqual(splitDocuments(documents(100), { seed: 6 }));
  });

  test("refuses fewer than two documents and fractions out of (0, 1)", () => {
    expect(() => splitDocuments(["a"])).toThrow("splitDocuments: at least two documents are required, got 1");
    for (const validationFraction of [0, 1, -1, Number.NaN]) {
      expect(() => splitDocuments(["a", "b"], { validationFraction })).toThrow(ValueError);
    }
  });
});
