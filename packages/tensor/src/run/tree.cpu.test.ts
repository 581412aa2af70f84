import { expect, it } from "vitest";
import { treeFromPaths, treeLeaves, treeMap, treePaths } from "./tree.ts";

const tree = {
  layers: [
    { w: 1, b: 2 },
    { w: 3, b: 4 },
  ],
  head: 5,
};

it("treePaths(tree) names every leaf by keys and positions", () => {
  expect(treePaths<number>(tree)).toEqual([
    ["layers.0.w", 1],
    ["layers.0.b", 2],
    ["layers.1.w", 3],
    ["layers.1.b", 4],
    ["head", 5],
  ]);
  expect(treeLeaves<number>(tree)).toEqual([1, 2, 3, 4, 5]);
});

it("treeFromPaths(treePaths(tree)) is the tree", () => {
  expect(treeFromPaths(treePaths<number>(tree))).toEqual(tree);
});

it("treeFromPaths makes an array of the keys 0 to n - 1 only", () => {
  expect(
    treeFromPaths([
      ["a.0", 1],
      ["a.2", 2],
      ["b.1", 3],
      ["b.0", 4],
    ]),
  ).toEqual({ a: { 0: 1, 2: 2 }, b: [4, 3] });
});

it("treeMap(f, a, b) visits leaves together and names a missing one", () => {
  expect(treeMap<typeof tree, number, number>((a, b) => a + b!, tree, tree)).toEqual({
    layers: [
      { w: 2, b: 4 },
      { w: 6, b: 8 },
    ],
    head: 10,
  });
  expect(() => treeMap<unknown, number, number>((a) => a, tree, { layers: [] })).toThrow(/"layers.0" is missing/);
});

it("treeFromPaths refuses a path given twice or through a leaf", () => {
  expect(() =>
    treeFromPaths([
      ["a", 1],
      ["a", 2],
    ]),
  ).toThrow(/given twice/);
  expect(() =>
    treeFromPaths([
      ["a", 1],
      ["a.b", 2],
    ]),
  ).toThrow(/through a leaf/);
});
