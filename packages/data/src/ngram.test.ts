import { ValueError } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { ngramBaseline } from "./ngram.ts";
import { packDocuments } from "./packing.ts";
import { hostRandom } from "./random.ts";

/** The same model, written from the formula over maps of strings. */
function reference(train: readonly Int32Array[], validation: readonly Int32Array[], order: number, vocabSize: number) {
  const after = new Map<string, number[]>();
  for (const document of train) {
    for (let at = 0; at < document.length; at++) {
      for (let size = 0; size <= Math.min(order, at); size++) {
        const h = document.slice(at - size, at).join();
        after.set(`${size}:${h}`, [...(after.get(`${size}:${h}`) ?? []), document[at]!]);
      }
    }
  }
  const p = (h: number[], x: number): number => {
    const shorter = h.length === 0 ? 1 / vocabSize : p(h.slice(1), x);
    const seen = after.get(`${h.length}:${h.join()}`) ?? [];
    if (seen.length === 0) return shorter;
    const kinds = new Set(seen).size;
    return (seen.filter((y) => y === x).length + kinds * shorter) / (seen.length + kinds);
  };
  const nats = validation.flatMap((document) =>
    [...document].slice(1).map((x, i) => -Math.log(p([...document.slice(Math.max(0, i + 1 - order), i + 1)], x))),
  );
  return nats.reduce((sum, n) => sum + n, 0) / nats.length;
}

const randomDocuments = (seed: number, vocabSize: number) => {
  const random = hostRandom(seed);
  return Array.from({ length: 4 }, () =>
    Int32Array.from({ length: 2 + random.below(60) }, () => random.below(vocabSize)),
  );
};

describe("ngramBaseline(train, validation, { order })", () => {
  test("is the Witten-Bell formula, for orders 0 to 3 on random documents", () => {
    for (let seed = 0; seed < 20; seed++) {
      const vocabSize = 2 + (seed % 4);
      const train = randomDocuments(seed, vocabSize);
      const validation = randomDocuments(seed + 100, vocabSize);
      for (let order = 0; order <= 3; order++) {
        const { loss } = ngramBaseline(train, validation, { order, vocabSize });
        expect(loss).toBeCloseTo(reference(train, validation, order, vocabSize), 12);
      }
    }
  });

  test("its probabilities sum to one over the vocabulary", () => {
    const train = randomDocuments(1, 4);
    for (const context of [
      [0, 1],
      [3, 3],
      [2, 0],
    ]) {
      let sum = 0;
      for (let x = 0; x < 4; x++) {
        // Both documents share all predictions but the last, so their difference is that prediction's.
        const longer = ngramBaseline(train, [Int32Array.of(...context, x)], { order: 2, vocabSize: 4 });
        const shorter = ngramBaseline(train, [Int32Array.of(...context)], { order: 2, vocabSize: 4 });
        sum += Math.exp(shorter.loss * shorter.tokens - longer.loss * longer.tokens);
      }
      expect(sum).toBeCloseTo(1, 12);
    }
  });

  test("without training documents every token costs log(vocabSize)", () => {
    expect(ngramBaseline([], [Int32Array.of(1, 2, 3)], { order: 2 }).loss).toBeCloseTo(Math.log(256), 12);
  });

  test("predicts as many tokens as packed sequences have labels", () => {
    const documents = randomDocuments(3, 10);
    const { tokens } = ngramBaseline(documents, documents, { order: 1 });
    expect(tokens).toBe(packDocuments(documents, { length: 7 }).labelCount);
  });

  test("refuses bad orders, ids and empty validation", () => {
    const one = [Int32Array.of(1, 2)];
    expect(() => ngramBaseline(one, one, { order: -1 })).toThrow(ValueError);
    expect(() => ngramBaseline(one, one, { order: 3 })).toThrow("got 256^4; use a smaller order");
    expect(() => ngramBaseline(one, one, { order: 1, vocabSize: 0 })).toThrow(ValueError);
    expect(() => ngramBaseline(one, one, { order: 1, vocabSize: 2 })).toThrow("ids must be in [0, 2), got 2");
    expect(() => ngramBaseline(one, [Int32Array.of(1)], { order: 1 })).toThrow("got none");
  });
});
