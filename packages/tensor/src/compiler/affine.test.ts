import { describe, expect, it } from "vitest";
import {
  addIndex,
  constantIndex,
  divideIndex,
  type Index,
  indexKey,
  indexRange,
  linearIndex,
  moduloIndex,
  reshapeCoordinates,
  scaleIndex,
  unravelIndex,
  variableIndex,
} from "./affine.ts";

/** The index at a point, by definition. */
function evaluate(index: Index, point: readonly number[]): number {
  return index.terms.reduce((sum, { atom, coefficient }) => {
    const value =
      atom.kind === "variable"
        ? point[atom.variable]!
        : atom.kind === "div"
          ? Math.floor(evaluate(atom.of, point) / atom.by)
          : atom.kind === "mod"
            ? evaluate(atom.of, point) % atom.by
            : Number.NaN;
    return sum + coefficient * value;
  }, index.constant);
}

function* points(shape: readonly number[]): Generator<number[]> {
  const total = shape.reduce((p, d) => p * d, 1);
  for (let i = 0; i < total; i++) {
    let rest = i;
    const point: number[] = [];
    for (const d of [...shape].reverse()) {
      point.unshift(rest % d);
      rest = Math.floor(rest / d);
    }
    yield point;
  }
}

const shape = [3, 4, 6];
const vars = shape.map((d, i) => variableIndex(i, d));

describe("index arithmetic", () => {
  it("gives the same numbers as integer arithmetic, for sums, divisions and remainders nested at random", () => {
    let seed = 7;
    const random = (n: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return Math.floor((seed / 2 ** 32) * n);
    };
    for (let round = 0; round < 300; round++) {
      let index: Index = constantIndex(random(5));
      let exact = (_: readonly number[]): number => index.constant;
      const start = index.constant;
      exact = () => start;
      for (let step = 0; step < 5; step++) {
        const before = exact;
        const by = 1 + random(6);
        const v = random(3);
        switch (random(5)) {
          case 0:
            index = addIndex(index, scaleIndex(vars[v]!, by));
            exact = (p) => before(p) + by * p[v]!;
            break;
          case 4: // a flipped axis
            index = addIndex(index, addIndex(constantIndex(by * (shape[v]! - 1)), scaleIndex(vars[v]!, -by)));
            exact = (p) => before(p) + by * (shape[v]! - 1 - p[v]!);
            break;
          case 1:
            index = divideIndex(index, by);
            exact = (p) => Math.floor(before(p) / by);
            break;
          case 2:
            index = moduloIndex(index, by);
            exact = (p) => before(p) % by;
            break;
          default:
            index = scaleIndex(index, by);
            exact = (p) => before(p) * by;
        }
      }
      const [low, high] = indexRange(index);
      const wrong = [...points(shape)].filter((point) => {
        const value = evaluate(index, point);
        return value !== exact(point) || value < low || value > high;
      });
      expect(wrong).toEqual([]);
    }
  });

  it("splits and joins dimensions without a division where they match", () => {
    const linear = linearIndex(vars, shape);
    expect(unravelIndex(linear, shape).map(indexKey)).toEqual(vars.map(indexKey));
    const joined = reshapeCoordinates(vars, shape, [12, 6]);
    expect(indexKey(linearIndex(joined, [12, 6]))).toBe(indexKey(linear));
    expect(joined.every((i) => i.terms.every((t) => t.atom.kind === "variable"))).toBe(true);
  });

  it("knows that d * floor(x / d) + x mod d is x", () => {
    const x = linearIndex(vars, shape);
    const back = addIndex(scaleIndex(divideIndex(x, 5), 5), moduloIndex(x, 5));
    expect(indexKey(back)).toBe(indexKey(x));
  });

  it("finds the linear index again after any reshape and back", () => {
    for (const other of [[72], [2, 36], [9, 8], [8, 9], [5 - 4, 72], [6, 4, 3]]) {
      const there = reshapeCoordinates(vars, shape, other);
      for (const point of points(shape))
        expect(evaluate(linearIndex(there, other), point)).toBe(evaluate(linearIndex(vars, shape), point));
    }
  });
});
