// Every function that @mc/tensor exports is either an op with rows in the tables or listed here with the reason why not.
import * as api from "@mc/tensor";
import { expect, test } from "vitest";
import { creationOps } from "./creation.ts";
import { elementwiseOps } from "./elementwise.ts";
import { indexingOps } from "./indexing.ts";
import { matrixOps } from "./matrices.ts";
import { reductionOps } from "./reductions.ts";
import type { OpTable } from "./table.ts";
import { viewOps } from "./views.ts";

const tables: OpTable[] = [elementwiseOps, reductionOps, viewOps, matrixOps, indexingOps, creationOps];

/** Exports that are no ops, by what they are. */
const others: Record<string, readonly string[]> = {
  "classes and errors": [
    "Tensor",
    "McError",
    "ShapeError",
    "DTypeError",
    "ValueError",
    "DeviceError",
    "SafetensorsError",
  ],
  "devices and running": ["connect", "setDefaultDevice", "realise", "realiseEagerly", "compile"],
  "what gradients keep: its tests are those of @mc/autograd": ["checkpoint"],
  "looking at plans": ["explain", "profile", "measureRoofline"],
  "parameter trees": ["treeMap", "treeMapWithPath", "treeLeaves", "treePaths", "treeFromPaths"],
  files: ["readSafetensors", "writeSafetensors", "loadSafetensors", "saveSafetensors"],
  "makers of ops": ["defineFused", "elementwise"],
  "a key from a number: no input, the same on every device by construction": ["key"],
};

test("every public op of @mc/tensor has a row in the tables of ops", () => {
  const covered = new Set([...tables.flatMap((table) => Object.keys(table)), ...Object.values(others).flat()]);
  const functions = Object.entries(api).flatMap(([name, value]) => (typeof value === "function" ? [name] : []));
  expect(functions.filter((name) => !covered.has(name))).toEqual([]);
});

test("the tables name only ops that exist", () => {
  const exported = new Set(Object.keys(api));
  expect(tables.flatMap((table) => Object.keys(table)).filter((name) => !exported.has(name))).toEqual([]);
});
